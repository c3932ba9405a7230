"""how fast a parcel travels"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("shipments", sa.Column("service", sa.String(40), nullable=False, server_default="standard"))


def downgrade() -> None:
    op.drop_column("shipments", "service")
