"""A network by certificates, on running nodes: who is revoked is out within rounds, and stays out over a restart."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from peers.network.certificates import DAY, deny, issue, read_certificate
from peers.network.contact import NoContact, proof_text
from peers.network.identity import load_identity, node_id
from peers.network.stake import Certificates, SharedSecret
from peers.network.tokens import deny_list_text
from tests.peers import SECRET, Peer, peer, rounds
from tests.test_certificates import AUTHORITY, NETWORK, NODE, STRANGER

Start = Callable[..., Any]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a node with a certificate issued `ago` seconds before now."""
    async with AsyncExitStack() as stack:
        count = iter(range(100))

        async def one(ago: float = 0.0, **options: Any) -> Peer:
            number = next(count)
            folder = tmp_path / str(number)
            me = node_id(await asyncio.to_thread(load_identity, folder))
            sealed = issue(AUTHORITY, me, time.time() - ago, bytes([number] * 8))
            return await stack.enter_async_context(peer(folder, stake=Certificates(NETWORK, sealed), **options))

        yield one


def revoked(*peers: Peer, number: int = 1, key: Any = AUTHORITY) -> str:
    certificates = [one.network.stake.proof(one.network.stake.networks[0], 0.0) for one in peers]
    return deny_list_text(deny(key, number, [read_certificate(sealed).serial for sealed in certificates]))


def all_see_all(peers: list[Peer]) -> bool:
    return all(one.sees() == {other.id for other in peers} - {one.id} for one in peers)


async def three(start: Start) -> list[Peer]:
    first = await start()
    peers = [first, *[await start(bootnodes=(str(first.address),)) for _ in range(2)]]
    await rounds(peers, lambda: all_see_all(peers))
    return peers


async def test_who_is_revoked_is_out_within_rounds(start: Start) -> None:
    """Told at one node, the list goes round by gossip; what the revoked one asks is refused by all."""
    authority, other, bad = await three(start)
    authority.network.membership.deny(revoked(bad), time.time())
    assert bad.id not in authority.sees()
    assert await rounds([authority, other, bad], lambda: bad.id not in other.sees()) <= 8
    for one in (authority, other):
        with pytest.raises(NoContact) as refused:
            await bad.network.carrier.meet(one.address)
        assert refused.value.reason == "not_staked"
        with pytest.raises(NoContact) as refused:
            await one.network.carrier.meet(bad.address)
        assert (refused.value.reason, str(refused.value)) == ("revoked", "its certificate was revoked")
    await rounds([authority, other], lambda: authority.sees() == {other.id} and other.sees() == {authority.id})


async def test_a_newer_list_lets_a_new_certificate_in_and_an_older_one_changes_nothing(start: Start) -> None:
    authority, other, bad = await three(start)
    authority.network.membership.deny(revoked(bad, number=5), time.time())
    await rounds([authority, other], lambda: bad.id not in other.sees())
    authority.network.membership.deny(revoked(number=4), time.time())
    assert bad.id not in authority.sees()
    bad.network.stake.certificate = issue(AUTHORITY, bad.id, time.time(), b"new-word")
    said = bad.network.membership.announcer.record
    proof = proof_text(bad.network.stake.certificate)
    bad.network.membership.announce(time.time(), addrs=said.addrs, models=said.models, proof=proof, name=said.name)
    await rounds([authority, other, bad], lambda: all_see_all([authority, other, bad]))


@pytest.mark.parametrize("text", ["", "é", "x" * 6144, "forged"])
async def test_a_list_that_is_not_the_authoritys_changes_nothing(start: Start, text: str) -> None:
    peers = await three(start)
    told = revoked(peers[2], key=STRANGER) if text == "forged" else text
    peers[0].network.membership.deny(told, time.time())
    assert peers[0].network.membership.exchange.denials == ""
    assert all_see_all(peers)


async def test_who_starts_with_the_list_refuses_at_once(start: Start) -> None:
    _, _, bad = await three(start)
    fresh = await start()
    fresh.network.membership.deny(revoked(bad), time.time())
    with pytest.raises(NoContact) as refused:
        await fresh.network.carrier.meet(bad.address)
    assert refused.value.reason == "revoked"
    assert not fresh.sees()


async def test_an_expired_certificate_is_refused_in_words(start: Start) -> None:
    good, late = await start(), await start(ago=91 * DAY)
    with pytest.raises(NoContact) as refused:
        await good.network.carrier.meet(late.address)
    assert refused.value.reason == "expired"
    assert "stake issue" in str(refused.value)
    with pytest.raises(NoContact) as refused:
        await late.network.carrier.meet(good.address)
    assert refused.value.reason == "not_staked"
    assert not good.sees()


def test_a_secret_networks_node_heeds_no_list() -> None:
    assert SharedSecret([SECRET], NODE).read_denials(deny_list_text(deny(AUTHORITY, 1, []))) is None
