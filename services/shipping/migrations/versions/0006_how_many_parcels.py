"""how many parcels an order is sent in"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("shipments", sa.Column("parcels", sa.Integer(), nullable=False, server_default="1"))


def downgrade() -> None:
    op.drop_column("shipments", "parcels")
