"""keys of customers"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "customer_keys",
        sa.Column("customer_id", sa.Uuid(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=True),
        sa.Column("master_key_id", sa.String(length=100), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("forget_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("destroyed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(wrapped is null) = (destroyed_at is not null)", name=op.f("ck_customer_keys_there_until_destroyed")),
        sa.CheckConstraint("(wrapped is null) = (master_key_id is null)", name=op.f("ck_customer_keys_wrapped_by_a_master_key")),
        sa.PrimaryKeyConstraint("customer_id", name=op.f("pk_customer_keys")),
    )


def downgrade() -> None:
    op.drop_table("customer_keys")
