"""packages and their labels"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    # What builds before this one asked of the carrier, and had no answer to, their sagas and warehouses ask again by themselves.
    op.alter_column("shipments", "asked", server_default="nothing")
    op.add_column("shipments", sa.Column("promised_on", sa.Date(), nullable=False, server_default=sa.func.current_date()))
    op.execute("update shipments set promised_on = (created_at at time zone 'UTC')::date")
    op.add_column("shipments", sa.Column("strayed", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.create_index(
        "ix_shipments_to_dispatch",
        "shipments",
        ["warehouse_id", "promised_on", "shipment_id"],
        postgresql_where=sa.text("status = 'BOOKED' and direction = 'outbound'"),
    )
    op.create_index("ix_shipments_strayed", "shipments", ["shipment_id"], postgresql_where=sa.text("strayed"))
    op.create_table(
        "packages",
        sa.Column("package_id", sa.Uuid(), primary_key=True),
        sa.Column("shipment_id", sa.Uuid(), sa.ForeignKey("shipments.shipment_id"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("reference", sa.String(70), nullable=False),
        sa.Column("box", sa.String(40), nullable=False),
        *[sa.Column(name, sa.Integer(), nullable=False) for name in ("length_mm", "width_mm", "height_mm", "weight_grams")],
        sa.Column("lines", postgresql.JSONB(), nullable=False),
        sa.Column("carrier", sa.String(40), nullable=True),
        sa.Column("provider_id", sa.String(100), nullable=True),
        sa.Column("offers", sa.Text(), nullable=False),
        sa.Column("rate_id", sa.String(100), nullable=True),
        sa.Column("choice", sa.String(300), nullable=True),
        sa.Column("tracking_number", sa.String(100), nullable=True),
        sa.Column("label_url", sa.String(1000), nullable=True),
        sa.Column("label_at", TIME, nullable=True),
        sa.Column("status", sa.String(40), nullable=True),
        sa.Column("reported_at", TIME, nullable=True),
        sa.Column("ask_at", TIME, nullable=True),
        sa.Column("refund", sa.String(40), nullable=False),
        sa.Column("refund_since", TIME, nullable=True),
        sa.Column("refund_at", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.UniqueConstraint("shipment_id", "number", name="uq_packages_shipment_id_number"),
        sa.UniqueConstraint("provider_id", name="uq_packages_provider_id"),
    )
    op.create_index("ix_packages_tracking_number", "packages", ["tracking_number"])
    for column in ("label_at", "refund_at", "ask_at"):
        op.create_index(f"ix_packages_{column}", "packages", [column], postgresql_where=sa.text(f"{column} is not null"))
    op.create_table(
        "labels",
        sa.Column("package_id", sa.Uuid(), sa.ForeignKey("packages.package_id"), primary_key=True),
        sa.Column("content_type", sa.String(40), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
    )


def downgrade() -> None:
    """Labels that were bought are forgotten, and so is what is owed for those that are not needed."""
    op.drop_table("labels")
    op.drop_table("packages")
    op.drop_index("ix_shipments_strayed", "shipments")
    op.drop_index("ix_shipments_to_dispatch", "shipments")
    for column in ("strayed", "promised_on"):
        op.drop_column("shipments", column)
    op.alter_column("shipments", "asked", server_default=None)
