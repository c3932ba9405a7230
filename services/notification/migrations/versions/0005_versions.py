"""versions of what is changed"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("notifications", sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
    op.alter_column("templates", "version", server_default="1")


def downgrade() -> None:
    op.alter_column("templates", "version", server_default=None)
    op.drop_column("notifications", "version")
