"""Looks whether anything personal is left, wherever it may lie: in any column of any table of a database."""

from collections.abc import Iterable

import asyncpg

_TABLES = "select table_name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE'"
_BYTES = """select table_name, column_name from information_schema.columns
            where table_schema = 'public' and data_type = 'bytea'"""


async def found_in(database_url: str, words: Iterable[str]) -> list[str]:
    """Which of the words stand in a database, whatever their case: each with its table and row."""
    wanted = list(words)
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        found = []
        binary = [(row[0], row[1]) for row in await connection.fetch(_BYTES)]
        for (table,) in await connection.fetch(_TABLES):
            texts = ["cast(t as text)", *(f"encode(t.\"{column}\", 'escape')" for of, column in binary if of == table)]
            query = f"""select word, left({" || ' ' || ".join(f"coalesce({text}, '')" for text in texts)}, 600)
                        from "{table}" t, unnest($1::text[]) as word
                        where {" or ".join(f"position(lower(word) in lower({text})) > 0" for text in texts)}"""
            found += [f"{table} has {word!r}: {row}" for word, row in await connection.fetch(query, wanted)]
        return found
    finally:
        await connection.close()
