"""Upstream: a model API this node may use itself, with what it serves, whether it answers, and how busy it is."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal

import structlog
from yarl import URL

from peers.errors import Busy, UpstreamUnreachable
from peers.guests import Guest
from peers.upstreams.link import Link, Place, also
from peers.wire import Call, Model, Reply

log = structlog.get_logger(__name__)

LIST_SECONDS = 5.0
LOOK_SECONDS = 30.0
"""Between two looks at a hosted service; its list is asked for less often."""

Status = Literal["unknown", "up", "down", "refused"]
"""`refused`: it answers, and may not be used (it is a node itself)."""


class Places:
    """How many requests an upstream does at once, and how many it is doing. Own callers come before peers."""

    def __init__(self, total: int | None, guests: int = 1) -> None:
        self.total = total
        """None: as many as come."""
        self.most_guests = guests
        """Peers' requests at once (PEER_MAX_INFLIGHT)."""
        self.taken = 0
        self._holders: dict[object, Guest | None] = {}
        """In the order in which they came; None: an own caller's."""

    @property
    def free(self) -> bool:
        """For an own caller: a place is left, or a peer's request would give way."""
        return self.total is None or self.taken < self.total or any(guest.yields for guest in self.guests)

    @property
    def guests(self) -> list[Guest]:
        """Peers' requests that hold a place, the oldest first."""
        return [guest for guest in self._holders.values() if guest is not None]

    def queued(self, guest: Guest) -> bool:
        """It waits in the upstream's own queue: as many as are done at once came before it."""
        return self.total is not None and guest in list(self._holders)[self.total :]

    def take(self, guest: Guest | None = None) -> Callable[[], None]:
        """Take a place; the returned function gives it back, once however often it is called.

        An own caller takes one even if none is free. A guest never waits: raises Busy.
        """
        if guest is None:
            self._make_way()
        elif not self._room_for_guests():
            raise Busy("this node has no free place for peers (PEER_MAX_INFLIGHT)")
        key = guest or object()
        self._holders[key] = guest
        self.taken += 1

        def release() -> None:
            if key in self._holders:
                del self._holders[key]
                self.taken -= 1

        return release

    def _room_for_guests(self) -> bool:
        room = self.total is None or self.taken < max(self.total, self.most_guests)
        return room and len(self.guests) < self.most_guests

    def _make_way(self) -> None:
        """An own caller comes: so many give way that it is done at once, the youngest first."""
        if self.total is None or self.taken < self.total:
            return
        guests = self.guests
        leaving = sum(guest.stopped is not None for guest in guests)
        too_many = max(0, self.taken - leaving + 1 - self.total)
        for guest in [guest for guest in reversed(guests) if guest.yields][:too_many]:
            guest.stop("gave_way")


class Upstream(ABC):
    """Shared by all that is reached over HTTP; each kind says where a call goes and how its models are found."""

    def __init__(self, link: Link, place: Place, *, parallel: int | None = None, found: bool = False) -> None:
        self.link = link
        self.place = place
        self.places = Places(parallel)
        self.found = found
        """Nobody configured it: it is looked for, and counts only while it answers."""
        self.models: Mapping[str, Model] = {}
        """By name, as last heard."""
        self.status: Status = "unknown"
        self.why = "not asked yet"
        """In words, with the remedy, while it is not up."""
        self.no_node = False
        """It has answered, and not as a node does: what another node sent here may go to it."""

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def free(self) -> bool:
        return self.places.free

    def model(self, name: str) -> Model | None:
        """The model of this name, by this upstream's own idea of which names are the same."""
        return self.models.get(name)

    def serves(self, call: Call) -> bool:
        """It has the model, in the call's dialect."""
        model = self.model(call.model)
        return model is not None and (call.door.dialect == "any" or call.door.dialect in model.dialects)

    async def open(self, call: Call) -> Reply:
        """Raises UpstreamUnreachable, UpstreamTimeout, UpstreamBroken; for a peer's call also Busy."""
        release = self.places.take(call.guest)
        try:
            reply = await self.link.post(
                call, self.target(call), self.place, {**call.headers, **self.credentials(call)}
            )
        except UpstreamUnreachable as error:
            release()
            self.fell(error.text)
            raise
        except BaseException:
            release()
            raise
        reply.on_close = also(reply.on_close, release)
        self.no_node = True
        if self.status == "down" and self.models:
            self.rose()
        return reply

    def rose(self) -> None:
        if self.status != "up":
            log.info("upstream_up", upstream=self.name, count=len(self.models))
        self.status, self.why = "up", ""

    def fell(self, why: str, status: Status = "down") -> None:
        if self.status != status and not (self.found and self.status == "unknown"):
            log.warning("upstream_" + status, upstream=self.name, reason=why)
        self.status, self.why = status, why

    def refuse(self) -> None:
        """It is a node itself, and two nodes must never pass a request in a circle."""
        self.models = {}
        self.fell(
            f"{self.name} is a masa-node, and a node is never an upstream: name what serves the models", "refused"
        )

    @abstractmethod
    def target(self, call: Call) -> str:
        """The URL this call is posted to."""

    @abstractmethod
    def credentials(self, call: Call) -> Mapping[str, str]:
        """Headers of our own for this upstream alone."""

    @abstractmethod
    async def refresh(self) -> float:
        """Look again what it serves. Returns the seconds until the next look."""

    @abstractmethod
    def address(self) -> str:
        """Where it is, without secrets, for the operator's eyes."""


class Hosted(Upstream):
    """A service on the internet. Its list of models seldom changes; that it was out of reach is soon over.

    `list_url` is None where the operator's word is all there is; `keep`: seconds for which a list counts as fresh.
    """

    def __init__(self, link: Link, place: Place, *, list_url: str | None, keep: float) -> None:
        super().__init__(link, place)
        self._list_url = list_url
        self._keep = keep
        self._stale_at = 0.0

    async def refresh(self) -> float:
        now = asyncio.get_running_loop().time()
        if self._list_url is None:
            await self._meet()
        elif self.status != "up" or now >= self._stale_at:
            await self._look(self._list_url)
            self._stale_at = now + self._keep
        return LOOK_SECONDS

    async def _meet(self) -> None:
        """Whether it is a node, by its answer to a GET without keys; its models are the operator's word."""
        if not self.no_node:
            try:
                origin = str(URL(self.address()).origin())
                fetched = await self.link.fetch("GET", origin, headers={}, within=LIST_SECONDS)
            except OSError:
                self.rose()
                return
            self.no_node = "x-masa-node" not in fetched.headers
        if self.no_node:
            self.rose()
        else:
            self.refuse()

    async def _look(self, url: str) -> None:
        try:
            fetched = await self.link.fetch("GET", url, headers=self.list_headers(), within=LIST_SECONDS)
        except OSError:
            self.fell(f"{self.name} could not be reached. {self.place.remedy}")
            return
        self.no_node = "x-masa-node" not in fetched.headers
        if not self.no_node:
            self.refuse()
        elif fetched.status in (401, 403):
            self.fell(f"{self.name} refused the key ({fetched.status}). {self.place.remedy}")
        elif fetched.status != 200:
            self.fell(f"{self.name} answered {fetched.status} when asked for its models. {self.place.remedy}")
        else:
            models = self.listed(fetched.body)
            self.models = self.models if models is None else models
            self.rose()

    @abstractmethod
    def list_headers(self) -> Mapping[str, str]:
        """What its list is asked for with."""

    @abstractmethod
    def listed(self, body: bytes) -> Mapping[str, Model] | None:
        """The models of its list; None: it cannot be read, and what was last said counts."""


def with_query(url: str, call: Call) -> str:
    """The query of a dialect path crosses. The mission's doors lead to a URL that is the operator's alone."""
    if not call.query or call.door.dialect == "any":
        return url
    return f"{url}{'&' if '?' in url else '?'}{call.query}"
