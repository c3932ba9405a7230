"""returns and cancelled parts"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("less", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False))
    op.add_column("sales_by_day", sa.Column("returned", sa.Integer(), server_default="0", nullable=False))
    op.add_column("sales_by_day", sa.Column("returned_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("products_by_day", sa.Column("returned", sa.Integer(), server_default="0", nullable=False))
    op.create_table(
        "returns",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("customer_id", sa.Uuid(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("refunded_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reasons", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("order_id", "number", name=op.f("pk_returns")),
    )
    op.create_table(
        "returns_by_day",
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("returns", sa.Integer(), nullable=False),
        sa.Column("units", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("currency", "day", "kind", "reason", name=op.f("pk_returns_by_day")),
    )


def downgrade() -> None:
    op.drop_table("returns_by_day")
    op.drop_table("returns")
    op.drop_column("products_by_day", "returned")
    op.drop_column("sales_by_day", "returned_minor")
    op.drop_column("sales_by_day", "returned")
    op.drop_column("orders", "less")
