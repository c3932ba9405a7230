"""plans of several parcels, parcels that wait for goods, goods that are announced, and where warehouses are"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

PROMISED = "ix_reservations_promised"
AWAITED = sa.text("status = 'AWAITED'")


def upgrade() -> None:
    op.add_column("warehouses", sa.Column("country", sa.String(2), nullable=True))
    op.add_column("warehouses", sa.Column("region", sa.String(500), nullable=True))
    op.add_column("warehouses", sa.Column("postal_code", sa.String(16), nullable=False, server_default=""))
    op.add_column("reservations", sa.Column("plan", sa.Integer(), nullable=True))
    op.add_column("reservations", sa.Column("dropped", postgresql.JSONB(), nullable=True))
    op.add_column("reservations", sa.Column("split_from", sa.Integer(), nullable=True))
    op.add_column("reservations", sa.Column("expected_on", sa.Date(), nullable=True))
    op.drop_index(PROMISED, "reservations")
    op.create_index(PROMISED, "reservations", ["customer_id"], postgresql_where=sa.text("status in ('RESERVED', 'AWAITED')"))
    op.create_index("ix_reservations_awaited", "reservations", ["created_at", "order_id", "parcel"], postgresql_where=AWAITED)
    op.create_table(
        "expected_receipts",
        sa.Column("receipt_id", sa.Uuid(), nullable=False),
        sa.Column("warehouse_id", sa.String(40), nullable=False),
        sa.Column("product_id", sa.String(40), nullable=False),
        sa.Column("announced", sa.Integer(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("expected_on", sa.Date(), nullable=False),
        sa.Column("reference", sa.String(200), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("actor", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.CheckConstraint("0 <= quantity and quantity <= announced", name=op.f("ck_expected_receipts_no_more_than_announced")),
        sa.ForeignKeyConstraint(["warehouse_id"], ["warehouses.warehouse_id"], name=op.f("fk_expected_receipts_warehouse_id")),
        sa.PrimaryKeyConstraint("receipt_id", name=op.f("pk_expected_receipts")),
    )
    op.create_index(
        "ix_expected_receipts_open", "expected_receipts", ["product_id"], postgresql_where=sa.text("status = 'EXPECTED'")
    )
    op.create_index("ix_expected_receipts_by_day", "expected_receipts", ["expected_on", "receipt_id"])


def downgrade() -> None:
    """Who waits is forgotten: the version before knows nobody who does."""
    op.drop_table("expected_receipts")
    op.execute("update reservations set status = 'RELEASED' where status = 'AWAITED'")
    op.drop_index("ix_reservations_awaited", "reservations")
    op.drop_index(PROMISED, "reservations")
    op.create_index(PROMISED, "reservations", ["customer_id"], postgresql_where=sa.text("status = 'RESERVED'"))
    for column in ("expected_on", "split_from", "dropped", "plan"):
        op.drop_column("reservations", column)
    for column in ("postal_code", "region", "country"):
        op.drop_column("warehouses", column)
