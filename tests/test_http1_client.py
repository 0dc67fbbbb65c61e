"""Whose connections live on, and what is asked again."""

import asyncio

import pytest

from peers.http1.errors import Dropped
from tests.http1_server import HELLO, LONG, SOON, hello, saying, serving
from tests.waiting import until


async def test_a_connection_serves_one_request_after_another() -> None:
    async with serving(hello) as (server, caller):
        for _ in range(5):
            assert await caller.told() == b"Hello"
        assert (server.connections, server.asked) == (1, 5)
        assert await asyncio.gather(*(caller.told() for _ in range(3))) == [b"Hello"] * 3
        assert server.connections == 3


@pytest.mark.parametrize(
    "data",
    [
        HELLO.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"),
        HELLO.replace(b"1.1", b"1.0"),
        HELLO + HELLO,
        HELLO + b"!",
        LONG % 3 + b"Hello",
    ],
)
async def test_a_connection_that_ends_or_holds_more_serves_no_other_request(data: bytes) -> None:
    async with serving(saying(data)) as (server, caller):
        for _ in range(3):
            answer = await caller.ask()
            assert (await answer.read()) in (b"Hello", b"Hel")
            await until(lambda answer=answer: answer.whole)
        assert server.connections == 3


async def test_what_comes_later_and_unasked_ends_the_connection() -> None:
    async with serving(hello) as (server, caller):
        await caller.told()
        next(iter(server.open)).write(HELLO.replace(b"Hello", b"Wrong"))
        await until(lambda: not server.open)
        assert await caller.told() == b"Hello"
        assert server.connections == 2


async def test_an_idle_connection_is_closed_in_time() -> None:
    async with serving(hello, kept=SOON) as (server, caller):
        await caller.told()
        assert server.open
        await until(lambda: not server.open)
        assert await caller.told() == b"Hello"


async def test_a_kept_connection_that_was_closed_meanwhile_is_made_anew_once() -> None:
    async def once_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        if number:
            writer.close()
        else:
            writer.write(HELLO)

    async with serving(once_each) as (server, caller):
        for _ in range(3):
            assert await caller.told() == b"Hello"
        assert (server.connections, server.asked) == (3, 5)


async def test_an_answer_that_has_begun_is_never_asked_for_again() -> None:
    async def half_a_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(HELLO[:9] if number else HELLO)
        if number:
            writer.close()

    async with serving(half_a_head) as (server, caller):
        await caller.told()
        with pytest.raises(Dropped):
            await caller.told()
        assert server.asked == 2


async def test_a_new_connection_that_is_closed_is_not_made_again() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        writer.close()

    async with serving(never) as (server, caller):
        with pytest.raises(Dropped):
            await caller.told()
        assert server.asked == 1
