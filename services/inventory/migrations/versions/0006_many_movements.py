"""a ledger may have more than two thousand million movements, and a page may begin after any of them"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("stock_movements", "movement_id", type_=sa.BigInteger())
    op.execute("alter sequence stock_movements_movement_id_seq as bigint")


def downgrade() -> None:
    """Fails, and changes nothing, if a number is too large."""
    op.execute("alter sequence stock_movements_movement_id_seq as integer")
    op.alter_column("stock_movements", "movement_id", type_=sa.Integer())
