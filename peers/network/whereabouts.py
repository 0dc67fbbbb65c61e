"""Whereabouts: where peers should dial this node, and whether any of them can (docs/security.md C-10). Pure.

Offered is what the operator says (PEER_ADVERTISE); otherwise this machine's own addresses, and the one that peers see
it come from, once a dial-back confirmed it: a peer that we ask pings our addresses and says which of them answered.
Times are of the local time line, in seconds.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from peers.network.dialing import Address, literal
from peers.wire import NodeId

Reach = Literal["unknown", "reachable", "unreachable"]

MOST_OFFERED = 4
"""Addresses in a record, and in one question."""
MOST_OWN, MOST_SEEN = 8, 3
MOST_PEERS = 32
"""Whose word is remembered."""
HANDFUL = 4
"""So many different peers are asked without a pause, at start and after a change."""
SAME_PEER = 65.0
"""Until it is asked to dial again: it does so once a minute, by its own clock."""
SOON = 10.0
UNSETTLED, SETTLED = SAME_PEER, 600.0
"""Between two questions, before somebody has reached us and after."""
LASTS = 1800.0
"""For so long it counts that somebody reached us."""
IN_VAIN = 2
AGREE = 2
"""Strangers must see us come from the same address; of members of one owner's network the word of one will do."""
NEVER = float("-inf")

CLIENT = "MODE=client: this node asks and is never dialled; its models are not offered (MODE=node offers them)"


@dataclass(frozen=True, slots=True)
class Question:
    """To be put to a peer by `identify`."""

    node: NodeId
    addresses: tuple[str, ...]
    """That it should try; none: we only want to know where it sees us come from."""


@dataclass(slots=True)
class _Word:
    """What one peer said, since the last change."""

    looked: float = NEVER
    """When it was last asked for anything,"""
    asked: float = NEVER
    """and for a dial-back."""
    seen: str | None = None
    """The host it sees us come from; empty: one that is of no use."""
    failures: dict[str, int] = field(default_factory=dict)
    """By address: how often in a row it tried in vain; 0: it reached us there."""

    def forget(self) -> None:
        self.seen = None
        self.failures.clear()


class Whereabouts:
    def __init__(
        self,
        port: int | None,
        allowed: Callable[[str], bool],
        rng: Random,
        *,
        advertised: tuple[str, ...] = (),
        contained: bool = False,
        strangers: bool = False,
    ) -> None:
        """`port`: of the peer listener. `allowed`: whether a record may offer this address.

        Without a port and without `advertised` it is a client (MODE=client). `contained`: in a container, whose own
        addresses are never offered, whoever sees them.
        """
        self._port = port or 0
        self._client = port is None and not advertised
        self._allowed = allowed
        self._advertised = advertised
        self._contained = contained
        self._rng = rng
        self._agree = AGREE if strangers else 1
        self._own: tuple[str, ...] | None = None
        """Hosts; None: not looked yet."""
        self._words: dict[NodeId, _Word] = {}
        self._doubted = NEVER
        self._reached = self._dialled = self._last = self._next = NEVER
        self._left = HANDFUL
        self._in_vain = False

    # What happens

    def here(self, hosts: Sequence[str], now: float) -> bool:
        """The addresses of this machine's interfaces, the best first. Whether they have changed."""
        before, self._own = self._own, tuple(dict.fromkeys(hosts))
        if before is None or set(before) == set(hosts):
            return False
        self.doubt(now)
        return True

    def doubt(self, now: float) -> None:
        """This machine moved, or slept: whatever was found says nothing any more."""
        for word in self._words.values():
            word.forget()
        self._doubted = self._next = now
        self._reached = self._dialled = NEVER
        self._left, self._in_vain = HANDFUL, False

    def saw(self, node: NodeId, host: str, now: float) -> None:
        """Where `node` sees us come from."""
        before = set(self._seen())
        self._word(node).seen = _host(host)
        if not before.issuperset(self._seen()):
            self._next = min(self._next, max(now, self._last + SOON))

    def asks(self, nodes: Iterable[NodeId], now: float) -> Question | None:
        """What to ask one of these now, if it is time: to be called every second, with those that can be asked."""
        if self._client or now < self._next:
            return None
        addresses = self._candidates()
        looks = not addresses or not (self._advertised or self._seen_by_any)
        node = self._whom(nodes, now, looks)
        if node is None:
            return None
        word = self._word(node)
        word.looked = self._last = now
        self._next = now if self._left else now + (SETTLED if self.reach(now) == "reachable" else UNSETTLED)
        self._left = max(0, self._left - 1)
        if looks:
            return Question(node, ())
        word.asked = now
        addresses.sort(key=lambda one: (word.failures.get(one, -1), self._tested(one)))
        return Question(node, tuple(addresses[:MOST_OFFERED]))

    def tried(self, node: NodeId, reached: Iterable[str], asked: Iterable[str], now: float) -> None:
        """Its answer: at which of those that it was asked to try it reached us."""
        word, candidates = self._words.get(node), self._candidates()
        tried = set(asked).intersection(candidates)
        if word is None or word.asked < self._doubted or not tried:
            return
        held = {one: count for one, count in word.failures.items() if one in candidates}
        failures = {one: 0 if one in reached else held.get(one, 0) + 1 for one in tried}
        word.failures = held | failures
        if 0 in failures.values():
            self._reached, self._left, self._in_vain = now, 0, False
            self._next = now + (SETTLED if all(map(self._tested, candidates)) else SOON)
        elif not self._lately(now) and all(word.failures.get(one, 0) >= IN_VAIN for one in candidates):
            self._in_vain = True

    def dialled(self, now: float) -> None:
        """A peer's signed request came in: whoever sent it reached us."""
        self._dialled, self._in_vain = now, False

    # What follows

    def addresses(self) -> tuple[str, ...]:
        """What this node's record should offer, the best first. What the operator says stays, whoever fails there."""
        if self._advertised:
            offered = self._candidates()
        elif self._in_vain:
            return ()
        else:
            own = self._owned()
            offered = own + [one for one in self._seen() if one not in own and self._reached_by(one)]
        return tuple(sorted(offered, key=self._rank)[:MOST_OFFERED])

    def reach(self, now: float) -> Reach:
        if self._client:
            return "unreachable"
        if self._lately(now):
            return "reachable"
        nowhere = not self._candidates() and (self._advertised or self._seen_by_any)
        return "unreachable" if self._in_vain or nowhere else "unknown"

    def why(self, now: float) -> str:
        """Why peers may not reach this node, and the remedy; empty while they do."""
        if self._client:
            return CLIENT
        refused = [one for one in self._advertised if not self._allowed(one)]
        if refused:
            return f"{', '.join(refused)} of PEER_ADVERTISE is left out: peers do not dial it (PEER_ALLOW_CIDRS)"
        match self.reach(now), bool(self._advertised):
            case "reachable", _:
                return ""
            case "unknown", _:
                places = ", ".join(self._candidates()) or "any address"
                return f"no peer has tried yet whether it reaches this node at {places}"
            case _, True:
                return (
                    f"peers do not reach this node under PEER_ADVERTISE ({self._told()}): correct it, or open TCP port "
                    f"{self._port} to this machine; it is offered all the same, since others may get through"
                )
        return (
            "peers cannot reach this node: it can ask, its models are not offered; open TCP port "
            f"{self._port} to this machine, or set PEER_ADVERTISE to the host:port at which it can be reached "
            f"({self._told()})"
        )

    # What is known

    def _candidates(self) -> list[str]:
        """Whatever may be offered, confirmed or not."""
        if self._advertised:
            return list(filter(self._allowed, self._advertised))
        own = self._owned()
        return [one for one in self._seen() if one not in own] + own

    def _owned(self) -> list[str]:
        hosts = () if self._contained else self._own or ()
        return list(filter(self._allowed, (str(Address(host, self._port)) for host in hosts)))[:MOST_OWN]

    def _seen(self) -> list[str]:
        """Where peers see us come from, if that is no address of this machine: behind a router, or in a container."""
        counted = Counter(word.seen for word in self._words.values() if word.seen)
        hosts = [
            host for host, peers in counted.most_common() if peers >= self._agree and host not in (self._own or ())
        ]
        return list(filter(self._allowed, (str(Address(host, self._port)) for host in hosts)))[:MOST_SEEN]

    @property
    def _seen_by_any(self) -> bool:
        return any(word.seen is not None for word in self._words.values())

    def _reached_by(self, address: str) -> int:
        return sum(word.failures.get(address) == 0 for word in self._words.values())

    def _tested(self, address: str) -> bool:
        return any(address in word.failures for word in self._words.values())

    def _rank(self, address: str) -> tuple[int, bool]:
        """Those that fail come last, and stay: whoever tried may be elsewhere than whoever needs them."""
        reached = self._reached_by(address)
        return -reached, not reached and self._tested(address)

    def _lately(self, now: float) -> bool:
        return max(self._reached, self._dialled) > now - LASTS

    def _whom(self, nodes: Iterable[NodeId], now: float, looks: bool) -> NodeId | None:
        """Who was not asked for longest; while nothing is known, first those that failed once: are they sure?"""
        known = {node: self._words.get(node) or _Word() for node in nodes}
        if looks:
            free = {
                node: (False, word.looked, self._rng.random())
                for node, word in known.items()
                if word.looked <= now - SOON
            }
        else:
            sure = self.reach(now) != "unknown"
            free = {
                node: (sure or not any(word.failures.values()), word.asked, self._rng.random())
                for node, word in known.items()
                if word.asked <= now - SAME_PEER
            }
        return min(free, key=free.__getitem__, default=None)

    def _word(self, node: NodeId) -> _Word:
        if node not in self._words and len(self._words) >= MOST_PEERS:
            del self._words[min(self._words, key=lambda one: self._words[one].asked)]
        return self._words.setdefault(node, _Word())

    def _told(self) -> str:
        by = [node[:6] for node, word in self._words.items() if any(word.failures.values())]
        tried = (
            f"tried by node {', '.join(by[:HANDFUL])}: {', '.join(self._candidates())}"
            if by
            else "no address of it may be offered"
        )
        hosts = sorted({word.seen for word in self._words.values() if word.seen})
        return f"{tried}; seen at {', '.join(hosts[:MOST_SEEN])}" if hosts else tried


def _host(seen: str) -> str:
    """In its usual spelling; empty for what is no address, or only of this machine."""
    ip = literal(seen.partition("%")[0])
    if ip is None:
        return ""
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return "" if ip.is_loopback or ip.is_unspecified else str(ip)
