"""Real nodes over TLS on loopback: first contact, signed gossip, who is let in and who is not."""

import time
from contextlib import AsyncExitStack

import pytest

from peers.network.contact import NoContact
from peers.network.tokens import Secret
from tests.peers import Peer, peer, rounds

OTHER = Secret(bytes(32))


@pytest.fixture
async def start(tmp_path):
    async with AsyncExitStack() as stack:
        started: list[Peer] = []

        async def one(**options) -> Peer:
            node = await stack.enter_async_context(peer(tmp_path / str(len(started)), **options))
            started.append(node)
            return node

        yield one


def all_see_all(peers: list[Peer]) -> bool:
    everyone = {one.id for one in peers}
    return all(one.sees() == everyone - {one.id} for one in peers)


async def test_six_nodes_by_one_bootnode(start):
    first = await start()
    peers = [first, *[await start(bootnodes=(str(first.address),)) for _ in range(5)]]
    assert await rounds(peers, lambda: all_see_all(peers)) <= 12


async def test_a_first_contact_shows_each_to_the_other(start):
    a, b = await start(), await start()
    assert await a.network.carrier.meet(b.address) == b.id
    assert a.sees() == {b.id}
    assert b.sees() == {a.id}


async def test_another_networks_node_is_refused(start):
    a, b = await start(), await start(secret=OTHER)
    with pytest.raises(NoContact) as refused:
        await a.network.carrier.meet(b.address)
    assert refused.value.reason in ("no_node", "wrong_network")
    assert not a.sees()
    assert not b.sees()


async def test_a_pinned_address_must_be_its_owners(start):
    a, b, c = await start(), await start(), await start()
    with pytest.raises(NoContact) as refused:
        await a.network.carrier.meet(b.address, c.id)
    assert refused.value.reason == "wrong_key"


@pytest.mark.parametrize("ahead", [-500.0, 90.0, 500.0])
async def test_clocks_that_differ_are_allowed_for(start, ahead):
    """docs/promises.md A10: most clocks are right, and one is not."""
    right = [await start()]
    right += [await start(bootnodes=(str(right[0].address),)) for _ in range(2)]
    await rounds(right, lambda: all_see_all(right))
    wrong = await start(bootnodes=tuple(str(one.address) for one in right), clock=lambda: time.time() + ahead)
    await rounds([*right, wrong], lambda: all(wrong.id in one.sees() for one in right))


async def test_who_leaves_is_gone_at_once(start, tmp_path):
    a, b = await start(), await start()
    async with peer(tmp_path / "c", bootnodes=(str(a.address),)) as c:
        await b.network.carrier.meet(a.address)
        await rounds([a, b, c], lambda: all_see_all([a, b, c]))
    await rounds([a, b], lambda: all_see_all([a, b]), most=10)
