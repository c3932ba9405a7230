"""money in one type, and the version that every aggregate begins with"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("shipments", "carrier_cost_minor", type_=sa.BigInteger())
    op.alter_column("shipments", "version", server_default="1")


def downgrade() -> None:
    """Fails, and changes nothing, if a cost is larger than the old type holds."""
    op.alter_column("shipments", "version", server_default=None)
    op.alter_column("shipments", "carrier_cost_minor", type_=sa.Integer())
