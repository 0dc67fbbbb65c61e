"""Rotating: begins a rotation of the network's secret, takes one from a member, and hands it to those who lack it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Set
from contextlib import asynccontextmanager

import structlog

from peers.errors import MasaError
from peers.network.carrier import Carrier
from peers.network.contact import Contact, NoContact, own_proofs
from peers.network.handing import AT_ONCE, Handing
from peers.network.membership import Membership
from peers.network.rotation import Rotation, prove, read_rotation, rotate
from peers.network.stake import SharedSecret
from peers.network.table import Member
from peers.network.tokens import Secret
from peers.wire import NodeId

log = structlog.get_logger(__name__)

TELLERS = 4
"""So many members, of all that could, hand the secret to one that lacks it."""
PAUSE = 5.0
"""Seconds until the same member is tried again, or asked."""

Keep = Callable[[tuple[Secret, ...], Rotation | None], None]
"""Puts the secrets that count on disk, the new one first, and the rotation between them. Blocks; raises OSError."""


class Rotating:
    def __init__(
        self, stake: SharedSecret, membership: Membership, handing: Handing, keep: Keep, clock: Callable[[], float]
    ) -> None:
        self._stake = stake
        self._membership = membership
        self._handing = handing
        self._keep = keep
        self._clock = clock
        self._changing = asyncio.Lock()
        self._closed = False
        self._not_before: dict[NodeId, float] = {}
        """When a member may be tried again."""
        self._foreign = 0
        self._ask_at = float("-inf")

    @property
    def busy(self) -> bool:
        """A secret is being handed over, or asked for."""
        return self._handing.under_way > 0

    async def close(self) -> None:
        """The network is left: nothing of it is taken or kept any more."""
        async with self._changing:
            self._closed = True

    # What this node's owner asks for

    async def begin(self, left_out: Set[NodeId], *, only_others: bool, at_once: bool) -> dict[NodeId, str]:
        """A new secret, handed to all but `left_out`: why each has not got it yet; empty: it has.

        `only_others`: for a day the old one counts for those that are known, instead of for whoever has it.
        `at_once`: for nobody. Raises OSError, and nothing has changed; MasaError where the network was left.
        """
        now = self._clock()
        known = self._membership.roster.members()
        members = [member for member in known if member.proven and member.node not in left_out]
        alive = [member for member in members if member.fresh(self._membership.clock.local(now))]
        async with self._changing:
            self._check_open()
            counting = [self._membership.me, *(member.node for member in dict.fromkeys([*alive, *members]))]
            admitted = () if at_once else counting if only_others else None
            old = self._stake.secrets[0]
            rotation = rotate(old, Secret.new(), self._membership.clock.network(now), admitted)
            await self._adopt(rotation.leaves(old), None if at_once else rotation)
        log.info("secret_rotated", count=len(alive))
        told = dict.fromkeys((member.node for member in members), "it is not there")
        return told | await self._handing.to_all(alive, rotation.sealed)

    # What other nodes ask for

    async def take(self, sealed: bytes) -> None:
        """A new secret, from a member. Nothing happens where we have it already.

        Raises MasaError: 400 `malformed`; 403 `wrong_network`, `bad_signature`, `stale`, `early`; 409 `rotated` after
        another rotation; 503 `unavailable`.
        """
        rotation = read_rotation(sealed)
        async with self._changing:
            if rotation.secret == self._stake.secrets[0]:
                return
            self._check_open()
            current, *former = self._stake.networks
            if rotation.net in former:
                raise MasaError(409, "rotated", "this node was handed another new secret")
            if rotation.net != current:
                raise MasaError(403, "wrong_network", "this is the secret of another network")
            prove(rotation, self._stake.public_key(current))
            rotation.check_time(self._membership.clock.network(self._clock()))
            try:
                await self._adopt(rotation.leaves(self._stake.secrets[0]), None if rotation.at_once else rotation)
            except OSError as error:
                log.error("secret_not_kept", reason=error.strerror)
                raise MasaError(503, "unavailable", "the new secret could not be written to disk") from error
        log.info("secret_taken")

    def sealed_for(self, node: NodeId) -> bytes:
        """The new secret for a member that asks; empty: there is none for it."""
        rotation, member = self._stake.rotation, self._membership.table.members.get(node)
        lacks = rotation and member and member.proven and member.record.net == rotation.net
        return rotation.sealed if rotation and lacks else b""

    # What happens by itself

    async def round(self) -> None:
        """In every round of gossip: end what is over, hand on, or ask."""
        if self._changing.locked():
            return
        now, rotation = self._clock(), self._stake.rotation
        if rotation and rotation.over(self._membership.clock.network(now)):
            await self._end()
        elif rotation:
            self._hand_on(rotation, now)
        self._ask_if_needed(now)

    def _hand_on(self, rotation: Rotation, now: float) -> None:
        """To some of those who are still where we come from: others hand it to the rest."""
        alive = self._membership.roster.reachable(now)
        lacking = [member for member in alive if member.record.net == rotation.net]
        for member in lacking:
            due = self._not_before.get(member.node, now) <= now and self._handing.under_way < AT_ONCE
            if due and self._membership.rng.random() * len(alive) < TELLERS:
                self._not_before[member.node] = now + PAUSE
                self._handing.begin(self._handing.to_one(member, rotation.sealed))
        if not lacking:
            self._not_before.clear()

    def _ask_if_needed(self, now: float) -> None:
        """Records of another network come in: perhaps our own has moved, and whoever knows cannot dial us."""
        foreign = self._membership.intake.refused["wrong_network"]
        if foreign == self._foreign or now < self._ask_at:
            return
        self._foreign, self._ask_at = foreign, now + PAUSE
        known = [member for member in self._membership.roster.members() if member.may_come_back]
        if known:
            self._handing.begin(self._ask(self._membership.rng.choice(known)))

    async def _ask(self, member: Member) -> None:
        try:
            if sealed := await self._handing.ask(member):
                await self.take(sealed)
        except (NoContact, MasaError) as error:
            log.debug("secret_not_told", peer=member.node[:8], reason=str(error))

    # Inside: under the lock

    def _check_open(self) -> None:
        if self._closed:
            raise MasaError(503, "unavailable", "this node is leaving the network")

    async def _adopt(self, secrets: tuple[Secret, ...], rotation: Rotation | None) -> None:
        """Raises OSError, and all is as it was. Nobody hears of it before it is on disk.

        In this order, since whoever asked for it may hang up: what was begun on the disk then ends there all the same.
        """
        before = self._stake.secrets, self._stake.rotation
        self._go_by(secrets, rotation)
        try:
            await asyncio.to_thread(self._keep, secrets, rotation)
        except OSError:
            self._go_by(*before)
            raise

    async def _end(self) -> None:
        """Of a rotation. What cannot be taken from the disk does not count any more all the same."""
        async with self._changing:
            if not self._closed:
                secrets = self._stake.secrets[:1]
                self._go_by(secrets, None)
                self._not_before.clear()
                log.info("old_secret_over")
                try:
                    await asyncio.to_thread(self._keep, secrets, None)
                except OSError as error:
                    log.error("secret_not_kept", reason=error.strerror)

    def _go_by(self, secrets: tuple[Secret, ...], rotation: Rotation | None) -> None:
        self._stake.go_by(secrets, rotation)
        now, record = self._clock(), self._membership.announcer.record
        self._membership.stake_changed(now)
        proof, former = own_proofs(self._stake, now)
        self._membership.announce(
            now, addrs=record.addrs, models=record.models, proof=proof, name=record.name, former_proof=former
        )


@asynccontextmanager
async def rotating(
    stake: SharedSecret, carrier: Carrier, contact: Contact, keep: Keep, clock: Callable[[], float]
) -> AsyncIterator[Rotating]:
    """A Rotating whose tasks end with the block."""
    async with asyncio.TaskGroup() as group:
        handing = Handing(carrier, contact, clock, group)
        try:
            yield Rotating(stake, carrier.membership, handing, keep, clock)
        finally:
            handing.stop()
