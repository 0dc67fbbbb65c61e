"""Whole nodes in virtual time: whom they let in, what they dial, and how much one address may ask for."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from peers.http1.client import request_head
from peers.http1.errors import Unreached, WrongKey
from peers.network.carrier import JSON
from peers.network.contact import NoContact
from peers.network.dialing import Address, DialPolicy
from peers.network.gate import BURST
from peers.network.identity import raw_key
from peers.network.sessions import Sessions, peer_sessions
from peers.network.signatures import Signed, content_digest, sign
from peers.network.tokens import Secret
from peers.upstreams.link import read_whole
from tests.pipes import virtual_connector
from tests.solipsism import VirtualNet, in_a_net
from tests.virtual_node import VirtualNode

GOSSIP = "/peer/v1/gossip"
OUTSIDE = Address("20.99.0.1", 4001)


# Who is let in


def test_a_node_of_another_network_is_refused(tmp_path: Path) -> None:
    async def knock(net: VirtualNet) -> None:
        right = net.up()
        stranger = net.add(secret=Secret(bytes(32)))
        net.start(stranger)
        await net.until(lambda: stranger.network, 5)
        await net.holds(lambda: stranger.fresh() == {stranger.id}, 10)
        assert all(stranger.id not in node.running.membership.table.members for node in right)

    in_a_net(knock, tmp_path, 3)


def test_another_key_than_the_one_that_is_pinned_is_told_nothing(tmp_path: Path) -> None:
    async def meet(net: VirtualNet) -> str:
        a, b, c = net.up()
        with pytest.raises(NoContact) as refused:
            await a.running.carrier.meet(b.address, c.id)
        with pytest.raises(WrongKey):
            await told(net, b, signed(a, b, b"{}"), b"{}", pin=c)
        assert net.traffic[OUTSIDE.host] == 0
        return refused.value.reason

    assert in_a_net(meet, tmp_path, 3) == "wrong_key"


def test_what_may_not_be_dialled_is_not(tmp_path: Path) -> None:
    async def dial(net: VirtualNet) -> str:
        tries: list[str] = []
        net.apart = lambda one, other: bool(tries.append(other))  # type: ignore[method-assign, func-returns-value]
        with pytest.raises(NoContact) as refused:
            await net.up()[0].running.carrier.meet(Address("10.0.0.5", 4001))
        assert "10.0.0.5" not in tries
        return refused.value.reason

    assert in_a_net(dial, tmp_path, 2) == "refused"


# What a listener takes


@asynccontextmanager
async def outside(net: VirtualNet) -> AsyncIterator[Sessions]:
    """A client at an address of no node."""
    async with peer_sessions(virtual_connector(net, OUTSIDE.host, DialPolicy())) as sessions:
        yield sessions


async def told(
    net: VirtualNet, to: VirtualNode, headers: dict[str, str], body: bytes, pin: VirtualNode | None = None
) -> str:
    """What `to` says to this request, sent over a connection that is pinned to its key, or to another's."""
    head, key = request_head("POST", GOSSIP, str(to.address), headers, len(body)), raw_key((pin or to).id)
    async with outside(net) as sessions:
        answer = await sessions.ask(to.address, key, head, body, connect=3, silence=3)
        await read_whole(answer, 1 << 20)
        return answer.headers.get("Masa-Error", str(answer.status))


def signed(sender: VirtualNode, to: VirtualNode, body: bytes) -> dict[str, str]:
    request = Signed("POST", GOSSIP, JSON, content_digest(body), to.id, "once", 3000)
    return dict(sign(request, sender.key, sender.id, sender.clock(), bytes(16)))


def test_a_signed_request_counts_once_and_for_whom_it_was_meant(tmp_path: Path) -> None:
    async def replay(net: VirtualNet) -> list[str]:
        a, b, c = net.up()
        body = b'{"clock":%d}' % int(a.clock())
        headers = signed(a, b, body)
        answers = [await told(net, to, headers, body) for to in (b, b, c)]
        answers.append(await told(net, b, signed(a, b, body), body + b" "))
        stranger = net.add(secret=Secret(bytes(32)))
        answers.append(await told(net, b, signed(stranger, b, body), body))
        a.skew = -300.0
        return [*answers, await told(net, b, signed(a, b, body), body)]

    answers = in_a_net(replay, tmp_path, 3)
    assert answers == ["200", "replay", "recipient", "digest", "unknown_peer", "clock"]


async def pinged(sessions: Sessions, node: VirtualNode) -> int:
    head = request_head("GET", "/peer/v1/ping", str(node.address), {"Masa-Nonce": "0" * 32}, None)
    answer = await sessions.ask(node.address, raw_key(node.id), head, b"", connect=3, silence=3)
    await read_whole(answer, 1 << 20)
    return answer.status


def test_one_address_gets_only_so_many_connections(tmp_path: Path) -> None:
    async def crowd(net: VirtualNet) -> list[object]:
        node = net.add(most_per_address=3)
        net.start(node)
        await net.until(net.whole, 20)
        async with outside(net) as sessions:
            return [*await asyncio.gather(*(pinged(sessions, node) for _ in range(5)), return_exceptions=True)]

    answers = in_a_net(crowd, tmp_path, 2)
    assert answers.count(200) == 3
    assert sum(isinstance(answer, Unreached) for answer in answers) == 2


def test_one_address_gets_only_so_many_pings(tmp_path: Path) -> None:
    async def flood(net: VirtualNet) -> Counter[int]:
        told: Counter[int] = Counter()
        async with outside(net) as sessions:
            for _ in range(25):  # fewer at a time than an address may have connections
                told.update(await asyncio.gather(*(pinged(sessions, net.nodes["n0"]) for _ in range(16))))
        return told

    answers = in_a_net(flood, tmp_path, 2)
    assert set(answers) == {200, 429}
    assert BURST <= answers[200] < 350
