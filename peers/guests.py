"""Guests: peers' calls that this node answers now. Each can be stopped, and is answered once. No clock of its own."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from peers.errors import Busy, MasaError

MOST = 1024
"""Calls at once: more than any upstream's places, and a bound for those that never hold one."""
SEEN_SECONDS, MOST_SEEN = 120.0, 10_000
"""For how long, and how many, request ids are remembered (docs/security.md C-31); then the oldest are forgotten."""
LEAST_SHARE = 2

Sender = str
"""A node's id."""
What = Literal["queued", "loading", "reading", "generating", "silent"]


@dataclass(slots=True, eq=False)
class Guest:
    """One call of a peer's, while this node works on it."""

    sender: Sender
    request_id: str
    halt: Callable[[], None]
    """Ends its work; not called twice."""
    lift: Callable[[], bool]
    """Ends its deadline: nobody waits for its first byte any more. False: it was over already."""
    since: float
    """In seconds of the caller's clock: since when `what` is true."""
    model: str = ""
    size: int = 0
    """Bytes of its body."""
    stream: bool = False
    what: What | None = None
    """As it was last told; None: never yet."""
    begun: bool = False
    """A byte of its answer has come: it gives way to nobody any more."""
    stopped: Literal["gave_way", "stopped"] | None = None

    def stop(self, why: Literal["gave_way", "stopped"]) -> None:
        if self.stopped is None:
            self.stopped = why
            self.halt()

    @property
    def yields(self) -> bool:
        """An own caller may have its place."""
        return not self.begun and self.stopped is None

    def begin(self, now: float) -> bool:
        """The first byte of its answer is there. False: too late, it was stopped."""
        if not self.begun and self.stopped is None and self.lift():
            self.begun, self.what, self.since = True, None, now
        return self.begun

    def does(self, what: What, now: float) -> float:
        """It is seen to do this: for how many seconds already."""
        if self.what not in (None, what):
            self.since = now
        self.what = what
        return max(0.0, now - self.since)


class Guests:
    """One for a node. Times are a clock's that never goes back, in seconds."""

    def __init__(self, places: int) -> None:
        """`places`: PEER_MAX_INFLIGHT, of which one stranger may have a quarter."""
        self._share = max(LEAST_SHARE, places // 4)
        self._here: dict[tuple[Sender, str], Guest] = {}
        self._by_sender: Counter[Sender] = Counter()
        self._seen: OrderedDict[tuple[Sender, str], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._here)

    def check_new(self, sender: Sender, request_id: str, now: float) -> None:
        """Raises MasaError, 409 `duplicate`. Who claims to be the sender need not be: nothing is remembered."""
        while self._seen and next(iter(self._seen.values())) <= now - SEEN_SECONDS:
            self._seen.popitem(last=False)
        if (sender, request_id) in self._seen:
            raise MasaError(409, "duplicate", "this request was sent before")

    def note(self, sender: Sender, request_id: str, now: float) -> None:
        """Its signature holds: remember it. Raises MasaError as check_new() does."""
        self.check_new(sender, request_id, now)
        if len(self._seen) >= MOST_SEEN:
            self._seen.popitem(last=False)
        self._seen[sender, request_id] = now

    def check_share(self, sender: Sender) -> None:
        """Where members are strangers (docs/security.md C-30). Raises Busy."""
        if self._by_sender[sender] >= self._share:
            raise Busy("this node already works on as many requests of yours as it does at once")

    @contextmanager
    def entered(self, guest: Guest) -> Iterator[Guest]:
        """For as long as the block works on it. Raises Busy."""
        if len(self._here) >= MOST:
            raise Busy("this node works on as many requests of peers as it does at once")
        key = guest.sender, guest.request_id
        if key in self._here:
            raise MasaError(409, "duplicate", "this request is being worked on")
        self._here[key] = guest
        self._by_sender[guest.sender] += 1
        try:
            yield guest
        finally:
            del self._here[key]
            self._by_sender[guest.sender] -= 1
            if not self._by_sender[guest.sender]:
                del self._by_sender[guest.sender]

    def of(self, sender: Sender, request_ids: Iterable[str]) -> list[Guest]:
        """Those of these calls that are under way, once each; never another sender's."""
        return [guest for name in dict.fromkeys(request_ids) if (guest := self._here.get((sender, name)))]
