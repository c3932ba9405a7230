"""goods that come back by returns"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SAYS_WHY = "ck_stock_movements_says_who_and_why"
BY_A_PERSON = "(reason is not null and actor is not null)"


def upgrade() -> None:
    op.create_table(
        "received_returns",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("warehouse_id", sa.String(40), nullable=False),
        sa.Column("lines", postgresql.JSONB(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["warehouse_id"], ["warehouses.warehouse_id"], name=op.f("fk_received_returns_warehouse_id")),
        sa.PrimaryKeyConstraint("order_id", "number", name=op.f("pk_received_returns")),
    )
    op.drop_constraint(op.f(SAYS_WHY), "stock_movements")
    op.create_check_constraint(
        op.f(SAYS_WHY), "stock_movements", f"kind in ('RECEIPT', 'SHIPMENT', 'RETURN', 'WRITE_OFF') or {BY_A_PERSON}"
    )


def downgrade() -> None:
    """What was written off stays so, as an adjustment that nobody in particular made."""
    op.drop_constraint(op.f(SAYS_WHY), "stock_movements")
    nobody = "00000000-0000-0000-0000-000000000000"
    op.execute(f"update stock_movements set kind = 'ADJUSTMENT', actor = '{nobody}' where kind = 'WRITE_OFF'")  # noqa: S608
    op.create_check_constraint(op.f(SAYS_WHY), "stock_movements", f"kind in ('RECEIPT', 'SHIPMENT', 'RETURN') or {BY_A_PERSON}")
    op.drop_table("received_returns")
