"""Sessions between real nodes: made once a peer is asked often, used from then on, never in a request's way."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from handlers import between
from handlers.between import BETWEEN
from peers.network import gate, pairs
from peers.network.certificates import issue
from peers.network.contact import Answer
from peers.network.identity import load_identity, node_id
from peers.network.pairs import HeldSessions
from peers.network.stake import Certificates
from tests.contest import plainly
from tests.fleet import QUIET, address_of, all_know_all
from tests.nodes import Running, running
from tests.peers import Peer, peer, rounds
from tests.test_certificates import AUTHORITY, NETWORK
from tests.test_deny import revoked
from tests.victims import victim
from tests.visiting import visiting
from tests.waiting import until

CALLS = "/peer/v1/calls"


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each way of checking a sender was gone, and how many sessions were asked for."""
    counter: Counter[str] = Counter()

    def counted(module: Any, name: str, as_: str) -> None:
        act = getattr(module, name)

        def count(*arguments: Any) -> Any:
            counter[as_] += 1
            return act(*arguments)

        monkeypatch.setattr(module, name, count)

    counted(gate, "check_signature", "own key")
    counted(pairs, "check_mac", "session")
    counted(between, "answered", "handshake")
    return counter


@dataclass
class AtTheDoor:
    """What answers who asks for a session."""

    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> AtTheDoor:
    at = AtTheDoor(between.session)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await at.handler(request)

    monkeypatch.setattr(between, "session", answer)
    return at


@pytest.fixture
async def two(tmp_path: Path, door: AtTheDoor) -> AsyncIterator[tuple[Peer, Peer]]:
    async with plainly(), peer(tmp_path / "a") as a, peer(tmp_path / "b") as b:
        await a.network.carrier.meet(b.address)
        yield a, b


async def asked(one: Peer, other: Peer, times: int = 1) -> list[Answer]:
    """So many requests at once."""
    post, kind = one.network.contact.post, "application/json"
    return await asyncio.gather(
        *(post(other.id, other.address, CALLS, b"{}", content_type=kind, within=5) for _ in range(times))
    )


async def paired(one: Peer, other: Peer) -> None:
    async def has_one() -> bool:
        await asked(one, other)
        return has_session(one, other)

    await until(has_one)


def has_session(one: Peer, other: Peer) -> bool:
    known = one.network.contact.agreed._peers.get(other.id)
    return known is not None and known.session is not None


async def test_a_session_is_used_after_the_first_requests(two: tuple[Peer, Peer], checked: Counter[str]) -> None:
    await asked(*two)
    await asked(*two)
    await until(lambda: has_session(*two))
    before = checked.copy()
    assert (before["handshake"], before["session"]) == (1, 0)
    for _ in range(20):
        assert [one.status for one in await asked(*two)] == [200]
    assert {answer.status for answer in await asked(*two, times=50)} == {200}
    assert checked - before == {"session": 70}


async def test_requests_that_leave_at_once_wait_for_no_handshake_and_make_one(
    two: tuple[Peer, Peer], checked: Counter[str], door: AtTheDoor
) -> None:
    go, session = asyncio.Event(), door.handler

    async def held(request: web.Request) -> web.StreamResponse:
        await go.wait()
        return await session(request)

    door.handler = held
    assert {answer.status for answer in await asked(*two, times=50)} == {200}
    assert (checked["handshake"], checked["session"]) == (0, 0)
    go.set()
    await until(lambda: has_session(*two))
    assert checked["handshake"] == 1


async def test_each_direction_has_its_own(two: tuple[Peer, Peer], checked: Counter[str]) -> None:
    a, b = two
    await paired(a, b)
    assert not has_session(b, a)
    await paired(b, a)
    before = checked.copy()
    await asked(a, b)
    await asked(b, a)
    assert checked - before == {"session": 2}


async def test_gossip_uses_it(tmp_path: Path, checked: Counter[str]) -> None:
    async with peer(tmp_path / "a") as a, peer(tmp_path / "b", bootnodes=(str(a.address),)) as b:
        await rounds([a, b], lambda: checked["session"] > 3 and has_session(a, b) and has_session(b, a))
        assert a.sees() == {b.id}


@pytest.mark.parametrize("ahead", [-400.0, 400.0])
async def test_clocks_may_differ(
    tmp_path: Path, checked: Counter[str], monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    monkeypatch.setattr(pairs, "PAUSE", 0.0)  # the first try of who is not known yet is refused
    async with plainly(), AsyncExitStack() as stack:
        a, *right = [await stack.enter_async_context(peer(tmp_path / str(number))) for number in range(3)]
        for one in right:
            await one.network.carrier.meet(a.address)
        known = tuple(str(one.address) for one in (a, *right))
        wrong = peer(tmp_path / "wrong", clock=lambda: time.time() + ahead, bootnodes=known)
        b = await stack.enter_async_context(wrong)
        await rounds([a, *right, b], lambda: b.id in a.sees() and a.id in b.network.membership.table.members)
        for one, other in ((a, b), (b, a)):
            await paired(one, other)
            before = checked.copy()
            assert {answer.status for answer in await asked(one, other, times=9)} == {200}
            assert checked - before == {"session": 9}


async def test_a_peer_that_forgot_it_loses_nothing(
    tmp_path: Path, checked: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart: every request that was signed by it is signed anew at once, and a new one is made."""
    monkeypatch.setattr(pairs, "PAUSE", 0.0)
    async with victim(tmp_path / "a") as (b, server), peer(tmp_path / "b") as a:
        await a.network.carrier.meet(b.address)
        await paired(a, b)
        server.app[BETWEEN].gate.sessions = HeldSessions()
        before = checked.copy()
        assert {answer.status for answer in await asked(a, b, times=20)} == {200}
        assert (checked - before)["own key"] >= 20
        await paired(a, b)
        before = checked.copy()
        await asked(a, b)
        assert checked - before == {"session": 1}


async def gone(request: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound


async def nonsense(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"x" * 116)


@pytest.mark.parametrize("answer", [gone, nonsense])
async def test_a_peer_without_sessions_is_spoken_to_all_the_same_and_asked_once(
    two: tuple[Peer, Peer], checked: Counter[str], door: AtTheDoor, answer: Any
) -> None:
    tries = 0

    async def counted(request: web.Request) -> web.StreamResponse:
        nonlocal tries
        tries += 1
        return await answer(request)

    door.handler = counted
    for _ in range(10):
        assert {one.status for one in await asked(*two, times=5)} == {200}
    assert (tries, checked["session"], checked["own key"]) == (1, 0, 50)


async def test_the_session_of_who_was_revoked_ends_at_once(tmp_path: Path, checked: Counter[str]) -> None:
    async with plainly(), AsyncExitStack() as stack:
        some = []
        for number in range(2):
            me = node_id(await asyncio.to_thread(load_identity, tmp_path / str(number)))
            sealed = issue(AUTHORITY, me, time.time(), bytes([number] * 8))
            stake = Certificates(NETWORK, sealed)
            some.append(await stack.enter_async_context(peer(tmp_path / str(number), stake=stake, strangers=True)))
        bad, good = some
        await bad.network.carrier.meet(good.address)
        await paired(bad, good)
        assert [one.status for one in await asked(bad, good)] == [200]
        before = checked.copy()
        good.network.membership.deny(revoked(bad), time.time())
        assert [one.refused for one in await asked(bad, good, times=3)] == ["unknown_peer"] * 3
        assert checked == before


async def test_a_restart_loses_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same node at the same port, which its peer goes on asking by a session that is forgotten."""
    monkeypatch.setattr(pairs, "PAUSE", 0.0)
    async with plainly(), AsyncExitStack() as stack:
        for name in ("a", "b"):
            await asyncio.to_thread((tmp_path / name).mkdir)
        a = await stack.enter_async_context(running(tmp_path / "a", **QUIET))
        await a.node.joined.settled()
        old = None
        for _ in range(2):
            async with running(tmp_path / "b", **QUIET, BOOTNODES=address_of(a)) as b:
                await b.node.joined.settled()
                await until(partial(all_know_all, [a, b]))
                async with visiting(a, b) as visitor:
                    for _ in range(5):
                        assert await visitor.calls() == {}  # each is answered with 200
                    known = visitor.contact.agreed._peers[b.node.who.id]
                    await until(lambda: known.session not in (None, old))  # noqa: B023 - asked at once
                    assert (refusals(b)["session"] > 0) is (old is not None)
                    old = known.session


def refusals(one: Running) -> Counter[str]:
    assert one.node.joined.network is not None
    return one.node.joined.network.traffic.refused
