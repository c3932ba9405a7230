"""Falsify the books of a running platform, each in one place, to see that an audit notices.

    for tampering in tamperings(platform.env, confirmed=…, cancelled=…):
        async with tampering.done():
            report = await run_audit(AuditSettings.of(platform.env))
        assert tampering.rules <= report.violated

Leaving the block puts everything back. `confirmed` is an order that rests CONFIRMED, `cancelled` one that was cancelled after it
was confirmed. Nothing else may happen to the two meanwhile.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg

Environment = Mapping[str, str]


@dataclass(frozen=True)
class Tampering:
    """One falsification, and the rules that must see it."""

    name: str
    rules: frozenset[str]
    done: Callable[[], AbstractAsyncContextManager[None]]
    """Falsifies on entering, puts back on leaving."""


OF_INTENT = "payment_intent = (SELECT id FROM payment_intents WHERE reference = ?)"


def tamperings(env: Environment, *, confirmed: UUID, cancelled: UUID) -> list[Tampering]:
    """One for each kind of book."""
    payment, inventory, shipping = (env[f"DATABASE_URL_{name}"] for name in ("PAYMENT", "INVENTORY", "SHIPPING"))
    orders, notification, analytics = (env[f"DATABASE_URL_{name}"] for name in ("ORDER", "NOTIFICATION", "ANALYTICS"))
    return [
        Tampering(
            "the provider took a coin more than the order's total",
            frozenset({"money_at_the_provider", "ledgers_agree", "refunds_within_captures"}),
            lambda: ledger_row(env, "stripe", "payment_intents", f"{confirmed}-1", amount_received=lambda amount: amount + 1),
        ),
        Tampering(
            "the provider charged the order a second time",
            frozenset({"one_charge", "money_at_the_provider", "ledgers_agree"}),
            lambda: second_charge(env, f"{confirmed}-1", f"{confirmed}-2"),
        ),
        Tampering(
            "the provider charged somebody without an order",
            frozenset({"charge_has_order"}),
            lambda: second_charge(env, f"{confirmed}-1", f"{uuid4()}-1"),
        ),
        Tampering(
            "the provider never refunded the cancelled order",
            frozenset({"money_at_the_provider", "ledgers_agree"}),
            lambda: ledger_row(env, "stripe", "charges", f"{cancelled}-1", where=OF_INTENT, amount_refunded=lambda _: 0),
        ),
        Tampering(
            "our ledger lost the capture",
            frozenset({"money_in_our_ledger", "payments_add_up", "ledgers_agree"}),
            lambda: row(
                payment,
                "movements",
                "payment_id = (select payment_id from payments where order_id = $1) and kind = 'capture'",
                confirmed,
                amount_minor="amount_minor - 1",
            ),
        ),
        Tampering(
            "a unit of stock vanished",
            frozenset({"stock_is_its_movements", "stock_is_received_less_shipped"}),
            lambda: row(inventory, "stock", _STOCK_OF, confirmed, on_hand="on_hand - 1"),
        ),
        Tampering(
            "a unit is reserved for nobody",
            frozenset({"reserved_is_the_open_reservations"}),
            lambda: row(inventory, "stock", _STOCK_OF, confirmed, reserved="reserved + 1"),
        ),
        Tampering(
            "the confirmed order lost its reservation",
            frozenset({"reservation_fits", "reserved_is_the_open_reservations"}),
            lambda: row(inventory, "reservations", "order_id = $1", confirmed, status="'RELEASED'"),
        ),
        Tampering(
            "the cancelled order's shipment lives again",
            frozenset({"shipment_fits", "parcels_agree"}),
            lambda: row(shipping, "shipments", "order_id = $1", cancelled, status="'BOOKED'"),
        ),
        Tampering(
            "the carrier picked the cancelled order's parcel up",
            frozenset({"parcel_fits", "parcels_agree"}),
            lambda: scanned(env, str(cancelled)),
        ),
        Tampering(
            "the cancelled order says that it is completed",
            frozenset(
                {"workflow_tells_the_same", "money_in_our_ledger", "money_at_the_provider", "reservation_fits", "shipment_fits"}
            ),
            lambda: row(orders, "orders", "order_id = $1", cancelled, status="'COMPLETED'"),
        ),
        Tampering(
            "the order's total is not that of its lines",
            frozenset({"total_is_the_lines", "money_in_our_ledger", "reports_know_each_order"}),
            lambda: row(orders, "orders", "order_id = $1", confirmed, total_minor="total_minor + 1"),
        ),
        Tampering(
            "the order ended for another reason than its client was told",
            frozenset({"workflow_tells_the_same", "analytics_tells_the_same"}),
            lambda: row(orders, "orders", "order_id = $1", cancelled, code="'payment_declined'"),
        ),
        Tampering(
            "the client was refused an order that was confirmed",
            frozenset({"client_was_told_the_truth"}),
            lambda: row(
                orders, "orders", "order_id = $1", confirmed, outcome='outcome || \'{"code": "payment_declined"}\'::jsonb'
            ),
        ),
        Tampering(
            "the order skipped a status",
            frozenset({"path_is_allowed"}),
            lambda: row(orders, "orders", "order_id = $1", confirmed, history="history - 1"),
        ),
        Tampering(
            "analytics could not apply an event, and nobody settled that",
            frozenset({"dead_letters_are_settled"}),
            lambda: dead_letter(analytics, confirmed),
        ),
        Tampering(
            "the order was sold at a price that never was",
            frozenset({"price_was_the_catalogues"}),
            lambda: row(orders, "orders", "order_id = $1", confirmed, lines=_FOR_A_CENT),
        ),
        Tampering(
            "the confirmation was never sent",
            frozenset({"one_confirmation"}),
            lambda: row(
                notification,
                "deliveries",
                "notification_id = (select notification_id from notifications where order_id = $1 and kind = 'order_confirmed')",
                confirmed,
                status="'FAILED'",
            ),
        ),
        Tampering(
            "an SMS came back that its provider has delivered",
            frozenset({"sms_arrived"}),
            lambda: row(notification, "deliveries", _FIRST_BY.format("sms"), confirmed, status="'BOUNCED'"),
        ),
        Tampering(
            "an SMS is another one at its provider",
            frozenset({"sms_agree"}),
            lambda: row(notification, "deliveries", _FIRST_BY.format("sms"), confirmed, provider_id="'SM0'"),
        ),
        Tampering(
            "the push service has a message that nobody tried to send",
            frozenset({"pushed_agree"}),
            lambda: row(notification, "deliveries", _FIRST_BY.format("push"), confirmed, status="'SUPPRESSED'", attempts="0"),
        ),
        Tampering(
            "analytics counted the order's total wrongly",
            frozenset({"reports_know_each_order", "report_sums_add_up"}),
            lambda: row(analytics, "orders", "order_id = $1", confirmed, total_minor="total_minor + 1"),
        ),
        Tampering(
            "analytics forgot that it heard of the cancelled order",
            frozenset({"events_are_applied"}),
            lambda: forgotten_effect(orders, analytics, cancelled),
        ),
    ]


def tamperings_of_codes(env: Environment, *, confirmed: UUID, cancelled: UUID) -> list[Tampering]:
    """The same for the uses of the one discount code there is, which both orders have."""
    orders = env["DATABASE_URL_ORDER"]
    return [
        Tampering(
            "a use of a discount code was not counted",
            frozenset({"discount_uses_are_counted"}),
            lambda: row(orders, "discount_uses", "$1::uuid is not null", confirmed, times_used="times_used - 1"),
        ),
        Tampering(
            "the order has a discount that no use of its code pays for",
            frozenset({"redemptions_are_charged"}),
            lambda: row(orders, "redemptions", "order_id = $1", confirmed, amount_minor="amount_minor - 1"),
        ),
        Tampering(
            "the cancelled order never gave its code back",
            frozenset({"discount_uses_are_counted", "cancelled_orders_gave_their_codes_back"}),
            lambda: row(orders, "redemptions", "order_id = $1", cancelled, given_back_at="null"),
        ),
    ]


def tamperings_of_the_forgotten(env: Environment, order_id: UUID) -> list[Tampering]:
    """Something personal comes back in each book that had some, of a customer who is forgotten; `order_id` is an order of theirs
    that arrived."""
    identity, orders, payment, shipping = (env[f"DATABASE_URL_{name}"] for name in ("IDENTITY", "ORDER", "PAYMENT", "SHIPPING"))
    of_order, in_full = "order_id = $1", 'ship_to || \'{"name": "Yan"}\''
    return [
        Tampering(
            "the account has its name again",
            frozenset({"forgotten_accounts_are_blank"}),
            lambda: row(identity, "users", "forgotten_at is not null and $1::uuid is not null", order_id, name="'Yan'"),
        ),
        Tampering(
            "the order says again where it went",
            frozenset({"forgotten_orders_are_blank", "forgotten_keys_are_destroyed"}),
            lambda: row(orders, "orders", of_order, order_id, ship_to=in_full),
        ),
        Tampering(
            "the order has again what was written about it",
            frozenset({"forgotten_orders_are_blank", "forgotten_keys_are_destroyed"}),
            lambda: row(orders, "orders", of_order, order_id, history="jsonb_set(history, '{0,for_staff}', '\"Yan is ill\"')"),
        ),
        Tampering(
            "the payment knows the card again",
            frozenset({"forgotten_payments_are_blank"}),
            lambda: row(payment, "payments", of_order, order_id, card_fingerprint="'f'"),
        ),
        Tampering(
            "the parcel says again where it went",
            frozenset({"forgotten_parcels_are_blank"}),
            lambda: row(shipping, "shipments", of_order, order_id, ship_to=in_full),
        ),
        Tampering(
            "the key is there again",
            frozenset({"forgotten_keys_are_destroyed"}),
            lambda: row(orders, "customer_keys", _KEY_OF, order_id, wrapped="'\\x00'", master_key_id="'m1'", destroyed_at="null"),
        ),
    ]


@asynccontextmanager
async def long_ago(env: Environment, order_id: UUID) -> AsyncIterator[None]:
    """An order's customer was forgotten, and the order ended, an hour before they were."""
    ended = row(env["DATABASE_URL_ORDER"], "orders", "order_id = $1", order_id, updated_at="updated_at - interval '1 hour'")
    everybody = "forgotten_at is not null and $1::uuid is not null"
    forgotten = row(env["DATABASE_URL_IDENTITY"], "users", everybody, order_id, forgotten_at="forgotten_at - interval '1 hour'")
    async with ended, forgotten:
        yield


_KEY_OF = "customer_id = (select customer_id from orders where order_id = $1)"
_FIRST_BY = "$1::uuid is not null and delivery_id = (select min(delivery_id::text)::uuid from deliveries where channel = '{}')"
_STOCK_OF = """(warehouse_id, product_id) = (
    select warehouse_id, lines->0->>'product_id' from reservations where order_id = $1)"""
_FOR_A_CENT = "jsonb_set(lines, '{0,unit_price,amount}', '\"0.01\"')"


@asynccontextmanager
async def row(url: str, table: str, where: str, order_id: UUID, **changes: str) -> AsyncIterator[None]:
    """Change one row of a service's table, and put it back as it was. `changes` by column, e.g. on_hand="on_hand - 1"."""
    change = ", ".join(f"{column} = {value}" for column, value in changes.items())
    back = ", ".join(f"{column} = was.{column}" for column in changes)
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        found = await connection.fetch(f"select ctid::text, to_jsonb({table}) as was from {table} where {where}", order_id)
        assert len(found) == 1, f"{len(found)} rows of {table}"
        changed = await connection.fetchval(
            f"update {table} set {change} where ctid = $1::text::tid returning ctid::text", found[0]["ctid"]
        )
        try:
            yield
        finally:
            record = f"jsonb_populate_record(null::{table}, $2)"
            restore = f"update {table} set {back} from {record} as was where {table}.ctid = $1::text::tid"
            await connection.execute(restore, changed, found[0]["was"])
    finally:
        await connection.close()


@asynccontextmanager
async def forgotten_effect(orders: str, listener: str, order_id: UUID) -> AsyncIterator[None]:
    """A listener forgets that it applied the first event of an order."""
    outbox, inbox = await asyncpg.connect(orders.replace("+asyncpg", "")), await asyncpg.connect(listener.replace("+asyncpg", ""))
    try:
        event_id = await outbox.fetchval("select event_id from outbox where key = $1 order by seq limit 1", str(order_id))
        was = await inbox.fetchval("delete from inbox where event_id = $1 returning applied_at", event_id)
        assert was is not None
        try:
            yield
        finally:
            await inbox.execute("insert into inbox (event_id, applied_at) values ($1, $2)", event_id, was)
    finally:
        await outbox.close()
        await inbox.close()


@asynccontextmanager
async def dead_letter(listener: str, order_id: UUID) -> AsyncIterator[None]:
    """A listener has a dead letter about an order."""
    connection, letter_id = await asyncpg.connect(listener.replace("+asyncpg", "")), uuid4()
    try:
        await connection.execute(
            """insert into dead_letters (letter_id, state, topic, size, digest, type, subject, error, attempts, failed_at)
               values ($1, 'OPEN', 'order-events', 0, '', 'OrderConfirmed', $2, 'ValueError: no', 1, now())""",
            letter_id,
            str(order_id),
        )
        try:
            yield
        finally:
            await connection.execute("delete from dead_letters where letter_id = $1", letter_id)
    finally:
        await connection.close()


@asynccontextmanager
async def ledger_row(
    env: Environment,
    simulator: str,
    table: str,
    reference: str,
    *,
    where: str = "reference = ?",
    **changes: Callable[[Any], Any],
) -> AsyncIterator[None]:
    """Change a row of a simulator's own ledger, by its reference, and put it back as it was."""
    columns = list(changes)
    with _ledger(env, simulator) as ledger:
        found = ledger.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE {where}", (reference,)).fetchone()
    assert found is not None, f"{simulator} has no {reference}"

    def put(values: list[Any]) -> None:
        with _ledger(env, simulator) as ledger:
            settings = ", ".join(f"{column} = ?" for column in columns)
            ledger.execute(f"UPDATE {table} SET {settings} WHERE {where}", (*values, reference))

    put([changes[column](was) for column, was in zip(columns, found, strict=True)])
    try:
        yield
    finally:
        put(list(found))


@asynccontextmanager
async def scanned(env: Environment, reference: str) -> AsyncIterator[None]:
    """A carrier has a label's parcel, whatever became of the label."""
    of_label = "tracking_code = (SELECT tracking_code FROM labels WHERE reference = ?)"
    with _ledger(env, "easypost") as ledger:
        [before] = ledger.execute(f"SELECT body FROM trackers WHERE {of_label}", (reference,)).fetchone()
        ledger.execute(f"UPDATE trackers SET body = json_set(body, '$.status', 'in_transit') WHERE {of_label}", (reference,))
    try:
        yield
    finally:
        with _ledger(env, "easypost") as ledger:
            ledger.execute(f"UPDATE trackers SET body = ? WHERE {of_label}", (before, reference))


@asynccontextmanager
async def second_charge(env: Environment, reference: str, copy: str) -> AsyncIterator[None]:
    """A charge at the provider once more, under another reference, made an hour ago."""
    columns = "status, amount, currency, amount_received, capture_method, client_secret, latest_charge, card_options, details"
    with _ledger(env, "stripe") as ledger:
        copied = ledger.execute(
            f"INSERT INTO payment_intents (id, created, reference, metadata, {columns})"
            f" SELECT ?, created - 3600, ?, json_object('reference', ?), {columns} FROM payment_intents WHERE reference = ?",
            (f"pi_{uuid4().hex}", copy, copy, reference),
        )
        assert copied.rowcount == 1, f"Stripe has no {reference}"
    try:
        yield
    finally:
        with _ledger(env, "stripe") as ledger:
            ledger.execute("DELETE FROM payment_intents WHERE reference = ?", (copy,))


@contextmanager
def _ledger(env: Environment, simulator: str) -> Iterator[sqlite3.Connection]:
    """The simulator's file, committed at once. It runs meanwhile: its own transactions are short."""
    path = Path(env["SIMULATOR_DATA_DIR"]) / f"{simulator}.sqlite"
    assert path.exists()
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as ledger:
        ledger.execute("PRAGMA ignore_check_constraints = ON")  # its own rules would not let anybody falsify it
        yield ledger
