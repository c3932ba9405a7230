"""The bank's documents: it writes camt.053, camt.054 and pain.002, and reads pain.001. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from simulators._refusals import Refused
from simulators.bank.books import Order, Row

URN = "urn:iso:std:iso:20022:tech:xsd:"
PAIN_001 = f"{URN}pain.001.001.09"
MOST_ORDERS = 1_000


def notification(name: str, iban: str, entries: Sequence[Row]) -> bytes:
    """What was booked, as it happens."""
    root, body = _document("camt.054.001.08", "BkToCstmrDbtCdtNtfctn", name)
    _account(SubElement(body, "Ntfctn"), name, iban, entries)
    return _bytes(root)


def statement(name: str, iban: str, entries: Sequence[Row], *, is_last: bool) -> bytes:
    """What was booked, page by page."""
    root, body = _document("camt.053.001.08", "BkToCstmrStmt", name)
    part = SubElement(body, "Stmt")
    page = SubElement(part, "StmtPgntn")
    _put(page, "PgNb", name)
    _put(page, "LastPgInd", "true" if is_last else "false")
    _account(part, name, iban, entries)
    return _bytes(root)


def report(name: str, order: Row, state: str, reason: str | None) -> bytes:
    """What became of an order."""
    root, body = _document("pain.002.001.10", "CstmrPmtStsRpt", name)
    group = SubElement(body, "OrgnlGrpInfAndSts")
    _put(group, "OrgnlMsgId", order["message_id"])
    _put(group, "OrgnlMsgNmId", "pain.001.001.09")
    part = SubElement(body, "OrgnlPmtInfAndSts")
    _put(part, "OrgnlPmtInfId", order["message_id"])
    one = SubElement(part, "TxInfAndSts")
    _put(one, "OrgnlEndToEndId", order["end_to_end_id"])
    _put(one, "TxSts", state)
    if reason:
        _put(one, "StsRsnInf/Rsn/Cd", reason)
    return _bytes(root)


def orders_in(body: bytes, iban: str) -> tuple[str, list[Order]]:
    """The MsgId of a pain.001, and its orders."""
    try:
        root: Element = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise Refused(400, "invalid_xml", "The body is no XML.") from error
    if root.tag != f"{{{PAIN_001}}}Document":
        raise Refused(422, "invalid_message", "A pain.001.001.09 is expected.")
    names = {"": PAIN_001}
    found = []
    for part in root.findall("CstmrCdtTrfInitn/PmtInf", names):
        if part.findtext("DbtrAcct/Id/IBAN", "", names) != iban:
            raise Refused(422, "invalid_account", "DbtrAcct: it is not yours.")
        for one in part.findall("CdtTrfTxInf", names):
            amount = one.find("Amt/InstdAmt", names)
            order = Order(
                one.findtext("PmtId/EndToEndId", "", names),
                (amount.text or "") if amount is not None else "",
                amount.get("Ccy", "") if amount is not None else "",
                one.findtext("CdtrAcct/Id/IBAN", "", names),
                one.findtext("Cdtr/Nm", "", names),
                one.findtext("RmtInf/Ustrd", "", names),
            )
            if not all(order) or len(order.end_to_end_id) > 35:
                raise Refused(422, "invalid_order", "EndToEndId, InstdAmt, Cdtr, CdtrAcct and RmtInf are required.")
            found.append(order)
    name = root.findtext("CstmrCdtTrfInitn/GrpHdr/MsgId", "", names)
    if not name or str(len(found)) != root.findtext("CstmrCdtTrfInitn/GrpHdr/NbOfTxs", "", names) or len(found) > MOST_ORDERS:
        raise Refused(422, "invalid_header", f"MsgId, and NbOfTxs of at most {MOST_ORDERS}, as many as there are.")
    return name, found


def _document(message: str, kind: str, name: str) -> tuple[Element, Element]:
    root = Element("Document", xmlns=f"{URN}{message}")
    body = SubElement(root, kind)
    head = SubElement(body, "GrpHdr")
    _put(head, "MsgId", name)
    _put(head, "CreDtTm", datetime.now(UTC).isoformat(timespec="seconds"))
    return root, body


def _account(part: Element, name: str, iban: str, entries: Sequence[Row]) -> None:
    _put(part, "Id", name)
    _put(part, "Acct/Id/IBAN", iban)
    for entry in entries:
        _entry(SubElement(part, "Ntry"), entry)


def _entry(at: Element, entry: Row) -> None:
    amount = SubElement(at, "Amt", Ccy=entry["currency"])
    amount.text = entry["amount"]
    _put(at, "CdtDbtInd", entry["side"])
    _put(at, "Sts/Cd", "BOOK")
    _put(at, "BookgDt/DtTm", entry["booked_at"])
    _put(at, "AcctSvcrRef", entry["id"])
    details = SubElement(SubElement(at, "NtryDtls"), "TxDtls")
    references = SubElement(details, "Refs")
    _put(references, "AcctSvcrRef", entry["id"])
    _put(references, "EndToEndId", entry["end_to_end_id"] or "NOTPROVIDED")
    parties = SubElement(details, "RltdPties")
    other = "Dbtr" if entry["side"] == "CRDT" else "Cdtr"
    _put(parties, f"{other}/Pty/Nm", entry["other_name"])
    _put(parties, f"{other}Acct/Id/IBAN", entry["other_iban"])
    if entry["words"] or entry["reference"]:
        remittance = SubElement(details, "RmtInf")
        if entry["words"]:
            _put(remittance, "Ustrd", entry["words"])
        if entry["reference"]:
            _put(remittance, "Strd/CdtrRefInf/Ref", entry["reference"])
    if entry["came_back"]:
        _put(details, "RtrInf/Rsn/Cd", entry["came_back"])


def _put(at: Element, path: str, text: str) -> None:
    for name in path.split("/"):
        at = SubElement(at, name)
    at.text = text


def _bytes(root: Element) -> bytes:
    document: bytes = tostring(root, encoding="UTF-8", xml_declaration=True)
    return document
