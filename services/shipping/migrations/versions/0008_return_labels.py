"""parcels in which returns come back"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BEFORE, NOW = "uq_shipments_order_id_parcel", "uq_shipments_order_id_direction_parcel"


def upgrade() -> None:
    op.add_column("shipments", sa.Column("direction", sa.String(40), nullable=False, server_default="outbound"))
    op.add_column("shipments", sa.Column("ship_from", postgresql.JSONB(none_as_null=True), nullable=True))
    op.create_unique_constraint(NOW, "shipments", ["order_id", "direction", "parcel"])
    op.drop_constraint(BEFORE, "shipments")


def downgrade() -> None:
    """Returns that are on their way are forgotten: the version before would take them for parcels of their orders."""
    op.execute("delete from tracking_events where shipment_id in (select shipment_id from shipments where direction = 'inbound')")
    op.execute("delete from shipments where direction = 'inbound'")
    op.create_unique_constraint(BEFORE, "shipments", ["order_id", "parcel"])
    op.drop_constraint(NOW, "shipments")
    for column in ("ship_from", "direction"):
        op.drop_column("shipments", column)
