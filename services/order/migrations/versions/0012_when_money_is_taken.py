"""when the money of an order is taken"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("capture_at", sa.String(length=20), nullable=True))


def downgrade() -> None:
    op.drop_column("orders", "capture_at")
