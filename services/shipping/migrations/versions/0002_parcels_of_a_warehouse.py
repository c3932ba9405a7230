"""Parcels of a warehouse: who works in one lists its own only."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index("ix_shipments_warehouse", "shipments", ["warehouse_id", "shipment_id"])


def downgrade() -> None:
    op.drop_index("ix_shipments_warehouse", "shipments")
