"""Whole nodes in virtual time: whom they let in, what they dial, and how much one address may ask for."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from peers.network.carrier import JSON
from peers.network.contact import NoContact
from peers.network.dialing import Address, DialPolicy
from peers.network.gate import BURST
from peers.network.identity import raw_key
from peers.network.sessions import peer_sessions
from peers.network.signatures import Signed, content_digest, sign
from peers.network.tls import NodePin
from peers.network.tokens import Secret
from tests.pipes import VirtualConnector
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
        await asyncio.sleep(10)
        assert stranger.fresh() == {stranger.id}
        assert all(stranger.id not in node.running.membership.table.members for node in right)

    in_a_net(knock, tmp_path, 3)


def test_another_key_than_the_one_that_is_pinned_is_told_nothing(tmp_path: Path) -> None:
    async def meet(net: VirtualNet) -> str:
        a, b, c = net.up()
        with pytest.raises(NoContact) as refused:
            await a.running.carrier.meet(b.address, c.id)
        with pytest.raises(aiohttp.ServerFingerprintMismatch):
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
async def outside(net: VirtualNet) -> AsyncIterator[aiohttp.ClientSession]:
    """A client at an address of no node."""
    async with peer_sessions(DialPolicy(), partial(VirtualConnector, net, OUTSIDE.host)) as sessions:
        yield sessions.to(Address("10.0.0.1", 4001))


async def told(
    net: VirtualNet, to: VirtualNode, headers: dict[str, str], body: bytes, pin: VirtualNode | None = None
) -> str:
    """What `to` says to this request, sent over a connection that is pinned to its key, or to another's."""
    check = NodePin(raw_key((pin or to).id))
    url = f"https://{to.address}{GOSSIP}"
    async with outside(net) as session, session.post(url, data=body, headers=headers, ssl=check) as answer:
        await answer.read()
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


async def pinged(session: aiohttp.ClientSession, node: VirtualNode) -> int:
    async with session.get(f"https://{node.address}/peer/v1/ping", headers={"Masa-Nonce": "0" * 32}) as answer:
        return answer.status


def test_one_address_gets_only_so_many_connections(tmp_path: Path) -> None:
    async def crowd(net: VirtualNet) -> list[object]:
        node = net.add(most_per_address=3)
        net.start(node)
        await net.until(net.whole, 20)
        async with outside(net) as session:
            return [*await asyncio.gather(*(pinged(session, node) for _ in range(5)), return_exceptions=True)]

    answers = in_a_net(crowd, tmp_path, 2)
    assert answers.count(200) == 3
    assert sum(isinstance(answer, aiohttp.ClientConnectorError) for answer in answers) == 2


def test_one_address_gets_only_so_many_pings(tmp_path: Path) -> None:
    async def flood(net: VirtualNet) -> Counter[int]:
        told: Counter[int] = Counter()
        async with outside(net) as session:
            for _ in range(25):  # fewer at a time than an address may have connections
                told.update(await asyncio.gather(*(pinged(session, net.nodes["n0"]) for _ in range(16))))
        return told

    answers = in_a_net(flood, tmp_path, 2)
    assert set(answers) == {200, 429}
    assert BURST <= answers[200] < 350
