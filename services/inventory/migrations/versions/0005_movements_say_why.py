"""movements say why, who, and to or from which other warehouse"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

PLACE = "ix_stock_movements_place"
LEDGER = "stock_movements"
# The version before says it in the reference alone, and goes on writing while this one starts.
KIND = """case when reference like 'order %' then 'SHIPMENT' when reference like 'return of order %' then 'RETURN' else 'RECEIPT' end"""
FUNCTION = f"""
create function kind_of_movement() returns trigger language plpgsql as $$
begin
    new.kind := {KIND.replace("reference", "new.reference")};
    return new;
end $$
"""
TRIGGER = """
create trigger kind_of_movement before insert on stock_movements
for each row when (new.kind is null) execute function kind_of_movement()
"""


def upgrade() -> None:
    op.add_column(LEDGER, sa.Column("kind", sa.String(40), nullable=True))
    op.add_column(LEDGER, sa.Column("reason", sa.String(500), nullable=True))
    op.add_column(LEDGER, sa.Column("actor", sa.Uuid(), nullable=True))
    op.add_column(LEDGER, sa.Column("other_warehouse_id", sa.String(40), nullable=True))
    op.execute(FUNCTION)
    op.execute(TRIGGER)
    op.execute(f"update stock_movements set kind = {KIND}")  # noqa: S608 - no value in it
    op.alter_column(LEDGER, "kind", nullable=False)
    op.alter_column(LEDGER, "reference", nullable=True)
    op.create_check_constraint(
        op.f("ck_stock_movements_says_who_and_why"),
        LEDGER,
        "kind in ('RECEIPT', 'SHIPMENT', 'RETURN') or (reason is not null and actor is not null)",
    )
    op.drop_index(PLACE, LEDGER)
    op.create_index(PLACE, LEDGER, ["warehouse_id", "product_id", "movement_id"])
    op.create_index("ix_stock_product_id", "stock", ["product_id"])


def downgrade() -> None:
    op.drop_index("ix_stock_product_id", "stock")
    op.drop_index(PLACE, LEDGER)
    op.create_index(PLACE, LEDGER, ["warehouse_id", "product_id"])
    op.drop_constraint(op.f("ck_stock_movements_says_who_and_why"), LEDGER)
    op.execute("update stock_movements set reference = coalesce(reason, '') where reference is null")
    op.alter_column(LEDGER, "reference", nullable=False)
    op.execute("drop trigger kind_of_movement on stock_movements")
    op.execute("drop function kind_of_movement")
    for column in ("other_warehouse_id", "actor", "reason", "kind"):
        op.drop_column(LEDGER, column)
