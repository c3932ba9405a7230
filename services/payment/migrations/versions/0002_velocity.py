"""velocity: whose payments are counted together"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("payments", sa.Column("card_fingerprint", sa.String(length=64), nullable=True))
    op.add_column("payments", sa.Column("address_fingerprint", sa.String(length=64), nullable=True))
    none = sa.text("'[]'::jsonb")  # only for the rows that are there
    op.add_column("payments", sa.Column("review", postgresql.JSONB(astext_type=sa.Text()), nullable=False, server_default=none))
    op.alter_column("payments", "review", server_default=None)
    op.create_index("ix_payments_customer_recent", "payments", ["customer_id", "created_at"])
    op.create_index("ix_payments_card_recent", "payments", ["card_fingerprint", "created_at"])
    op.create_index("ix_payments_address_recent", "payments", ["address_fingerprint", "created_at"])


def downgrade() -> None:
    for index in ("address", "card", "customer"):
        op.drop_index(f"ix_payments_{index}_recent", table_name="payments")
    for column in ("review", "address_fingerprint", "card_fingerprint"):
        op.drop_column("payments", column)
