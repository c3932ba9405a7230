"""unpaid units per customer"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("reservations", sa.Column("customer_id", sa.Uuid(), nullable=True))
    op.create_index("ix_reservations_unpaid", "reservations", ["customer_id"], postgresql_where=sa.text("expires_at is not null"))


def downgrade() -> None:
    op.drop_index("ix_reservations_unpaid", table_name="reservations", postgresql_where=sa.text("expires_at is not null"))
    op.drop_column("reservations", "customer_id")
