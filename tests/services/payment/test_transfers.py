"""Orders that are paid by bank transfer, against the bank simulator and a real database: what comes in counts once, what goes
back goes back once, and what fits nothing is on the list of what is owed."""

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr
from sqlmodel import col, select

from chassis.clients import HttpSession, NotUnderstood, Unavailable
from chassis.database import Database
from contracts.errors import ErrorCode, Refusal
from contracts.money import Money
from contracts.payments import ActionKind, Payment, PaymentStatus, ProcessPayment, RefundPayment
from services.payment import commands
from services.payment.adapters import HttpBank, Iso20022, Providers, StripePayments, Transfers
from services.payment.model import BankEntry, BankOrder, Debt, OrderState, Transfer, creditor_reference
from services.payment.ports import PaymentProvider
from tests.services.payment.conftest import (
    ACCOUNT,
    API_KEY,
    BankSimulator,
    Simulator,
    capture_of,
    event_types,
    ledger_of,
    movements_of,
    pay,
    refund_of,
)


def transfer(amount: str = "12.50", **options: Any) -> ProcessPayment:
    return pay("bank_transfer", amount, **options)


def reference_of(payment: ProcessPayment) -> str:
    return creditor_reference(f"{payment.order_id}-{payment.attempt}")


async def round_of(database: Database, bank: HttpBank, provider: PaymentProvider) -> None:
    """What the jobs do, until there is no more news."""
    while await commands.take_bookings(database, bank) or await commands.take_reports(database, bank):
        pass
    while await commands.send_orders(database, bank):
        while await commands.take_reports(database, bank) or await commands.take_bookings(database, bank):
            pass
    await commands.tell_payments(database, provider)


async def paid(
    database: Database, simulator: BankSimulator, bank: HttpBank, provider: PaymentProvider, **options: Any
) -> ProcessPayment:
    """12.50 that were transferred, and are taken."""
    payment = transfer()
    await commands.process_payment(database, provider, payment)
    await simulator.pay("12.50", reference_of(payment), **options)
    await round_of(database, bank, provider)
    assert (await commands.process_payment(database, provider, payment)).status == PaymentStatus.CAPTURED
    return payment


async def debts(database: Database) -> list[tuple[str, str, str]]:
    """Kind, amount and why of all that is owed."""
    async with database.reading() as session:
        rows = (await session.exec(select(Debt).order_by(col(Debt.debt_id)))).all()
    return [(row.kind.value, str(row.amount), row.why) for row in rows]


async def all_of(database: Database, kind: type[Any]) -> list[Any]:
    async with database.reading() as session:
        return list((await session.exec(select(kind))).all())


def received(answer: Payment) -> Money | None:
    assert answer.action is not None
    assert answer.action.transfer is not None
    return answer.action.transfer.received


async def test_a_customer_is_told_where_to_and_the_money_is_taken_when_it_is_there(
    database: Database, transfers: Transfers, bank: HttpBank, bank_simulator: BankSimulator
) -> None:
    payment = transfer()
    for _ in range(2):
        asked = await commands.process_payment(database, transfers, payment)
        assert asked.status == PaymentStatus.ACTION_REQUIRED
        assert asked.action is not None
        assert (asked.action.kind, asked.provider_id) == (ActionKind.TRANSFER, reference_of(payment))
        details = asked.action.transfer
        assert details is not None
        assert (details.recipient, details.iban, details.reference) == (ACCOUNT.recipient, ACCOUNT.iban, reference_of(payment))
        assert details.received is None
    await bank_simulator.pay("12.50", reference_of(payment))
    await round_of(database, bank, transfers)
    assert await event_types(database, payment.order_id) == ["PaymentInitiated", "PaymentProcessed", "PaymentAnswered"]
    taken = await commands.process_payment(database, transfers, payment)
    assert (taken.status, str(taken.captured)) == (PaymentStatus.CAPTURED, "12.50 USD")
    assert await ledger_of(database, payment.order_id) == [("capture", "12.50 USD")]
    assert await debts(database) == []
    await round_of(database, bank, transfers)
    assert len(await event_types(database, payment.order_id)) == 3


async def test_too_little_waits_and_is_told_and_the_rest_may_come(
    database: Database, transfers: Transfers, bank: HttpBank, bank_simulator: BankSimulator
) -> None:
    payment = transfer()
    await commands.process_payment(database, transfers, payment)
    await bank_simulator.pay("10", reference_of(payment))
    await round_of(database, bank, transfers)
    assert await event_types(database, payment.order_id) == ["PaymentInitiated", "PaymentAnswered"]
    asked = await commands.process_payment(database, transfers, payment)
    assert (asked.status, str(received(asked))) == (PaymentStatus.ACTION_REQUIRED, "10.00 USD")
    await bank_simulator.pay("5.00", text=f"order {reference_of(payment).lower()}, the rest")
    await round_of(database, bank, transfers)
    assert (await commands.process_payment(database, transfers, payment)).status == PaymentStatus.CAPTURED
    assert await ledger_of(database, payment.order_id) == [("capture", "12.50 USD")]
    assert await debts(database) == [("overpaid", "2.50 USD", "too_much")]
    await bank_simulator.pay("1.00", reference_of(payment))
    await round_of(database, bank, transfers)
    assert await debts(database) == [("overpaid", "2.50 USD", "too_much"), ("overpaid", "1.00 USD", "too_much")]


async def test_what_fits_nothing_is_on_the_list(
    database: Database, transfers: Transfers, bank: HttpBank, bank_simulator: BankSimulator
) -> None:
    payment = transfer()
    await commands.process_payment(database, transfers, payment)
    await bank_simulator.pay("12.50", currency="EUR", reference=reference_of(payment))
    await bank_simulator.pay("3.00", creditor_reference("of nobody"))
    await bank_simulator.pay("4.00", text="happy birthday")
    await bank_simulator.pay("5.00", "RF00WRONG")
    await round_of(database, bank, transfers)
    assert await debts(database) == [
        ("unmatched", "12.50 EUR", "other_currency"),
        ("unmatched", "3.00 USD", "unknown_reference"),
        ("unmatched", "4.00 USD", "no_reference"),
        ("unmatched", "5.00 USD", "no_reference"),
    ]
    assert (await commands.process_payment(database, transfers, payment)).status == PaymentStatus.ACTION_REQUIRED


async def test_news_that_comes_twice_counts_once(
    database: Database, transfers: Transfers, bank: HttpBank, bank_simulator: BankSimulator
) -> None:
    await bank_simulator.faults(documents_twice=True)
    payment = transfer("20.00")
    await commands.process_payment(database, transfers, payment)
    await bank_simulator.pay("12.50", reference_of(payment))
    await round_of(database, bank, transfers)
    [row] = await all_of(database, Transfer)
    assert row.received_minor == 1250
    statement = Iso20022(ACCOUNT).bookings(await bank_simulator.statement())
    assert await commands.book(database, statement) == commands.Booked(entries=1, new=0)
    assert len(await all_of(database, BankEntry)) == 1


async def test_a_document_comes_again_until_it_is_written_down(
    database: Database, transfers: Transfers, bank: HttpBank, bank_simulator: BankSimulator
) -> None:
    payment = transfer()
    await commands.process_payment(database, transfers, payment)
    await bank_simulator.pay("12.50", reference_of(payment))
    first = await bank.next_bookings()
    assert first is not None
    assert await bank.next_bookings() == first
    await commands.book(database, first.entries)  # and the process dies before it acknowledges, or tells anybody
    await round_of(database, bank, transfers)
    assert (await commands.process_payment(database, transfers, payment)).status == PaymentStatus.CAPTURED
    assert await bank.next_bookings() is None
    await bank.acknowledge(first)  # what was acknowledged before


async def test_20_rounds_at_once_have_one_effect(
    database: Database, transfers: Transfers, bank: HttpBank, bank_simulator: BankSimulator
) -> None:
    payment = transfer()
    await commands.process_payment(database, transfers, payment)
    for amount in ("3.00", "4.00", "10.00"):
        await bank_simulator.pay(amount, reference_of(payment))
    await asyncio.gather(*[round_of(database, bank, transfers) for _ in range(20)])
    await commands.refund_payment(database, transfers, refund_of(payment))
    await asyncio.gather(*[round_of(database, bank, transfers) for _ in range(20)])
    assert await ledger_of(database, payment.order_id) == [("capture", "12.50 USD"), ("refund", "12.50 USD")]
    assert await debts(database) == [("overpaid", "4.50 USD", "too_much")]
    types = await event_types(database, payment.order_id)
    assert [types.count(kind) for kind in ("PaymentProcessed", "RefundProcessed")] == [1, 1]
    assert (await bank_simulator.http.get("/_control/waiting")).json() == {}


@pytest.mark.parametrize("came", [None, "5.00"])
async def test_nothing_is_taken_after_the_order_was_undone(
    database: Database, transfers: Transfers, bank: HttpBank, bank_simulator: BankSimulator, came: str | None
) -> None:
    payment = transfer()
    await commands.process_payment(database, transfers, payment)
    if came:
        await bank_simulator.pay(came, reference_of(payment))
        await round_of(database, bank, transfers)
    for _ in range(2):
        undone = await commands.refund_payment(database, transfers, refund_of(payment))
        assert (undone.status, undone.refunded.minor) == (PaymentStatus.VOIDED, 0)
    before = [("overpaid", "5.00 USD", "order_undone")] if came else []
    assert await debts(database) == before
    await bank_simulator.pay("12.50", reference_of(payment))
    await round_of(database, bank, transfers)
    assert await debts(database) == [*before, ("overpaid", "12.50 USD", "too_late")]
    assert await ledger_of(database, payment.order_id) == []
    with pytest.raises(Refusal) as refused:
        await commands.process_payment(database, transfers, payment)
    assert refused.value.code == ErrorCode.PAYMENT_REVERSED


async def test_an_undo_that_meets_the_money_gives_it_back(
    database: Database, transfers: Transfers, bank: HttpBank, bank_simulator: BankSimulator
) -> None:
    payment = transfer()
    await commands.process_payment(database, transfers, payment)
    await bank_simulator.pay("12.50", reference_of(payment))
    await commands.take_bookings(database, bank)  # and nobody has told the payment
    undone = await commands.refund_payment(database, transfers, refund_of(payment))
    assert (undone.status, str(undone.refunded)) == (PaymentStatus.REFUNDED, "12.50 USD")
    await round_of(database, bank, transfers)
    assert await ledger_of(database, payment.order_id) == [("capture", "12.50 USD"), ("refund", "12.50 USD")]
    assert [row.state.value for row in await movements_of(database, payment.order_id)] == ["SUCCEEDED", "SUCCEEDED"]


async def test_some_of_it_goes_back_and_then_the_rest(
    database: Database, transfers: Transfers, bank: HttpBank, bank_simulator: BankSimulator
) -> None:
    payment = await paid(database, bank_simulator, bank, transfers, name="Ben Payer")
    part = RefundPayment(order_id=payment.order_id, amount=Money(amount="5.00"), key="line-1", reason="broken")
    for _ in range(2):
        back = await commands.refund_payment(database, transfers, part)
        assert (back.status, str(back.refunded)) == (PaymentStatus.CAPTURED, "5.00 USD")
    [order] = await all_of(database, BankOrder)
    assert (order.state, order.name, str(order.amount)) == (OrderState.TO_SEND, "Ben Payer", "5.00 USD")
    *_, refund = await movements_of(database, payment.order_id)
    assert (refund.state.value, refund.provider_id) == ("PENDING", order.end_to_end_id)
    await round_of(database, bank, transfers)
    [order] = await all_of(database, BankOrder)
    assert (order.state, order.told, order.name, order.iban) == (OrderState.SUCCEEDED, OrderState.SUCCEEDED, None, None)
    *_, refund = await movements_of(database, payment.order_id)
    assert refund.state.value == "SUCCEEDED"
    undone = await commands.refund_payment(database, transfers, refund_of(payment))
    assert (undone.status, str(undone.refunded)) == (PaymentStatus.REFUNDED, "12.50 USD")
    await round_of(database, bank, transfers)
    assert await ledger_of(database, payment.order_id) == [
        ("capture", "12.50 USD"),
        ("refund", "5.00 USD"),
        ("refund", "7.50 USD"),
    ]
    assert await debts(database) == []


@pytest.mark.parametrize("account", ["closed", "returns"])
async def test_a_refund_that_does_not_arrive_is_owed(
    database: Database, transfers: Transfers, bank: HttpBank, bank_simulator: BankSimulator, account: str
) -> None:
    payment = await paid(database, bank_simulator, bank, transfers, account=account)
    undone = await commands.refund_payment(database, transfers, refund_of(payment))
    assert undone.status == PaymentStatus.REFUNDED
    await round_of(database, bank, transfers)
    await round_of(database, bank, transfers)
    [order] = await all_of(database, BankOrder)
    assert (order.state, order.failure) == (OrderState.FAILED, "AC04")
    assert await ledger_of(database, payment.order_id) == [("capture", "12.50 USD")]
    assert await debts(database) == [("failed_refund", "12.50 USD", "AC04")]
    assert (await event_types(database, payment.order_id))[-2:] == ["RefundFailed", "RefundOwed"]


async def test_a_refund_that_failed_is_tried_again(
    database: Database, transfers: Transfers, bank: HttpBank, bank_simulator: BankSimulator
) -> None:
    payment = await paid(database, bank_simulator, bank, transfers)
    await bank_simulator.faults(refuse_next=1)
    await commands.refund_payment(database, transfers, refund_of(payment))
    await round_of(database, bank, transfers)
    async with database.reading() as session:
        [debt] = (await session.exec(select(Debt))).all()
    assert (debt.why, debt.settled_at) == ("AC04", None)
    [_, failed] = await movements_of(database, payment.order_id)
    await commands.refund_again(database, transfers, failed.payment_id, "undo")
    await round_of(database, bank, transfers)
    assert await ledger_of(database, payment.order_id) == [("capture", "12.50 USD"), ("refund", "12.50 USD")]
    async with database.reading() as session:
        [debt] = (await session.exec(select(Debt))).all()
    assert debt.settled_how == "refund undo:2"


async def test_orders_whose_receipt_was_lost_are_paid_once(
    database: Database, transfers: Transfers, bank: HttpBank, bank_simulator: BankSimulator
) -> None:
    payment = await paid(database, bank_simulator, bank, transfers)
    await commands.refund_payment(database, transfers, refund_of(payment))
    await bank_simulator.faults(lose_replies_next=1)
    with pytest.raises(Unavailable):
        await commands.send_orders(database, bank)
    await round_of(database, bank, transfers)
    debits = [row for row in Iso20022(ACCOUNT).bookings(await bank_simulator.statement()) if not row.is_credit]
    assert [str(row.amount) for row in debits] == ["12.50 USD"]
    assert await ledger_of(database, payment.order_id) == [("capture", "12.50 USD"), ("refund", "12.50 USD")]


async def test_nobody_knows_the_account_to_give_it_back_to(database: Database, transfers: Transfers) -> None:
    payment = transfer()
    await commands.process_payment(database, transfers, payment)
    document = CREDIT.replace(b"REFERENCE", reference_of(payment).encode())
    assert (await commands.book(database, Iso20022(ACCOUNT).bookings(document))).new == 1
    await commands.tell_payments(database, transfers)
    part = RefundPayment(order_id=payment.order_id, amount=Money(amount="5.00"), key="line-1", reason="broken")
    for _ in range(2):
        with pytest.raises(Refusal) as refused:
            await commands.refund_payment(database, transfers, part)
        assert (refused.value.code, refused.value.extra["failure"]) == (ErrorCode.REFUND_FAILED, "no_account")
    assert await debts(database) == [("failed_refund", "5.00 USD", "no_account")]


CREDIT = b"""<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.02"><BkToCstmrStmt><Stmt>
<Acct><Id><IBAN>DE89370400440532013000</IBAN></Id></Acct>
<Ntry><Amt Ccy="USD">12.50</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts>BOOK</Sts><BookgDt><Dt>2026-11-27</Dt></BookgDt>
<AcctSvcrRef>E1</AcctSvcrRef><NtryDtls><TxDtls><RmtInf><Ustrd>for REFERENCE</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>
</Stmt></BkToCstmrStmt></Document>"""


async def test_the_same_entry_with_another_amount_is_refused(database: Database) -> None:
    reader = Iso20022(ACCOUNT)
    await commands.book(database, reader.bookings(CREDIT))
    with pytest.raises(Refusal) as refused:
        await commands.book(database, reader.bookings(CREDIT.replace(b"12.50", b"12.51")))
    assert refused.value.code == ErrorCode.CONFLICT


@pytest.mark.parametrize(
    ("account", "return_url", "code"),
    [(None, "https://shop.example/paid", "transfers_off"), (ACCOUNT, None, "nobody_to_transfer")],
)
async def test_a_transfer_that_cannot_be_is_declined(database: Database, account: Any, return_url: str | None, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        await commands.process_payment(database, Transfers(database, account), transfer(return_url=return_url))
    assert (refused.value.code, refused.value.extra["decline_code"]) == (ErrorCode.PAYMENT_DECLINED, code)


async def test_what_was_to_be_held_for_review_is_taken_and_looked_at(
    database: Database, transfers: Transfers, bank: HttpBank, bank_simulator: BankSimulator
) -> None:
    payment = transfer(capture=False)
    await commands.process_payment(database, transfers, payment)
    await bank_simulator.pay("12.50", reference_of(payment))
    await round_of(database, bank, transfers)
    for _ in range(2):
        taken = await commands.capture_payment(database, transfers, capture_of(payment))
        assert (taken.status, str(taken.captured)) == (PaymentStatus.CAPTURED, "12.50 USD")
    assert await ledger_of(database, payment.order_id) == [("capture", "12.50 USD")]


async def test_each_is_asked_of_its_own_provider(
    database: Database, provider: StripePayments, transfers: Transfers, simulator: Simulator, bank: HttpBank,
    bank_simulator: BankSimulator,
) -> None:  # fmt: skip
    both = Providers(provider, transfers)
    by_card, by_transfer = pay(), transfer()
    assert (await commands.process_payment(database, both, by_card)).status == PaymentStatus.CAPTURED
    assert (await commands.process_payment(database, both, by_transfer)).status == PaymentStatus.ACTION_REQUIRED
    await bank_simulator.pay("12.50", reference_of(by_transfer))
    await round_of(database, bank, both)
    for payment in (by_card, by_transfer):
        undone = await commands.refund_payment(database, both, refund_of(payment))
        assert (undone.status, str(undone.refunded)) == (PaymentStatus.REFUNDED, "12.50 USD")
    assert set(await simulator.charges()) == {f"{by_card.order_id}-1"}
    assert [row.charge for row in await all_of(database, Transfer)] == [f"{by_transfer.order_id}-1"]


async def test_a_bank_that_is_gone_and_comes_back(
    database: Database, transfers: Transfers, bank: HttpBank, bank_simulator: BankSimulator
) -> None:
    payment = transfer()
    await commands.process_payment(database, transfers, payment)
    await bank_simulator.pay("12.50", reference_of(payment))
    await bank_simulator.stop()
    with pytest.raises(Unavailable):
        await commands.take_bookings(database, bank)
    await bank_simulator.start()
    await round_of(database, bank, transfers)
    assert (await commands.process_payment(database, transfers, payment)).status == PaymentStatus.CAPTURED


async def test_a_wrong_key_is_not_understood(http: HttpSession, bank_simulator: BankSimulator) -> None:
    with pytest.raises(NotUnderstood, match="401"):
        await HttpBank(http, bank_simulator.url, SecretStr(API_KEY + "x"), ACCOUNT).next_bookings()
