"""returns, and the orders that they bring"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("returned_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("orders", sa.Column("replaces", postgresql.JSONB(none_as_null=True), nullable=True))
    op.create_table(
        "returns",
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("customer_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("resolution", sa.String(length=40), nullable=False),
        sa.Column("send_back", sa.String(length=40), nullable=False),
        sa.Column("lines", postgresql.JSONB(), nullable=False),
        sa.Column("exchange_for", postgresql.JSONB(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("run", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("hand_over_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("history", postgresql.JSONB(), nullable=False),
        sa.Column("warehouse_id", sa.String(length=40), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("estimate", postgresql.JSONB(), nullable=False),
        sa.Column("needs_approval", sa.Boolean(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tracking_number", sa.String(length=100), nullable=True),
        sa.Column("came", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("settlement", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("refunded_minor", sa.BigInteger(), nullable=False),
        sa.Column("replacement_id", sa.Uuid(), nullable=True),
        sa.Column("code", sa.String(length=60), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reminded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("order_id", "number", name=op.f("pk_returns")),
    )
    op.create_index("ix_returns_customer", "returns", ["customer_id", "requested_at", "order_id", "number"])
    op.create_index("ix_returns_requested", "returns", ["requested_at", "order_id", "number"])
    op.create_index("ix_returns_status", "returns", ["status", "requested_at", "order_id", "number"])
    op.create_index("ix_returns_warehouse", "returns", ["warehouse_id", "requested_at", "order_id", "number"])
    op.create_index("ix_returns_hand_over", "returns", ["hand_over_at"], postgresql_where=sa.text("hand_over_at is not null"))


def downgrade() -> None:
    op.drop_table("returns")
    op.drop_column("orders", "replaces")
    op.drop_column("orders", "returned_minor")
