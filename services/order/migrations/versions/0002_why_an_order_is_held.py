"""why an order is held"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("review_reason", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("orders", "review_reason")
