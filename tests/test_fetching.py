"""Model lists between real nodes over TLS: fetched by `identify`, when the record says that they changed."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from peers.network.carrier import Identify
from peers.network.catalogue import PAUSE
from peers.network.fetching import Fetching
from peers.network.offers import write
from peers.network.tokens import Secret
from peers.wire import Dialect, Model
from tests.peers import Peer, fetch, offer, peer, rounds
from tests.waiting import until

ALL: frozenset[Dialect] = frozenset({"anthropic", "ollama", "openai"})
LLAMA = Model("llama3:latest", ALL, "a" * 64, 8192, ("completion", "tools"), True, 4_661_224_676)
QWEN = Model("qwen3", frozenset({"openai"}))

Start = Callable[..., Awaitable[Peer]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:
        names = iter("abcdefgh")

        async def one(**options: Any) -> Peer:
            name = next(names)
            return await stack.enter_async_context(peer(tmp_path / name, name=name, **options))

        yield one


def fetched(one: Peer, other: Peer) -> tuple[Model, ...]:
    return one.network.fetching.catalogue.models(other.id)


def later(fetching: Fetching, seconds: float) -> None:
    clock = fetching.clock
    fetching.clock = lambda: clock() + seconds


async def test_a_list_is_fetched_and_fetched_again_when_it_changes(start: Start) -> None:
    a, b = await start(), await start()
    offer(b, LLAMA)
    await a.network.carrier.meet(b.address)
    await fetch(a)
    assert fetched(a, b) == (LLAMA,)
    assert [one.node for one in a.network.membership.roster.serving("llama3:latest", time.time())] == [b.id]
    offer(b, LLAMA, QWEN)
    await rounds([a, b], lambda: a.network.membership.table.members[b.id].record.models.count == 2)
    await fetch(a)
    assert fetched(a, b) == (LLAMA,)
    later(a.network.fetching, PAUSE)
    await fetch(a)
    assert fetched(a, b) == (LLAMA, QWEN)


async def test_the_record_that_comes_with_the_list_is_the_one_that_counts(start: Start) -> None:
    a, b = await start(), await start()
    offer(b, LLAMA)
    await a.network.carrier.meet(b.address)
    offer(b, QWEN)
    await fetch(a)
    assert fetched(a, b) == (QWEN,)


async def test_all_of_six_nodes_know_all_lists(start: Start) -> None:
    first = await start()
    peers = [first, *[await start(bootnodes=(str(first.address),)) for _ in range(5)]]
    for number, one in enumerate(peers):
        offer(one, Model(f"m{number}", ALL))

    await rounds(peers, lambda: all(len(one.sees()) == 5 for one in peers))
    for one in peers:
        await fetch(one)
        known = {other.id: [model.name for model in fetched(one, other)] for other in peers if other is not one}
        assert known == {other.id: [f"m{number}"] for number, other in enumerate(peers) if other is not one}


async def test_a_list_that_is_not_what_the_record_says_is_not_taken(start: Start) -> None:
    a, b = await start(), await start()
    offer(b, LLAMA)
    b.network.fetching.catalogue.told = write([QWEN])[1]
    await a.network.carrier.meet(b.address)
    await fetch(a)
    assert fetched(a, b) == ()
    b.network.fetching.catalogue.told = write([LLAMA])[1]
    await fetch(a)
    assert fetched(a, b) == ()
    later(a.network.fetching, PAUSE)
    await fetch(a)
    assert fetched(a, b) == (LLAMA,)


async def test_who_stops_offering_is_forgotten(start: Start) -> None:
    a, b = await start(), await start()
    offer(b, LLAMA)
    await a.network.carrier.meet(b.address)
    await fetch(a)
    offer(b)
    await rounds([a, b], lambda: not a.network.membership.table.members[b.id].record.models.count)
    await fetch(a)
    assert fetched(a, b) == ()
    assert not a.network.membership.roster.serving("llama3:latest", time.time())


async def test_the_list_of_a_node_that_cannot_be_reached_is_kept_meanwhile(start: Start, tmp_path: Path) -> None:
    a = await start()
    async with peer(tmp_path / "gone") as b:
        offer(b, LLAMA)
        await a.network.carrier.meet(b.address)
        await fetch(a)
        offer(b, QWEN)
        record = b.network.membership.sealed
        b.network.membership.leave = lambda now: []  # type: ignore[method-assign]
    await until(lambda: not a.network.sessions.connections)
    a.network.membership.introduced(record, time.time())
    later(a.network.fetching, PAUSE)
    await fetch(a)
    assert fetched(a, b) == (LLAMA,)


async def test_what_was_fetched_ends_with_the_network(tmp_path: Path, start: Start) -> None:
    b = await start()
    offer(b, LLAMA)
    async with peer(tmp_path / "leaves") as a:
        await a.network.carrier.meet(b.address)
        await fetch(a)
        assert fetched(a, b) == (LLAMA,)
        later(a.network.fetching, PAUSE)
        offer(b, QWEN)
        a.network.membership.introduced(b.network.membership.sealed, time.time())
        a.network.fetching.round()
        assert a.network.fetching.busy
    assert fetched(a, b) == ()
    said = b.network.membership.announcer.record.models
    assert a.network.fetching.catalogue.wanted([(b.id, said)], 0) == [b.id]


async def test_the_list_is_told_to_members_that_ask_for_it(start: Start) -> None:
    a, b, stranger = await start(), await start(), await start(secret=Secret(bytes(32)))
    offer(b, LLAMA)

    async def told(one: Peer, **asked: bool) -> tuple[int, set[str]]:
        body = msgspec.json.encode(Identify(one.network.membership.sealed, **asked))
        answer = await one.network.carrier._contact.post(
            b.id, b.address, "/peer/v1/identify", body, content_type="application/json", within=3
        )
        return answer.status, set(json.loads(answer.body))

    assert await told(a) == (200, {"record", "seen"})
    assert await told(a, models=True) == (200, {"record", "seen", "models"})
    status, keys = await told(stranger, models=True)
    assert (status, keys & {"record", "models"}) == (403, set())
