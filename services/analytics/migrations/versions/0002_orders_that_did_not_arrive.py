"""orders that did not arrive"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("refunded_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("sales_by_day", sa.Column("undelivered", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("sales_by_day", "undelivered")
    op.drop_column("orders", "refunded_at")
