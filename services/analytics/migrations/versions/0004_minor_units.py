"""amounts in minor units"""

import sqlalchemy as sa
from alembic import op

from contracts.money import MINOR_DIGITS

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_FACTORS = " ".join(f"when '{currency}' then {10**digits}" for currency, digits in MINOR_DIGITS.items())
FACTOR = f"(case currency {_FACTORS} else 100 end)"
"""How many minor units make one unit of a row's currency."""
AMOUNTS = {
    "orders": ("total", "refunded"),
    "sales_by_day": ("gross", "refunds"),
    "products_by_day": ("revenue",),
    "customers": ("revenue", "refunds"),
}


def upgrade() -> None:
    op.drop_index("ix_customers_value", table_name="customers")
    op.drop_column("customers", "value")
    for table, columns in AMOUNTS.items():
        _retype(table, columns, f"bigint using round({{column}} * {FACTOR})")
        for column in columns:
            op.alter_column(table, column, new_column_name=f"{column}_minor")
    _rewrite_lines("'revenue_minor'", f"round(cast(line->>'revenue' as numeric) * {FACTOR})")
    op.add_column(
        "customers",
        sa.Column("value_minor", sa.BigInteger(), sa.Computed("revenue_minor - refunds_minor", persisted=True), nullable=True),
    )
    op.create_index("ix_customers_value", "customers", ["currency", sa.literal_column("value_minor desc"), "customer_id"])


def downgrade() -> None:
    op.drop_index("ix_customers_value", table_name="customers")
    op.drop_column("customers", "value_minor")
    _rewrite_lines("'revenue'", f"cast(round(cast(line->>'revenue_minor' as numeric) / {FACTOR}, 3) as text)")
    for table, columns in AMOUNTS.items():
        for column in columns:
            op.alter_column(table, f"{column}_minor", new_column_name=column)
        _retype(table, columns, f"numeric(20, 3) using cast({{column}} as numeric) / {FACTOR}")
    op.add_column(
        "customers", sa.Column("value", sa.Numeric(20, 3), sa.Computed("revenue - refunds", persisted=True), nullable=True)
    )
    op.create_index("ix_customers_value", "customers", ["currency", sa.literal_column("value desc"), "customer_id"])


def _retype(table: str, columns: tuple[str, ...], to: str) -> None:
    """All columns of a table at once: it is written anew once."""
    changes = ", ".join(f"alter column {column} type {to.format(column=column)}" for column in columns)
    op.execute(f"alter table {table} {changes}")


def _rewrite_lines(name: str, value: str) -> None:
    """What was sold on each line, under another name."""
    op.execute(
        f"""
        update orders set lines = (
            select jsonb_agg(jsonb_build_object(
                'product_id', line->'product_id', 'name', line->'name', 'quantity', line->'quantity', {name}, {value}
            ) order by number)
            from jsonb_array_elements(lines) with ordinality as sold (line, number)
        )
        where lines is not null"""  # noqa: S608 - our own words only
    )
