"""Membership: gossip and liveness without clock, sockets or tasks: what to say, to whom, and what follows. Pure.

A carrier calls tick() about once a second and delivers what it returns; all that a node hears goes in by introduced(),
receive(), answered() and missed(). `now` is this machine's clock in Unix seconds; it may be wrong, and it may jump.
"""

from collections.abc import Callable, Iterable
from random import Random

from peers.errors import BadRequest, Busy, MasaError
from peers.network.announcer import Announcer
from peers.network.clock import Clock
from peers.network.contacts import contacts
from peers.network.exchange import Exchange
from peers.network.frames import Frame, decode, encode
from peers.network.intake import NEWS, TAKEN, Intake, Outcome
from peers.network.liveness import Liveness
from peers.network.records import Models, Sealed, read
from peers.network.roster import Roster
from peers.network.table import Member, Table
from peers.network.terms import Bootnode, Send, Terms
from peers.wire import NodeId

MOST_PROBES = 6
"""In one round."""
TOLD_OF_LEAVING = 8
MOST_REMEMBERED = 256


class Membership:
    def __init__(self, terms: Terms, rng: Random, now: float, last_epoch: int = 0) -> None:
        """`last_epoch`: what `epoch` was when it was last kept on disk; 0: never, or lost."""
        self.me = terms.me
        self.rng = rng
        self.clock = Clock(now, rng)
        self.table = Table()
        self.liveness = Liveness()
        self.bootnodes = terms.bootnodes
        self.named = {bootnode.node for bootnode in terms.bootnodes if bootnode.node}
        self.roster = Roster(terms, self.table, self.liveness, self.clock, self.named)
        self.intake = Intake(terms, self.table, self.named)
        self.exchange = Exchange(terms.me, self.table, rng, terms.strangers)
        epoch = max(int(now * 1000), last_epoch + 1)
        self.announcer = Announcer(terms.me, terms.networks()[0], terms.sign, rng, epoch, self.clock.local(now))
        self.on_start: Callable[[], None] = lambda: None
        """Called when a node is here that was not, or has started anew."""
        self._networks = terms.networks
        self._read_denials = terms.read_denials
        self._behind: dict[str, NodeId] = {}
        """Who answered last at a bootnode's address."""
        self._opened: set[NodeId] = set()
        """Whose next answer one more message of ours may follow: just one, whatever they ask for."""
        self._issue(now, news=True)

    # What this node says of itself

    @property
    def sealed(self) -> str:
        """Our own record, for `ping` and `identify`."""
        return self.announcer.text

    def sealed_for(self, node: NodeId) -> str:
        """The same for a node of which we hold a record: by the network that it says it is in."""
        member = self.table.members.get(node)
        return self.announcer.text_in(member.record.net) if member else self.sealed

    @property
    def epoch(self) -> int:
        """To be kept on disk whenever it changes."""
        return self.announcer.record.epoch

    def announce(
        self,
        now: float,
        *,
        addrs: tuple[str, ...],
        models: Models,
        proof: str = "",
        name: str = "",
        former_proof: str = "",
    ) -> None:
        """What is true of this node from now on; `former_proof`: for the network that it is leaving.

        Raises ValueError when it does not fit a record.
        """
        networks = self._networks()
        former = (networks[1], former_proof) if former_proof else ("", "")
        changed = self.announcer.change(
            net=networks[0], addrs=addrs, models=models, proof=proof, name=name, former=former
        )
        if changed and not self.announcer.silent(self.clock.local(now)):
            self._issue(now, news=True)

    def leave(self, now: float) -> list[Send]:
        """The last word, for a few members to pass on."""
        local = self._arrive(now)
        if self.announcer.silent(local):
            return []
        self.announcer.leave()
        self._issue(now, news=True)
        alive = self.roster.routable(now)
        return [self._open(member, now, local) for member in self.rng.sample(alive, min(len(alive), TOLD_OF_LEAVING))]

    # What the carrier calls

    def tick(self, now: float) -> list[Send]:
        """One round of gossip: call it every second, ± 20 %, and deliver what it returns."""
        local = self._arrive(now)
        self._forget(self.table.sweep(local))
        if self.announcer.due(self.clock.network(now), local):
            self._issue(now, news=False)
        alive = [member for member in self.roster.reachable(now) if not self.liveness.out(member.node, local)]
        living = {member.node for member in alive}
        gone = [member for member in self.roster.members() if member.may_come_back and member.node not in living]
        strange = [bootnode for bootnode in self.bootnodes if self._behind.get(bootnode.address) not in living]
        aged = self.liveness.aged(local) if self.roster.strangers else frozenset()
        sends = [self._open(contact, now, local) for contact in contacts(alive, gone, strange, self.rng, aged)]
        idle = self.roster.watched(now) - {send.node for send in sends}
        return sends + [self._probe(node, local) for node in self.liveness.due(idle, local, MOST_PROBES)]

    def introduced(self, text: str, now: float, address: str | None = None) -> Outcome:
        """A node showed its own record, with proof that it holds the key: by `ping` or `identify`.

        One of TAKEN: gossip with it can begin. `address`: the bootnode's at which it answered. After a `ping` the order
        is heard_clock(), then this: a record is judged by the network's time.
        """
        local = self._arrive(now)
        outcome, sealed = self.intake.take(text, local, self.clock.network(now))
        self._learned(outcome, sealed, now, local)
        if outcome in TAKEN and sealed is not None:
            self._opened.add(sealed.record.node)
            if address is not None:
                self._answers_at(address, sealed.record.node)
        return outcome

    def receive(self, body: bytes, sender: NodeId, now: float) -> bytes:
        """The answer to a gossip message whose signature was checked.

        Raises MasaError: 403 `unknown_peer`, 413 `too_large`, 400 `malformed`, 429 `rate_limited`.
        """
        local = self._arrive(now)
        member = self.table.members.get(sender)
        if member is None or not member.proven or sender == self.me:
            raise MasaError(403, "unknown_peer", "this node does not know the sender: identify first")
        frame = decode(body)
        if frame.records and self.intake.exhausted(sender, local):
            raise Busy("this peer sends records faster than they are taken", status=429, code="rate_limited")
        self.liveness.heard(sender, local)
        self._merge(frame, sender, now, local)
        return encode(self.exchange.reply(frame, sender, now, local))

    def answered(self, node: NodeId, body: bytes, now: float) -> list[Send]:
        """`node` answered what was sent to it; perhaps there is one thing more to tell it, at once."""
        local = self._arrive(now)
        try:
            frame = decode(body) if body else Frame()
        except BadRequest as error:
            self.intake.refused[error.code] += 1
            self.liveness.missed(node, local, refused=False)
            return []
        self.liveness.answered(node, local)
        if frame.clock:
            self.heard_clock(node, frame.clock, now)
        self._merge(frame, node, now, local)
        member = self.table.members.get(node)
        if not body or member is None or not member.proven or node not in self._opened:
            return []
        self._opened.discard(node)
        reply = self.exchange.reply(frame, node, now, local)
        return [Send(node, member.record.addrs, encode(reply))] if reply.asks_or_tells else []

    def missed(self, node: NodeId, now: float, refused: bool = False, lasted: float = 0.0) -> None:
        """It could not be reached, or did not answer in time: `lasted` seconds after it was tried.

        `refused`: the connection was refused or reset.
        """
        self.liveness.missed(node, self._arrive(now), refused, lasted)

    def heard_clock(self, node: NodeId, theirs: float, now: float) -> None:
        """What time it is for `node`, over a connection that has proven its key: the Date of any answer."""
        local = self.clock.local(now)
        spoken_with = (member for member in self.roster.members() if self.liveness.heard_of(member.node))
        self.clock.sample(node, theirs, now, alone=not any(member.fresh(local) for member in spoken_with))

    # What changes for all

    def stake_changed(self, now: float) -> None:
        """A certificate came in, or the secret changed: everybody is judged again by `staked`."""
        for node in self.intake.reconsider(self._arrive(now), self.clock.network(now)):
            self.exchange.learned(node, news=True)

    def deny(self, text: str, now: float) -> None:
        """A deny-list, from gossip or from our own authority: the newest counts."""
        tag = self._read_denials(text)
        if tag is not None and tag > self.exchange.denials:
            self.exchange.denials, self.exchange.deny_list = tag, text
            self.stake_changed(now)

    def remembered(self) -> list[str]:
        """Records to be kept on disk: of members that answered us, first those that have for longest."""
        since = self.liveness.answered_since()
        members = [member for member in self.roster.members() if member.node in since and member.may_come_back]
        return [member.text for member in sorted(members, key=lambda member: since[member.node])[:MOST_REMEMBERED]]

    def restore(self, texts: Iterable[str], now: float) -> None:
        """Records from our own disk: their nodes are called first."""
        local = self._arrive(now)
        for text in texts:
            node = self.intake.restore(text, local, self.clock.network(now))
            if node is not None:
                self.liveness.answered_once(node, local)

    # Inside

    def _arrive(self, now: float) -> float:
        """Every entry passes here. Returns the local time line's time."""
        slept = self.clock.advance(now)
        local = self.clock.local(now)
        if slept:
            self.liveness.slept(local)
        return local

    def _issue(self, now: float, news: bool) -> None:
        """A new record of our own."""
        local, network = self.clock.local(now), self.clock.network(now)
        size = sum(member.fresh(local) for member in self.table.members.values())
        self.announcer.issue(network, max(size, 1))
        member = self.table.hold(read(self.announcer.text), True, frozenset(), local, network)
        if member is not None:
            self.table.keep_for_ever(member)
            self.exchange.learned(self.me, news)

    def _merge(self, frame: Frame, sender: NodeId, now: float, local: float) -> None:
        if frame.deny_list and frame.denials > self.exchange.denials:
            self.deny(frame.deny_list, now)
        for text in frame.records:
            outcome, sealed = self.intake.take_from(sender, text, local, self.clock.network(now))
            self._learned(outcome, sealed, now, local)

    def _learned(self, outcome: Outcome, sealed: Sealed | None, now: float, local: float) -> None:
        if sealed is None:
            return
        node = sealed.record.node
        if outcome == "mine":
            self._met_self(sealed, now, local)
        elif outcome in NEWS:
            self.exchange.learned(node, news=True)
            if outcome == "started":
                self.liveness.rebooted(node, local)
                self.on_start()
        elif outcome == "renewed":
            self.exchange.learned(node, news=False)

    def _met_self(self, sealed: Sealed, now: float, local: float) -> None:
        network = self.clock.network(now)
        if self.announcer.met_self(sealed.record, network, local):
            self._issue(now, news=True)
        elif self.announcer.silent(local) and sealed.record.version > self.announcer.record.version:
            self.table.hold(sealed, True, frozenset(), local, network)

    def _answers_at(self, address: str, node: NodeId) -> None:
        """The operator named this address, and so whoever is there."""
        pinned = {bootnode.node for bootnode in self.bootnodes}
        before = self._behind.get(address)
        if before is not None and before not in pinned:
            self.named.discard(before)
        self._behind[address] = node
        self.named.add(node)

    def _open(self, contact: Member | Bootnode, now: float, local: float) -> Send:
        node = contact.node
        if node is not None:
            self._opened.add(node)
            self.liveness.tried(node, local)
        addresses = contact.record.addrs if isinstance(contact, Member) else (contact.address,)
        return Send(node, addresses, encode(self.exchange.opening(node, now, local)))

    def _probe(self, node: NodeId, local: float) -> Send:
        self.liveness.tried(node, local)
        return Send(node, self.table.members[node].record.addrs, None)

    def _forget(self, nodes: list[NodeId]) -> None:
        self.exchange.forget(nodes)
        self.intake.forget(nodes)
        self.liveness.forget(nodes)
        self._opened.difference_update(nodes)
