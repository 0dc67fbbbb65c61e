"""A secret is rotated between real TLS nodes: who is there, away, left out, or comes with an old token."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from peers.network.certificates import DAY
from peers.network.contact import NoContact
from peers.network.rotating import Rotating
from peers.network.rotation import rotate
from peers.network.tokens import Secret
from peers.wire import NodeId
from tests.members import refusal
from tests.peers import SECRET, Peer, peer, settled

OLD = SECRET.network()


@dataclass
class Town:
    """Nodes that share a clock, which a test may set."""

    folder: Path
    stack: AsyncExitStack
    ahead: float = 0.0
    up: dict[str, tuple[Peer, AsyncExitStack]] = field(default_factory=dict)

    def clock(self) -> float:
        return time.time() + self.ahead

    async def start(self, *names: str, **settings: Any) -> list[Peer]:
        """The first one that runs is the bootnode of all others."""
        for name in names:
            stack = await self.stack.enter_async_context(AsyncExitStack())
            first = next((str(one.address) for one, _ in self.up.values()), None)
            usual = {"clock": self.clock, "name": name, "bootnodes": (first,) if first else ()}
            opened = await stack.enter_async_context(peer(self.folder / name, **usual | settings))
            self.up[name] = (opened, stack)
        return [self[name] for name in names]

    def __getitem__(self, name: str) -> Peer:
        return self.up[name][0]

    async def stop(self, name: str) -> None:
        _, stack = self.up.pop(name)
        await stack.aclose()

    def sees(self, one: Peer) -> set[NodeId]:
        return {member.node for member in one.network.membership.roster.routable(self.clock())}

    def whole(self, *names: str) -> bool:
        """Each of these sees exactly the others."""
        ids = {self[name].id for name in names}
        return all(self.sees(self[name]) == ids - {self[name].id} for name in names)

    def moved(self, *names: str) -> bool:
        """Each has the new secret, and says so in a record that all others of these have."""
        some = [self[name] for name in names]
        return len({network_of(one) for one in some} - {OLD}) == 1 and all(
            held.record.net == network_of(other)
            for one in some
            for other in some
            if other is not one and (held := one.network.membership.table.members.get(other.id))
        )

    async def rounds(self, until: Callable[[], bool], most: int = 40) -> None:
        for _ in range(most):
            if until():
                return
            some = [one.network for one, _ in self.up.values()]
            await asyncio.gather(*(rotating(one).round() for one, _ in self.up.values()))
            await asyncio.gather(*(network.carrier.round() for network in some))
            await settled(some)
            self.ahead += 1.0
        views = {name: sorted(node[:6] for node in self.sees(one)) for name, (one, _) in self.up.items()}
        nets = {name: (one.id[:6], network_of(one)[:6]) for name, (one, _) in self.up.items()}
        raise AssertionError(f"not so after {most} rounds: {views} {nets}")

    async def gather(self, *names: str) -> None:
        await self.start(*names)
        await self.rounds(lambda: self.whole(*names))


def rotating(one: Peer) -> Rotating:
    assert one.network.rotating
    return one.network.rotating


def network_of(one: Peer) -> str:
    return one.network.stake.networks[0]


async def begin(one: Peer, *left_out: Peer, at_once: bool = False) -> dict[NodeId, str]:
    nodes = frozenset(other.id for other in left_out)
    return await rotating(one).begin(nodes, only_others=bool(nodes), at_once=at_once)


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        yield Town(tmp_path, stack)


async def test_all_that_are_there_get_it_and_a_day_later_the_old_one_is_gone(town: Town) -> None:
    await town.gather("a", "b", "c", "d")
    told = await begin(town["b"])
    assert told == {town[name].id: "" for name in "acd"}
    assert len({network_of(town[name]) for name in "abcd"} - {OLD}) == 1
    assert town.whole(*"abcd")
    await town.rounds(lambda: town.moved(*"abcd"))
    assert town.whole(*"abcd")
    assert all(len(town[name].network.stake.networks) == 2 for name in "abcd")
    town.ahead += DAY
    await town.rounds(lambda: all(len(town[name].network.stake.networks) == 1 for name in "abcd"))
    await town.rounds(lambda: town.whole(*"abcd"))


@pytest.mark.parametrize("leaving", [False, True], ids=["plain", "without"])
@pytest.mark.parametrize("known", [False, True], ids=["by a bootnode", "by what it remembers"])
@pytest.mark.parametrize("asks", [False, True], ids=["handed", "asked for"])
async def test_who_was_away_gets_it_from_anybody_when_it_is_back(
    town: Town, leaving: bool, known: bool, asks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either of the two ways will do: whoever has it hands it on, and whoever sees a foreign network asks."""
    monkeypatch.setattr(Rotating, "_hand_on" if asks else "_ask_if_needed", lambda *_: None)
    await town.gather("a", "b", "c", "lost", "away")
    remembered = town["away"].network.membership.remembered()
    await town.stop("away")
    lost = [town["lost"]] if leaving else []
    told = await begin(town["b"], *lost)
    assert [bool(why) for node, why in told.items() if node not in {town["a"].id, town["c"].id, town["lost"].id}] == [
        True
    ]
    await town.stop("b")
    await town.stop("lost")
    town.ahead += DAY / 2
    await town.rounds(lambda: town.moved("a", "c"))
    await town.start("away", **({"bootnodes": ()} if known else {}))
    if known:
        town["away"].network.membership.restore(remembered, town.clock())
    await town.rounds(lambda: town.whole("a", "c", "away") and town.moved("a", "c", "away"))
    assert town["away"].network.stake.networks == town["a"].network.stake.networks


async def test_who_has_it_and_who_has_not_still_meet(town: Town) -> None:
    await town.gather("a", "b")
    (new,) = await town.start("new", bootnodes=())
    old, handed = town["a"], rotate(SECRET, Secret.new(), town.clock(), None)
    await rotating(new).take(handed.sealed)
    assert (await new.network.contact.ping(old.address, old.id)).node == old.id
    await new.network.carrier.meet(old.address, old.id)
    held = old.network.membership.table.members[new.id]
    assert held.record.net == OLD
    assert held.version < new.network.membership.announcer.record.version
    assert await rotating_asked(old, new) == handed.sealed
    stranger = town["b"]  # of whom `new` has heard, and who has not heard of it
    new.network.membership.introduced(stranger.network.membership.sealed, town.clock())
    await rotating(new)._handing.to_one(new.network.membership.table.members[stranger.id], handed.sealed)
    assert network_of(stranger) == network_of(new)


async def test_who_is_left_out_is_refused_by_all_at_once(town: Town) -> None:
    await town.gather("a", "b", "lost")
    lost = town["lost"]
    told = await begin(town["a"], lost)
    assert told == {town["b"].id: ""}
    assert town.sees(town["a"]) == {town["b"].id}
    assert town.sees(town["b"]) == {town["a"].id}
    for one in (town["a"], town["b"]):
        with pytest.raises(NoContact):
            await lost.network.carrier.meet(one.address, one.id)
    await town.start("thief")
    with pytest.raises(AssertionError):
        await town.rounds(lambda: network_of(lost) != OLD or network_of(town["thief"]) != OLD, most=8)
    assert town.whole("a", "b")
    assert await rotating_asked(lost, town["a"]) == b""
    assert rotating(town["a"]).sealed_for(lost.id) == b""


async def rotating_asked(one: Peer, other: Peer) -> bytes:
    """What `other` has for `one`, if it asks for it."""
    member = one.network.membership.table.members[other.id]
    try:
        return await rotating(one)._handing.ask(member)
    except NoContact:
        return b""


async def test_now_means_that_the_old_one_counts_for_nobody(town: Town) -> None:
    await town.gather("a", "b", "c", "away")
    await town.stop("away")
    told = await begin(town["b"], at_once=True)
    assert {told[town[name].id] for name in "ac"} == {""}
    assert town.sees(town["b"]) == {town[name].id for name in "ac"}
    assert [why for node, why in told.items() if node not in {town[name].id for name in "ac"}] == ["it is not there"]
    await town.rounds(lambda: town.whole(*"abc") and town.moved(*"abc"))
    assert all(len(town[name].network.stake.networks) == 1 for name in "abc")
    await town.start("away")
    with pytest.raises(AssertionError):
        await town.rounds(lambda: network_of(town["away"]) != OLD or town.sees(town["away"]) != set(), most=8)
    assert town.whole(*"abc")


async def test_an_old_token_joins_for_a_day(town: Town) -> None:
    await town.gather("a", "b")
    await begin(town["a"])
    await town.start("late")
    await town.rounds(lambda: town.whole("a", "b", "late") and town.moved("a", "b", "late"))
    town.ahead += DAY
    await town.rounds(lambda: len(town["a"].network.stake.networks) == 1)
    await town.start("too_late")
    with pytest.raises(NoContact):
        await town["too_late"].network.carrier.meet(town["a"].address)


async def test_who_cannot_be_dialled_asks_for_it(town: Town) -> None:
    await town.gather("a", "b")
    (client,) = await town.start("client")
    membership = client.network.membership
    record = membership.announcer.record
    membership.announce(town.clock(), addrs=(), models=record.models, proof=record.proof, name="client")
    await town.rounds(lambda: town.sees(client) == {town["a"].id, town["b"].id})
    held = town["a"].network.membership.table.members
    await town.rounds(lambda: client.id in held and not held[client.id].record.addrs)
    assert (await begin(town["a"]))[client.id] == "it cannot be dialled"
    await town.rounds(lambda: town.moved("a", "b", "client"))


async def test_two_rotations_do_not_mix(town: Town) -> None:
    await town.gather("a", "b", "c")
    old = rotating(town["a"])._stake.secrets[0]
    other = rotate(old, Secret.new(), town.clock(), None)
    await rotating(town["c"]).take(other.sealed)
    told = await begin(town["a"])
    assert told[town["b"].id] == ""
    assert "two rotations" in told[town["c"].id]
    assert network_of(town["c"]) == other.secret.network()


async def test_what_is_no_rotation_of_ours_changes_nothing(town: Town) -> None:
    (one,) = await town.start("a")
    taker, now = rotating(one), town.clock()
    new, foreign = Secret.new(), Secret.new()
    good = rotate(SECRET, new, now, None)
    forged = bytes(64) + good.sealed[64:]
    refused: list[tuple[bytes, str]] = [
        (b"?", "400 malformed"),
        (forged, "403 bad_signature"),
        (rotate(foreign, new, now, None).sealed, "403 wrong_network"),
        (rotate(SECRET, new, now - DAY - 2, None).sealed, "403 stale"),
        (rotate(SECRET, new, now + 700, None).sealed, "403 early"),
    ]
    for sealed, code in refused:
        assert await refusal_of(taker.take(sealed)) == code
        assert one.network.stake.networks == (OLD,)
    await taker.take(good.sealed)
    await taker.take(good.sealed)
    assert one.network.stake.networks == (new.network(), OLD)
    assert await refusal_of(taker.take(rotate(SECRET, foreign, now, None).sealed)) == "409 rotated"


async def test_a_second_rotation_within_the_day(town: Town) -> None:
    await town.gather("a", "b")
    await begin(town["a"])
    between = network_of(town["a"])
    await town.rounds(lambda: town.moved("a", "b"))
    assert await begin(town["b"]) == {town["a"].id: ""}
    assert town["a"].network.stake.networks == town["b"].network.stake.networks
    assert town["a"].network.stake.networks[1] == between


async def test_a_secret_that_cannot_be_kept_is_not_taken(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = await town.start("a")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rotating(one), "_keep", fail)
    sealed = rotate(SECRET, Secret.new(), town.clock(), None).sealed
    assert await refusal_of(rotating(one).take(sealed)) == "503 unavailable"
    with pytest.raises(OSError):
        await begin(one)
    assert one.network.stake.networks == (OLD,)
    assert one.network.membership.announcer.record.net == OLD


async def refusal_of(work: Awaitable[None]) -> str | None:
    try:
        await work
    except Exception as error:
        return refusal(lambda error=error: (_ for _ in ()).throw(error))
    return None
