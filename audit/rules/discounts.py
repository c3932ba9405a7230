"""Discount codes: what is counted as used is what orders have taken off, until they are cancelled."""

from audit.books import Source
from audit.rule import rule
from audit.rules.words import minor, money
from audit.verdict import Check
from audit.world import World
from contracts.orders import OrderStatus


@rule("As many uses of a code are counted as orders use it", Source.ORDER)
def discount_uses_are_counted(world: World, check: Check) -> None:
    for row in world.books.discount_uses:
        check.equal(row.code, f"uses of {row.code}", row.held, row.counted)


@rule("An order uses the codes that took something off it, and no others", Source.ORDER)
def redemptions_are_charged(world: World, check: Check) -> None:
    for row in world.books.redemptions:
        expected, found = "nothing", "nothing"
        if row.charged is not None and row.charged_currency:
            expected = money(minor(row.charged, row.charged_currency), row.charged_currency)
        if row.amount is not None and row.currency:
            found = money(row.amount, row.currency)
        check.equal(row.order_id, f"what {row.code} took off", expected, found, row.order_id)


@rule("An order uses its codes until it is cancelled", Source.ORDER)
def cancelled_orders_gave_their_codes_back(world: World, check: Check) -> None:
    for row in world.books.redemptions:
        order = world.orders.get(row.order_id)
        if order is not None and row.amount is not None:
            expected = "given back" if order.status == OrderStatus.CANCELLED else "used"
            found = "used" if row.is_held else "given back"
            check.equal(row.order_id, f"{row.code} of an order that is {order.status}", expected, found, row.order_id)
