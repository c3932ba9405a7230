"""A mailbox over IMAP (RFC 3501): as much of it as it takes to fetch new mails, flag them, and delete them."""

from __future__ import annotations

import asyncio
import hmac
import re
import shlex
import sqlite3
from collections.abc import Callable

SCHEMA = """
CREATE TABLE IF NOT EXISTS reports (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    raw TEXT NOT NULL,
    is_seen INTEGER NOT NULL DEFAULT 0,
    is_deleted INTEGER NOT NULL DEFAULT 0
);
"""
LONGEST_LINE = 8192
_PARTIAL = re.compile(r"BODY\.PEEK\[\](?:<0\.(\d{1,9})>)?", re.IGNORECASE)


class ImapMailbox:
    """One conversation after another, each on a connection of its own."""

    def __init__(self, ledger: sqlite3.Connection, user: str, password: str) -> None:
        self._ledger, self._login = ledger, (user, password)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"* OK ready\r\n")
            is_in = False
            while line := (await reader.readline())[:LONGEST_LINE].decode("ascii", "replace").strip():
                tag, _, command = line.partition(" ")
                name, *arguments = words(command)
                if name == "LOGOUT":
                    writer.write(f"* BYE\r\n{tag} OK bye\r\n".encode())
                    break
                if name == "LOGIN" and len(arguments) == 2:
                    is_in = all(map(hmac.compare_digest, map(str.encode, arguments), map(str.encode, self._login)))
                    writer.write(f"{tag} {'OK' if is_in else 'NO'} login\r\n".encode())
                elif name in ("CAPABILITY", "NOOP"):
                    writer.write(f"* CAPABILITY IMAP4rev1\r\n{tag} OK done\r\n".encode())
                elif not is_in:
                    writer.write(f"{tag} NO log in first\r\n".encode())
                else:
                    writer.write(self._answer(name, arguments) + f"{tag} OK done\r\n".encode())
                await writer.drain()
            await writer.drain()
        except (ConnectionError, ValueError, IndexError):
            pass  # it hung up, or spoke something else
        finally:
            writer.close()

    def _answer(self, name: str, arguments: list[str]) -> bytes:
        count: int = self._ledger.execute("SELECT COUNT(*) FROM reports").fetchone()[0]
        if name == "SELECT":
            return f"* FLAGS (\\Seen \\Deleted)\r\n* {count} EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 1]\r\n".encode()
        if name == "EXPUNGE":
            self._ledger.execute("DELETE FROM reports WHERE is_deleted = 1")
            return b""
        if name != "UID":
            return b""
        does: dict[str, Callable[[list[str]], bytes]] = {"SEARCH": self._search, "FETCH": self._fetch, "STORE": self._store}
        return does[arguments[0].upper()](arguments[1:])

    def _search(self, arguments: list[str]) -> bytes:
        rows = self._ledger.execute("SELECT id FROM reports WHERE is_seen = 0 AND is_deleted = 0 ORDER BY id").fetchall()
        return ("* SEARCH " + " ".join(str(row["id"]) for row in rows)).rstrip().encode() + b"\r\n"

    def _fetch(self, arguments: list[str]) -> bytes:
        row = self._ledger.execute("SELECT * FROM reports WHERE id = ?", (int(arguments[0]),)).fetchone()
        found = _PARTIAL.search(arguments[1])
        if row is None or found is None:
            return b""
        raw: bytes = row["raw"].replace("\n", "\r\n").encode()
        part = raw[: int(found[1])] if found[1] else raw
        origin = "<0>" if found[1] else ""
        head = f"* {row['id']} FETCH (UID {row['id']} BODY[]{origin} {{{len(part)}}}\r\n"
        return head.encode() + part + b")\r\n"

    def _store(self, arguments: list[str]) -> bytes:
        flags = arguments[2].casefold()
        for column, flag in (("is_seen", "\\seen"), ("is_deleted", "\\deleted")):
            if flag in flags:
                self._ledger.execute(f"UPDATE reports SET {column} = 1 WHERE id = ?", (int(arguments[0]),))  # noqa: S608
        return b""


def words(command: str) -> list[str]:
    """The name in capitals, and the arguments; what stands in brackets is one."""
    bracketed = re.sub(r"\(([^)]*)\)", lambda found: '"' + found[1].replace("\\", "\\\\") + '"', command)
    name, *arguments = shlex.split(bracketed)
    return [name.upper(), *arguments]
