"""Which baskets meet what, what happens then, and what must come of it.

Baskets are numbered in the order in which they are played; those that weigh too much for a parcel are not counted. Number 2
of every 70 gets the first scenario below, number 4 the next, and so on; the rest are ordinary. Each scenario is a function that
plays one order and says what it saw; the recorder of histories and the journeys of the test suite play them too.

What comes from two warehouses is a basket and one more product, which only the depots have; what is out of stock is a basket and
one more product, which nobody has (`cli.stocking`).
"""

from cli.stocking import DISCOUNT_CODE, PERCENT_OFF
from services.shipping.model.rates import HEAVIEST_GRAMS
from testing.scenarios import orders, payments, returns
from testing.scenarios.seen import Scenario

GROUP = 70
FIRST, STRIDE = 2, 2


CONFIRMED, HELD = "201", "202"
DONE, CANCELLED = "COMPLETED", "CANCELLED"

ORDINARY = Scenario("ordinary", "meets no trouble", orders.just_order, CONFIRMED, DONE)
TOO_HEAVY = Scenario(
    "too heavy",
    f"weighs more than {HEAVIEST_GRAMS // 1000} kg: no carrier takes it",
    orders.just_order,
    "422 parcel_too_heavy",
    f"{CANCELLED} parcel_too_heavy",
)
STORIES = (
    Scenario(
        "card declined",
        "is paid with a card that the bank declines, and with no other one in time",
        orders.declined,
        "402 payment_declined",
        f"{CANCELLED} payment_declined",
    ),
    Scenario(
        "review: approved",
        "is paid with a card that needs review; support approves",
        orders.held_and_approved,
        HELD,
        DONE,
        "approve 200",
    ),
    Scenario(
        "review: rejected",
        "is paid with a card that needs review; support rejects",
        orders.held_and_rejected,
        HELD,
        f"{CANCELLED} review_rejected",
        "reject 200",
    ),
    Scenario(
        "review: expired",
        "is paid with a card that needs review; nobody decides in time",
        orders.held_and_forgotten,
        HELD,
        f"{CANCELLED} review_expired",
    ),
    Scenario(
        "out of stock",
        f"wants {orders.MORE_THAN_THERE_IS} of its first product",
        orders.out_of_stock,
        "409 out_of_stock",
        f"{CANCELLED} out_of_stock",
        "names the line",
    ),
    Scenario(
        "fourth try",
        "meets a payment provider that fails three times",
        orders.answers_on_the_fourth_try,
        CONFIRMED,
        DONE,
        "captured once",
    ),
    Scenario(
        "lost reply",
        "is charged, but the provider's reply gets lost",
        orders.lost_reply,
        CONFIRMED,
        DONE,
        "captured once",
    ),
    Scenario(
        "no such place",
        "goes to an address that the carrier does not know",
        orders.unbookable,
        "422 address_undeliverable",
        f"{CANCELLED} address_undeliverable",
    ),
    Scenario(
        "cancelled in time",
        "is cancelled by its customer before dispatch",
        orders.cancelled_in_time,
        CONFIRMED,
        f"{CANCELLED} cancelled_by_request",
        "cancel 200, all refunded",
    ),
    Scenario(
        "cancelled too late",
        "is dispatched; then its customer tries to cancel",
        orders.cancelled_too_late,
        CONFIRMED,
        DONE,
        "cancel 409 already_dispatched",
    ),
    Scenario(
        "sent five times",
        "is sent five times at once, under one key",
        orders.sent_five_times,
        CONFIRMED,
        DONE,
        "1 order, captured once",
    ),
    Scenario(
        "another card",
        "is paid with a card that the bank declines, and then with another one",
        orders.paid_with_another_card,
        "402 payment_declined",
        DONE,
        "pay 201",
    ),
    Scenario(
        "two warehouses",
        "names no store, and comes from two warehouses, in two parcels",
        orders.from_two_warehouses,
        CONFIRMED,
        DONE,
        "parcels BOOKED, BOOKED",
    ),
    Scenario(
        "parcel lost",
        "comes in two parcels; the carrier loses one, and support gives its price back",
        orders.parcel_lost,
        CONFIRMED,
        DONE,
        "refund 200, its share went back",
    ),
    Scenario(
        "cancelled in part",
        "comes in two parcels; its customer cancels it when one has left",
        orders.cancelled_in_part,
        CONFIRMED,
        DONE,
        "cancel 200, its share went back",
    ),
    Scenario(
        "out of stock: waited",
        "wants something that is nowhere, and waits for it; it is sent in a second parcel, once some have arrived",
        orders.waited_for,
        CONFIRMED,
        DONE,
        "parcels AWAITED, BOOKED",
    ),
    Scenario(
        "out of stock: left out",
        "wants something that is nowhere, and does without it",
        orders.left_out,
        CONFIRMED,
        DONE,
        "parcels BOOKED, CANCELLED; its share was not charged",
    ),
    Scenario(
        "out of stock: asked",
        "wants something that is nowhere; its customer is asked, and does without it",
        orders.asked,
        CONFIRMED,
        DONE,
        "answer 200, its share went back",
    ),
    Scenario(
        "quoted",
        "is quoted first, and ordered at that",
        orders.quoted,
        CONFIRMED,
        DONE,
        "as quoted",
    ),
    Scenario(
        "discount code",
        f"uses the code {DISCOUNT_CODE}",
        orders.with_discount_code,
        CONFIRMED,
        DONE,
        f"{PERCENT_OFF} % off",
    ),
    Scenario(
        "express",
        "is sent by express",
        orders.express,
        CONFIRMED,
        DONE,
        "booked for the next day",
    ),
    Scenario(
        "returned",
        "is delivered, and one thing comes back",
        returns.returned,
        CONFIRMED,
        DONE,
        "return 201, its share went back",
    ),
    Scenario(
        "return cancelled",
        "is delivered; its customer wants to return something, then more than there is, and keeps it",
        returns.came_to_nothing,
        CONFIRMED,
        DONE,
        "return 201, all of it 409 not_returnable, cancel 200",
    ),
    Scenario(
        "exchanged",
        "is delivered; one thing comes back, another one is sent for it",
        returns.exchanged,
        CONFIRMED,
        DONE,
        "exchange 201, its share went back",
    ),
    Scenario(
        "claimed",
        "is delivered, and something in it was damaged: it is sent once more, for nothing",
        returns.claimed,
        CONFIRMED,
        DONE,
        "claim 201, sent again for nothing",
    ),
    Scenario(
        "one unit cancelled",
        "wants two of its first product; one of them is cancelled before dispatch",
        returns.one_unit_cancelled,
        CONFIRMED,
        DONE,
        "cancel 200, its share went back",
    ),
    Scenario(
        "amended",
        "is amended before dispatch: one more of its first product",
        returns.amended,
        CONFIRMED,
        DONE,
        "amend 201, 1 more, its share was charged",
    ),
    Scenario(
        "3-D Secure",
        "is paid with a card whose bank asks its customer, who confirms",
        payments.confirmed_at_the_bank,
        HELD,
        DONE,
        "ACTION_REQUIRED, then captured its share",
    ),
    Scenario(
        "3-D Secure: refused",
        "is paid with a card whose bank asks its customer, who refuses, and pays with another card",
        payments.refused_at_the_bank,
        HELD,
        DONE,
        "PAYMENT_DUE, pay 201",
    ),
    Scenario(
        "3-D Secure: forgotten",
        "is paid with a card whose bank asks its customer, who does not answer in time",
        payments.forgotten_at_the_bank,
        HELD,
        f"{CANCELLED} payment_not_confirmed",
    ),
    Scenario(
        "bank transfer",
        "is paid by bank transfer: a cent too little first, which follows",
        payments.transferred,
        HELD,
        DONE,
        "ACTION_REQUIRED while a cent is missing, then CAPTURED its share",
    ),
    Scenario(
        "disputed",
        "is paid; then the customer's bank takes the money back, and decides for the customer",
        payments.disputed,
        CONFIRMED,
        DONE,
        "CONFIRMED while it is open; lost, all of it is owed",
    ),
    Scenario(
        "refund fails later",
        "is cancelled; its refund fails after it had gone well, and an admin has it made again",
        payments.refund_fails_later,
        CONFIRMED,
        f"{CANCELLED} cancelled_by_request",
        "cancel 200; the refund failed, all of it is owed; again 200, refunded",
    ),
    Scenario(
        "told by SMS",
        "is of a customer who has proven a telephone, and is told of the parcel by SMS",
        payments.told_by_sms,
        CONFIRMED,
        DONE,
        "SMS order_delivered DELIVERED, order_shipped DELIVERED",
    ),
)
PLACES = {FIRST + STRIDE * index: scenario for index, scenario in enumerate(STORIES)}
"""By number within each group of GROUP."""


def rule_of(scenario: Scenario) -> str:
    """In words, which baskets get it."""
    place = next((number for number, other in PLACES.items() if other is scenario), None)
    if place is not None:
        return f"{place}, {place + GROUP}, {place + 2 * GROUP} …"
    return f"above {HEAVIEST_GRAMS // 1000} kg" if scenario is TOO_HEAVY else "all others"


def scenario_for(number: int) -> Scenario:
    """Of the basket with this number; the first is 1."""
    return PLACES.get((number - 1) % GROUP + 1, ORDINARY)
