"""The bank's documents, in ISO 20022: what was booked (camt.053, camt.054), what became of our orders (pain.002), and the orders
themselves (pain.001). Pure.

Elements are found by their local names: banks differ in the version of a message, and in what they add to it. A document with a
DTD is not read at all; with it go entities and whatever else could make a small one large.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from itertools import groupby
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from chassis.clients import NotUnderstood
from contracts.money import Money
from services.payment.model import TransferAccount
from services.payment.ports import Booking, CreditTransfer, OrderReport, ProviderMovementState

LARGEST = 5_000_000
"""Bytes of a document that is looked at."""
_URN = "urn:iso:std:iso:20022:tech:xsd:"
_PAIN_001 = f"{_URN}pain.001.001.09"
_NAMESPACE = re.compile(rf"\{{{_URN}([a-z]{{4}}\.\d{{3}})\.\d{{3}}\.\d{{2}}\}}Document")
_STATEMENTS = {"camt.053": "BkToCstmrStmt/Stmt", "camt.054": "BkToCstmrDbtCdtNtfctn/Ntfctn"}
_STATES = {
    **dict.fromkeys(("RCVD", "ACTC", "ACCP", "ACSP", "ACWC", "ACFC", "PDNG"), ProviderMovementState.PENDING),
    **dict.fromkeys(("ACSC", "ACCC"), ProviderMovementState.SUCCEEDED),
    **dict.fromkeys(("RJCT", "CANC"), ProviderMovementState.FAILED),
}


# ── What was booked ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Iso20022:
    """A `Statements`, of one account."""

    def __init__(self, account: TransferAccount | None) -> None:
        self._account = account

    def bookings(self, document: bytes) -> Sequence[Booking]:
        if self._account is None:
            raise NotUnderstood("the shop takes no transfers: it has no account here")
        kind, root = _read(document)
        if kind not in _STATEMENTS:
            raise NotUnderstood(f"a statement is expected, camt.053 or camt.054, and not {kind}")
        found: list[Booking] = []
        for statement in root.findall(_STATEMENTS[kind]):
            iban = _text(statement, "Acct/Id/IBAN")
            if iban != self._account.iban:
                raise NotUnderstood("the statement is of another account")
            for entry in statement.findall("Ntry"):
                found += _of_entry(entry)
        return found


def _of_entry(entry: Element) -> Iterator[Booking]:
    """An entry is one transaction, or sums up several. What is only expected is not booked."""
    if (_text(entry, "Sts/Cd") or _text(entry, "Sts")) != "BOOK":
        return
    own = _text(entry, "AcctSvcrRef")
    booked_at = _time(_text(entry, "BookgDt/DtTm") or _text(entry, "BookgDt/Dt"))
    details = entry.findall("NtryDtls/TxDtls")
    for number, one in enumerate(details or [entry], 1):
        part = own if len(details) < 2 else own and f"{own}/{number}"
        yield _booking(entry, one, _text(one, "Refs/AcctSvcrRef") or part, booked_at, is_only=len(details) < 2)


def _booking(entry: Element, one: Element, name: str | None, booked_at: datetime, *, is_only: bool) -> Booking:
    if not name or len(name) > 100:
        raise NotUnderstood("an entry has no reference of the bank's own (AcctSvcrRef): it could not be told from a repeated one")
    side = _text(one, "CdtDbtInd") or _text(entry, "CdtDbtInd")
    if side not in ("CRDT", "DBIT"):
        raise NotUnderstood(f"entry {name}: neither credit nor debit")
    amount = one.find("Amt") if one is not entry else None
    if amount is None:
        if not is_only:
            raise NotUnderstood(f"entry {name} sums up several, and does not say how much each is")
        amount = entry.find("Amt")
    end_to_end_id = _text(one, "Refs/EndToEndId")
    stated = [_text(structured, "CdtrRefInf/Ref") for structured in one.findall("RmtInf/Strd")]
    words = " ".join(part.text or "" for part in one.findall("RmtInf/Ustrd"))
    payer = _text(one, "RltdPties/Dbtr/Pty/Nm") or _text(one, "RltdPties/Dbtr/Nm")
    return Booking(
        id=name,
        amount=_money(amount, name),
        is_credit=side == "CRDT",
        booked_at=booked_at,
        reference=next((reference.replace(" ", "").upper()[:35] for reference in stated if reference), None),
        words=words[:500] or None,
        name=payer and payer[:140],
        iban=_iban(_text(one, "RltdPties/DbtrAcct/Id/IBAN")),
        end_to_end_id=end_to_end_id if end_to_end_id and len(end_to_end_id) <= 35 else None,
        came_back=(_text(one, "RtrInf/Rsn/Cd") or _text(one, "RtrInf/Rsn/Prtry") or "unknown")[:100]
        if one.find("RtrInf") is not None
        else None,
    )


def _money(amount: Element | None, name: str) -> Money:
    text = (amount.text or "").strip() if amount is not None else ""
    try:
        if amount is None or not re.fullmatch(r"[0-9]{1,11}(\.[0-9]{1,5})?", text):
            raise ValueError
        money = Money(amount=Decimal(text).normalize(), currency=amount.get("Ccy", ""))
        whole = Money.from_minor(money.minor, money.currency)
    except (ValueError, InvalidOperation) as error:
        raise NotUnderstood(f"entry {name} has no amount of money") from error
    if whole != money or not money.minor:
        raise NotUnderstood(f"entry {name}: its amount is not of its currency's coins")
    return whole


def _iban(text: str | None) -> str | None:
    packed = (text or "").replace(" ", "").upper()
    return packed if re.fullmatch(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", packed) else None


def _time(text: str | None) -> datetime:
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError as error:
        raise NotUnderstood("an entry does not say when it was booked") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


# ── What became of our orders ────────────────────────────────────────────────────────────────────────────────────────────────


def reports_in(document: bytes) -> list[OrderReport]:
    """Raises NotUnderstood."""
    kind, root = _read(document)
    if kind != "pain.002":
        raise NotUnderstood(f"a report is expected, pain.002, and not {kind}")
    found = []
    for one in root.findall("CstmrPmtStsRpt/OrgnlPmtInfAndSts/TxInfAndSts"):
        name, state = _text(one, "OrgnlEndToEndId"), _STATES.get(_text(one, "TxSts") or "")
        if name is None or state is None:
            raise NotUnderstood("a report does not say of which order it is, or what became of that")
        reason = _text(one, "StsRsnInf/Rsn/Cd") or _text(one, "StsRsnInf/Rsn/Prtry")
        found.append(OrderReport(name[:35], state, reason and reason[:100]))
    return found


# ── Our orders ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def initiation(orders: Sequence[CreditTransfer], account: TransferAccount, message_id: str, now: datetime) -> bytes:
    """The document that asks for them (pain.001). They are paid from the shop's account, each for itself."""
    root = Element("Document", xmlns=_PAIN_001)
    body = SubElement(root, "CstmrCdtTrfInitn")
    head = SubElement(body, "GrpHdr")
    _put(head, "MsgId", message_id)
    _put(head, "CreDtTm", now.isoformat(timespec="seconds"))
    _put(head, "NbOfTxs", str(len(orders)))
    _put(head, "InitgPty/Nm", account.recipient)
    by_currency = groupby(sorted(orders, key=_currency), _currency)
    for number, (currency, group) in enumerate(by_currency, 1):
        part = SubElement(body, "PmtInf")
        _put(part, "PmtInfId", f"{message_id}-{number}")
        _put(part, "PmtMtd", "TRF")
        _put(part, "BtchBookg", "false")
        _put(part, "ReqdExctnDt/Dt", now.date().isoformat())
        _put(part, "Dbtr/Nm", account.recipient)
        debtor = _put(part, "DbtrAcct/Id/IBAN", account.iban)
        _put(debtor, "Ccy", currency)
        _put(part, "DbtrAgt/FinInstnId/Othr/Id", "NOTPROVIDED")
        for order in group:
            one = SubElement(part, "CdtTrfTxInf")
            _put(one, "PmtId/EndToEndId", order.end_to_end_id)
            amount = SubElement(SubElement(one, "Amt"), "InstdAmt", Ccy=currency)
            amount.text = f"{order.amount}".partition(" ")[0]
            _put(one, "Cdtr/Nm", order.name[:140])
            _put(one, "CdtrAcct/Id/IBAN", order.iban)
            _put(one, "RmtInf/Ustrd", order.words[:140])
    document: bytes = tostring(root, encoding="UTF-8", xml_declaration=True)
    return document


def _currency(order: CreditTransfer) -> str:
    return order.amount.currency


def _put(parent: Element, path: str, text: str) -> Element:
    """Add an element within elements of its own; returns the outermost."""
    outermost, *rest = path.split("/")
    first = at = SubElement(parent, outermost)
    for name in rest:
        at = SubElement(at, name)
    at.text = text
    return first


# ── Elements ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read(document: bytes) -> tuple[str, Element]:
    """What kind of message it is, e.g. `camt.054`, and the document. Raises NotUnderstood."""
    if len(document) > LARGEST:
        raise NotUnderstood(f"a document has more than {LARGEST} bytes")
    try:
        root: Element = fromstring(document, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise NotUnderstood("a document is no XML, or has a DTD") from error
    found = _NAMESPACE.fullmatch(root.tag)
    if found is None:
        raise NotUnderstood("a document is no message of ISO 20022")
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]
    return found[1], root


def _text(element: Element, path: str) -> str | None:
    found = element.find(path)
    return (found.text or "").strip() or None if found is not None else None
