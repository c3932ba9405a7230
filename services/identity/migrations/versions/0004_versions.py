"""versions as everywhere"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("users", "version", server_default="1")


def downgrade() -> None:
    op.alter_column("users", "version", server_default=None)
