"""The proxy between two parts, on a real echo server."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from testing.proxy import Link
from tests.conftest import PATIENCE_S

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with Link() as link:
        server = await asyncio.start_server(echo, "127.0.0.1", link.target_port)
        async with server:
            yield link


async def connected(link: Link) -> Streams:
    return await asyncio.open_connection("127.0.0.1", link.port)


async def echoed(streams: Streams, word: bytes) -> float:
    """Seconds until the word has come back."""
    reader, writer = streams
    began = time.monotonic()
    writer.write(word)
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.readexactly(len(word)) == word
    return time.monotonic() - began


async def test_a_healthy_link_passes_everything_on_and_the_end_too(link: Link) -> None:
    reader, writer = streams = await connected(link)
    await echoed(streams, b"x" * 300_000)
    writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read() == b""


async def test_a_slow_link_delays_both_directions_until_it_is_healed(link: Link) -> None:
    streams = await connected(link)
    link.slow(0.1)
    assert await echoed(streams, b"slow") >= 0.2
    link.heal()
    await echoed(streams, b"fast")


async def test_a_dead_link_keeps_what_is_sent_until_it_is_healed(link: Link) -> None:
    old = await connected(link)
    await echoed(old, b"before")
    link.silence()
    new = await connected(link)
    waiting = [asyncio.create_task(echoed(streams, b"meanwhile")) for streams in (old, new)]
    done, _ = await asyncio.wait(waiting, timeout=0.2)
    assert not done
    link.heal()
    await asyncio.gather(*waiting)


async def test_a_broken_link_resets_old_and_new_connections_until_it_is_healed(link: Link) -> None:
    old = await connected(link)
    await echoed(old, b"before")
    link.reset()
    for streams in (old, await connected(link)):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await echoed(streams, b"lost")
    link.heal()
    await echoed(await connected(link), b"after")


async def test_a_link_to_nobody_breaks_the_connection(link: Link) -> None:
    async with Link() as nobody_behind:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await echoed(await connected(nobody_behind), b"lost")
