"""orders that were amended"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("amendments", "amended_lines"):
        op.add_column("orders", sa.Column(name, postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False))


def downgrade() -> None:
    for name in ("amended_lines", "amendments"):
        op.drop_column("orders", name)
