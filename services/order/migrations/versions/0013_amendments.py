"""amendments, and the terms that an order's discount codes had"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("amended", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("redemptions", sa.Column("terms", postgresql.JSONB(none_as_null=True), nullable=True))
    op.create_table(
        "amendments",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("terms", postgresql.JSONB(), nullable=False),
        sa.Column("before", postgresql.JSONB(), nullable=False),
        sa.Column("first_new_line_id", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(length=60), nullable=True),
        sa.Column("detail", sa.String(), nullable=True),
        sa.Column("charged_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("given_back_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("closed_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("order_id", "number", name=op.f("pk_amendments")),
    )
    op.create_index("ix_amendments_key", "amendments", ["order_id", "key_hash"], unique=True)


def downgrade() -> None:
    op.drop_column("orders", "amended")
    op.drop_table("amendments")
    op.drop_column("redemptions", "terms")
