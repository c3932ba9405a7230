"""what was accepted, and how it came out"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("placement", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("orders", sa.Column("cancel_wish", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("orders", sa.Column("hand_over_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("orders", sa.Column("outcome", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("orders", sa.Column("trouble", sa.String(length=40), nullable=True))
    op.create_index("ix_orders_hand_over", "orders", ["hand_over_at"], postgresql_where=sa.text("hand_over_at is not null"))
    op.drop_column("orders", "workflow_run_id")


def downgrade() -> None:
    op.add_column("orders", sa.Column("workflow_run_id", sa.String(length=100), nullable=False, server_default=""))
    op.drop_index("ix_orders_hand_over", table_name="orders")
    for name in ("trouble", "outcome", "hand_over_at", "cancel_wish", "placement"):
        op.drop_column("orders", name)
