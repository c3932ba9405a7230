"""several parcels of an order, and parcels that are lost or come back"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("shipments", sa.Column("reported_at", sa.DateTime(timezone=True), nullable=True))
    first = sa.text("1")  # only for the rows that are there
    op.add_column("shipments", sa.Column("parcel", sa.Integer(), nullable=False, server_default=first))
    op.alter_column("shipments", "parcel", server_default=None)
    op.add_column("shipments", sa.Column("reference", sa.String(length=60), nullable=True))
    op.execute("update shipments set reference = order_id::text")
    op.alter_column("shipments", "reference", nullable=False)
    op.drop_constraint("uq_shipments_order_id", "shipments")
    op.create_unique_constraint("uq_shipments_order_id_parcel", "shipments", ["order_id", "parcel"])
    op.create_unique_constraint("uq_shipments_reference", "shipments", ["reference"])


def downgrade() -> None:
    """Fails, and changes nothing, if an order has a second parcel."""
    op.drop_constraint("uq_shipments_reference", "shipments")
    op.drop_constraint("uq_shipments_order_id_parcel", "shipments")
    op.create_unique_constraint("uq_shipments_order_id", "shipments", ["order_id"])
    op.execute("update shipments set status = 'IN_TRANSIT' where status in ('LOST', 'RETURNED')")
    for column in ("reference", "parcel", "reported_at"):
        op.drop_column("shipments", column)
