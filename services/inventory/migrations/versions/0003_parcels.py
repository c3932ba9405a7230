"""a reservation for each parcel, which lasts until it is released or shipped"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

PROMISED = sa.text("status = 'RESERVED'")
ENDS = sa.text("expires_at is not null")


def upgrade() -> None:
    op.drop_index("ix_reservations_unpaid", table_name="reservations", postgresql_where=ENDS)
    op.drop_index("ix_reservations_expires_at", table_name="reservations", postgresql_where=ENDS)
    op.execute("update reservations set status = 'RESERVED' where status = 'HELD'")
    op.execute("update reservations set status = 'RELEASED' where status = 'EXPIRED'")  # its stock was given back
    op.drop_column("reservations", "expires_at")
    first = sa.text("1")  # only for the rows that are there
    op.add_column("reservations", sa.Column("parcel", sa.Integer(), nullable=False, server_default=first))
    op.alter_column("reservations", "parcel", server_default=None)
    op.drop_constraint("pk_reservations", "reservations")
    op.create_primary_key("pk_reservations", "reservations", ["order_id", "parcel"])
    op.create_index("ix_reservations_promised", "reservations", ["customer_id"], postgresql_where=PROMISED)


def downgrade() -> None:
    """Fails, and changes nothing, if an order has a second parcel."""
    op.drop_index("ix_reservations_promised", table_name="reservations", postgresql_where=PROMISED)
    op.drop_constraint("pk_reservations", "reservations")
    op.create_primary_key("pk_reservations", "reservations", ["order_id"])
    op.drop_column("reservations", "parcel")
    op.add_column("reservations", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("update reservations set status = 'HELD' where status = 'RESERVED'")
    op.execute("update reservations set status = 'SHIPPED' where status = 'RESTOCKED'")
    op.create_index("ix_reservations_expires_at", "reservations", ["expires_at"], postgresql_where=ENDS)
    op.create_index("ix_reservations_unpaid", "reservations", ["customer_id"], postgresql_where=ENDS)
