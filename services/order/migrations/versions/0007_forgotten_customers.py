"""forgotten customers"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("customer_keys", sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_customer_keys_to_forget",
        "customer_keys",
        ["customer_id"],
        unique=False,
        postgresql_where=sa.text("forget_requested_at is not null and forgotten_at is null"),
    )


def downgrade() -> None:
    op.drop_index("ix_customer_keys_to_forget", table_name="customer_keys")
    op.drop_column("customer_keys", "forgotten_at")
    op.drop_column("orders", "forgotten_at")
