"""The bank's documents: what is read of them, and what is not. No I/O."""

from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, tostring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.clients import NotUnderstood
from contracts.money import Money
from services.payment.adapters.iso20022 import LARGEST, Iso20022, initiation, reports_in
from services.payment.ports import Booking, CreditTransfer, ProviderMovementState
from simulators.bank.documents import orders_in
from tests.services.payment.conftest import ACCOUNT

READER = Iso20022(ACCOUNT)
HEAD = '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.054.001.08"><BkToCstmrDbtCdtNtfctn><Ntfctn>'
OF_SHOP = f"<Acct><Id><IBAN>{ACCOUNT.iban}</IBAN></Id></Acct>"
TAIL = "</Ntfctn></BkToCstmrDbtCdtNtfctn></Document>"
BOOKED = "<Sts><Cd>BOOK</Cd></Sts><BookgDt><DtTm>2026-11-27T10:00:00+01:00</DtTm></BookgDt>"


def entry(inner: str = "", *, amount: str = '<Amt Ccy="EUR">12.50</Amt>', status: str = BOOKED, name: str = "E1") -> str:
    own = f"<AcctSvcrRef>{name}</AcctSvcrRef>" if name else ""
    return f"<Ntry>{amount}<CdtDbtInd>CRDT</CdtDbtInd>{status}{own}<NtryDtls>{inner}</NtryDtls></Ntry>"


def read(entries: str, *, account: str = OF_SHOP) -> list[Booking]:
    return list(READER.bookings(f"{HEAD}{account}{entries}{TAIL}".encode()))


def eur(amount: str) -> Money:
    return Money.model_validate({"amount": amount, "currency": "EUR"})


def test_a_credit_is_read_with_who_paid_and_for_what() -> None:
    details = (
        "<TxDtls><Refs><EndToEndId>NOTPROVIDED</EndToEndId></Refs>"
        "<RltdPties><Dbtr><Pty><Nm>Ann</Nm></Pty></Dbtr>"
        "<DbtrAcct><Id><IBAN>DE02 1203 0000 0000 2020 51</IBAN></Id></DbtrAcct></RltdPties>"
        "<RmtInf><Ustrd>my</Ustrd><Ustrd>order</Ustrd>"
        "<Strd><CdtrRefInf><Ref>rf18 5390 0754 7034</Ref></CdtrRefInf></Strd></RmtInf></TxDtls>"
    )
    [found] = read(entry(details))
    assert found == Booking(
        id="E1",
        amount=eur("12.50"),
        is_credit=True,
        booked_at=datetime(2026, 11, 27, 9, tzinfo=UTC),
        reference="RF18539007547034",
        words="my order",
        name="Ann",
        iban="DE02120300000000202051",
        end_to_end_id="NOTPROVIDED",
    )


def test_an_entry_may_sum_up_several() -> None:
    parts = "".join(f'<TxDtls><Amt Ccy="EUR">{amount}</Amt><CdtDbtInd>CRDT</CdtDbtInd></TxDtls>' for amount in ("10", "2.5"))
    found = read(entry(parts))
    assert [(one.id, one.amount) for one in found] == [("E1/1", eur("10.00")), ("E1/2", eur("2.50"))]
    with pytest.raises(NotUnderstood, match="how much each is"):
        read(entry("<TxDtls/><TxDtls/>"))


def test_what_came_back_says_of_which_order_and_why() -> None:
    details = "<TxDtls><Refs><EndToEndId>abc</EndToEndId></Refs><RtrInf><Rsn><Cd>AC04</Cd></Rsn></RtrInf></TxDtls>"
    [found] = read(entry(details))
    assert (found.end_to_end_id, found.came_back) == ("abc", "AC04")


def test_what_is_only_expected_is_not_booked() -> None:
    assert read(entry(status="<Sts><Cd>PDNG</Cd></Sts>")) == []


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "no XML"),
        (b"<a", "no XML"),
        (b"\xff\xfe", "no XML"),
        (b"<a/>", "no message"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "a DTD"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "a DTD"),
        (b'<?xml version="1.0" encoding="nonsense"?><a/>', "no XML"),
        (b"<a>" + LARGEST * b" " + b"</a>", "bytes"),
        (b'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"/>', "a statement is expected"),
    ],
)
def test_what_is_no_statement_is_not_read(document: bytes, why: str) -> None:
    with pytest.raises(NotUnderstood, match=why):
        READER.bookings(document)


@pytest.mark.parametrize(
    "entries",
    [
        entry(name=""),
        entry(name="n" * 101),
        entry(amount=""),
        *(
            entry(amount=f'<Amt Ccy="EUR">{amount}</Amt>')
            for amount in ("", "0", "0.00", "-1", "1e3", "NaN", "1.001", "9" * 12, "1,5")
        ),
        entry(amount="<Amt>1</Amt>"),
        entry(amount='<Amt Ccy="euro">1</Amt>'),
        entry(amount='<Amt Ccy="JPY">1.5</Amt>'),
        entry(status="<Sts>BOOK</Sts>"),
        entry(status="<Sts>BOOK</Sts><BookgDt><Dt>yesterday</Dt></BookgDt>"),
        entry().replace("CRDT", "BOTH"),
    ],
)
def test_an_entry_that_is_not_sure_is_not_read(entries: str) -> None:
    with pytest.raises(NotUnderstood):
        read(entries)


def test_a_statement_of_another_account_is_not_read() -> None:
    with pytest.raises(NotUnderstood, match="another account"):
        read(entry(), account=OF_SHOP.replace("DE89", "DE88"))
    with pytest.raises(NotUnderstood, match="no account"):
        Iso20022(None).bookings(f"{HEAD}{OF_SHOP}{TAIL}".encode())


NAMES = st.sampled_from(
    ["Ntry", "Amt", "CdtDbtInd", "Sts", "Cd", "AcctSvcrRef", "BookgDt", "Dt", "NtryDtls", "TxDtls", "Refs", "RmtInf"]
)
TEXTS = st.one_of(
    st.sampled_from(["BOOK", "CRDT", "12.50", "E1", "2026-11-27", ""]),
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20),
)
TREES = st.recursive(
    st.tuples(NAMES, TEXTS, st.just(())), lambda inner: st.tuples(NAMES, TEXTS, st.lists(inner, max_size=4)), max_leaves=30
)


def grow(parent: Element, tree: tuple[str, str, list[object]]) -> None:
    name, text, inner = tree
    element = SubElement(parent, name, Ccy="EUR")
    element.text = text
    for each in inner:
        grow(element, each)  # type: ignore[arg-type]


@given(st.lists(TREES, max_size=5))
def test_whatever_a_bank_sends_is_read_or_not_understood(trees: list[tuple[str, str, list[object]]]) -> None:
    holder = Element("holder")
    for tree in trees:
        grow(holder, tree)
    try:
        found = read("".join(tostring(each, encoding="unicode") for each in holder))
    except NotUnderstood:
        return
    assert all(one.amount.minor > 0 and 0 < len(one.id) <= 100 for one in found)


@given(st.binary(max_size=300))
def test_whatever_bytes_come_are_not_understood(document: bytes) -> None:
    for reading in (READER.bookings, reports_in):
        with pytest.raises(NotUnderstood):
            reading(document)


@pytest.mark.parametrize(
    ("status", "state"),
    [("ACCP", ProviderMovementState.PENDING), ("ACSC", ProviderMovementState.SUCCEEDED), ("RJCT", ProviderMovementState.FAILED)],
)
def test_reports_say_what_became_of_orders(status: str, state: ProviderMovementState) -> None:
    reason = "<StsRsnInf><Rsn><Cd>AC04</Cd></Rsn></StsRsnInf>" if status == "RJCT" else ""
    document = (
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"><CstmrPmtStsRpt><OrgnlPmtInfAndSts><TxInfAndSts>'
        f"<OrgnlEndToEndId>abc</OrgnlEndToEndId><TxSts>{status}</TxSts>{reason}"
        "</TxInfAndSts></OrgnlPmtInfAndSts></CstmrPmtStsRpt></Document>"
    )
    [found] = reports_in(document.encode())
    assert (found.end_to_end_id, found.state, found.reason) == ("abc", state, "AC04" if reason else None)
    with pytest.raises(NotUnderstood):
        reports_in(document.replace(status, "WHAT").encode())


WRITTEN = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), min_size=1, max_size=140)


@given(st.lists(st.tuples(WRITTEN, st.integers(1, 10**9), st.sampled_from(["EUR", "USD", "JPY"])), min_size=1, max_size=5))
def test_a_bank_reads_the_orders_that_we_write(given_orders: list[tuple[str, int, str]]) -> None:
    orders = [
        CreditTransfer(f"e{n}", Money.from_minor(minor, currency), name, "DE02120300000000202051", "RF18539007547034")
        for n, (name, minor, currency) in enumerate(given_orders)
    ]
    document = initiation(orders, ACCOUNT, "m1", datetime(2026, 11, 27, tzinfo=UTC))
    message, found = orders_in(document, ACCOUNT.iban)
    assert message == "m1"
    told = {one.end_to_end_id: (one.amount, one.currency, one.name) for one in found}
    assert told == {one.end_to_end_id: (*str(one.amount).split(), one.name) for one in orders}
