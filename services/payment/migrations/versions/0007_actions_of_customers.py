"""what a customer has to do before the money is there, and payments found by the provider's name for them"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("payments", sa.Column("action", JSONB(), nullable=True))
    op.create_index("ix_payments_provider_id", "payments", ["provider_id"])


def downgrade() -> None:
    op.drop_index("ix_payments_provider_id", table_name="payments")
    op.drop_column("payments", "action")
