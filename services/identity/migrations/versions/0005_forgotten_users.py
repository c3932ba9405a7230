"""forgotten users"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(op.f("ix_security_log_account"), "security_log", ["account"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_security_log_account"), table_name="security_log")
    op.drop_column("users", "forgotten_at")
