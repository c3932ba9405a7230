"""The bank's own books: the shop's account, by its statements (camt.053), as the audit compares it."""

import re
from collections.abc import AsyncIterator
from datetime import datetime
from xml.etree.ElementTree import Element

import aiohttp
from defusedxml.ElementTree import fromstring

from audit.books import BankRow

PAGE = "1000"
"""Entries of one statement."""
_NAMESPACE = re.compile(r"\{(urn:iso:std:iso:20022:tech:xsd:camt\.053\.001\.\d{2})\}Document")


class BankBooks:
    """Reads them, page after page."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str, iban: str) -> None:
        self._http, self._url, self._headers = http, url.rstrip("/"), {"Authorization": f"Bearer {key}"}
        self._iban = iban

    async def entries(self) -> AsyncIterator[BankRow]:
        """All entries that are booked, the oldest first. ValueError: it is no statement, or of another account."""
        cursor: str | None = "0"
        while cursor is not None:
            params = {"limit": PAGE, "cursor": cursor}
            async with self._http.get(f"{self._url}/v1/statements", params=params, headers=self._headers) as response:
                response.raise_for_status()
                cursor = response.headers.get("Next-Cursor")
                for row in rows_in(await response.read(), self._iban):
                    yield row


def rows_in(statement: bytes, iban: str) -> list[BankRow]:
    """The entries of a statement. ValueError: it is none, or of another account. Pure."""
    root: Element = fromstring(statement, forbid_dtd=True)
    found = _NAMESPACE.fullmatch(root.tag)
    if found is None:
        raise ValueError("the bank's answer is no camt.053")
    names = {"": found[1]}
    rows = []
    for part in root.findall("BkToCstmrStmt/Stmt", names):
        if part.findtext("Acct/Id/IBAN", "", names) != iban:
            raise ValueError("the bank's statement is of another account")
        rows += [_row(entry, names) for entry in part.findall("Ntry", names)]
    return rows


def _row(entry: Element, names: dict[str, str]) -> BankRow:
    amount, details = entry.find("Amt", names), entry.find("NtryDtls/TxDtls", names)
    if amount is None or details is None:
        raise ValueError("an entry of the bank's has no amount, or no details")
    return BankRow(
        entry_id=entry.findtext("AcctSvcrRef", "", names),
        is_credit=entry.findtext("CdtDbtInd", "", names) == "CRDT",
        amount=amount.text or "",
        currency=amount.get("Ccy", ""),
        end_to_end_id=details.findtext("Refs/EndToEndId", None, names),
        came_back=details.find("RtrInf", names) is not None,
        booked_at=datetime.fromisoformat(entry.findtext("BookgDt/DtTm", "", names)),
    )
