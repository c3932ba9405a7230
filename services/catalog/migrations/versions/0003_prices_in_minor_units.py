"""prices in minor units; versions of categories

`amount` stays for processes of the last version, which read it while this one is rolled out. The next migration may drop it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# As in contracts.money when this was written.
UNITS = """case when currency in ('BIF', 'CLP', 'JPY', 'KRW', 'VND') then 1
             when currency in ('BHD', 'KWD', 'TND') then 1000 else 100 end"""
PRICED = ("products", "price_history")


def upgrade() -> None:
    op.drop_constraint(op.f("ck_products_price_is_positive"), "products", type_="check")
    for table in PRICED:
        op.alter_column(
            table,
            "amount",
            new_column_name="amount_minor",
            type_=sa.BigInteger(),
            postgresql_using=f"round(amount * {UNITS})::bigint",
        )
        amount = sa.Computed(f"amount_minor::numeric / {UNITS}", persisted=True)
        op.add_column(table, sa.Column("amount", sa.Numeric(14, 3), amount, nullable=False))
    op.create_check_constraint(op.f("ck_products_price_is_positive"), "products", "amount_minor > 0")
    # What was answered to an idempotency key is answered again, as it is read now.
    op.execute(
        f"update idempotency_keys set reply = (reply - 'amount') || jsonb_build_object('amount_minor', round(amount * {UNITS}))"  # noqa: S608
        " from (select scope as of_scope, key as of_key, (reply->>'amount')::numeric as amount, reply->>'currency' as currency"
        "       from idempotency_keys where reply ? 'amount') as product where scope = of_scope and key = of_key"
    )
    op.add_column("categories", sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
    op.alter_column("products", "version", server_default="1")


def downgrade() -> None:
    op.alter_column("products", "version", server_default=None)
    op.drop_column("categories", "version")
    op.execute(
        f"update idempotency_keys set reply = (reply - 'amount_minor') || jsonb_build_object('amount', amount::numeric / {UNITS})"  # noqa: S608
        " from (select scope as of_scope, key as of_key, (reply->>'amount_minor')::bigint as amount, reply->>'currency' as currency"
        "       from idempotency_keys where reply ? 'amount_minor') as product where scope = of_scope and key = of_key"
    )
    op.drop_constraint(op.f("ck_products_price_is_positive"), "products", type_="check")
    for table in PRICED:
        op.drop_column(table, "amount")
        op.alter_column(
            table,
            "amount_minor",
            new_column_name="amount",
            type_=sa.Numeric(14, 3),
            postgresql_using=f"amount_minor::numeric / {UNITS}",
        )
    op.create_check_constraint(op.f("ck_products_price_is_positive"), "products", "amount > 0")
