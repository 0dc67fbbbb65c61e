"""Discovery on the LAN: announces this node by multicast DNS and hears others. Hints only (docs/security.md C-12)."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from zeroconf import DNSQuestionType, Error, ServiceInfo, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

from peers.network.dialing import Address, IPAddress
from peers.network.hints import LABEL, SERVICE, Hint, Hints, Presence, service
from peers.network.interfaces import addresses, heard_at, of_the_lan

log = structlog.get_logger(__name__)

INSTANCE = re.compile(rf"([a-z2-7]{{{LABEL}}})\.{re.escape(SERVICE)}")
ANY_PORT = 4001

LOOK_SECONDS = 5.0
RETRY_SECONDS = 30.0
ASK_SECONDS = 300.0
"""zeroconf asks four times and then never again: two LANs that are joined later would not meet."""
ASLEEP = 15.0
"""Seconds between two looks: this machine slept, and is perhaps elsewhere now."""
START_SECONDS = 2.0

NO_NETWORK = "this node is in no network yet"
NO_INTERFACE = "no network interface with a private address is up; BOOTNODES or an invite token still work"


@dataclass(frozen=True, slots=True)
class View:
    """Where an open zeroconf is, and for which networks."""

    addresses: tuple[IPAddress, ...]
    networks: tuple[str, ...]


class Discovery:
    """`step` opens it, looks every few seconds whether the machine is still where it was, and opens it anew if not."""

    def __init__(
        self,
        presence: Presence,
        heard: Callable[[Hint], None],
        clock: Callable[[], float],
        interfaces: Callable[[], tuple[IPAddress, ...]],
    ) -> None:
        self.why = "it has not begun"
        """Why nothing can be found at the moment, and the remedy; empty while it can."""
        self._presence = presence
        self._heard = heard
        self._clock = clock
        self._interfaces = interfaces
        self._hints = Hints(presence)
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._view: View | None = None
        self._looked = self._asked = clock()

    @property
    def hints(self) -> tuple[Hint, ...]:
        """Who is heard on this LAN now: whom to try when nobody else is left."""
        return tuple(self._hints.known.values())

    @property
    def refused(self) -> Mapping[str, str]:
        """Who else is heard, by the first characters of the id they claim, and why they are not tried."""
        return dict(self._hints.refused)

    async def step(self) -> float:
        """Never raises for what a network or its absence can do. Returns the seconds until the next look."""
        try:
            await self._look()
        except (OSError, RuntimeError, Error) as error:
            self._say(f"multicast DNS does not work here ({error or type(error).__name__}); BOOTNODES do without it")
            await self.close()
            return RETRY_SECONDS
        finally:
            self._looked = self._clock()
        return LOOK_SECONDS

    async def close(self) -> None:
        """Says goodbye, which takes a quarter of a second, and leaves no socket, task or timer."""
        self._view = None
        self._hints.clear()
        if self._browser:
            await self._browser.async_cancel()
            self._browser = None
        if self._zeroconf:
            await _shut(self._zeroconf)
            self._zeroconf = None

    async def _look(self) -> None:
        now = self._clock()
        view = View(of_the_lan(self._interfaces(), self._presence.bound), tuple(self._presence.networks()))
        slept = not 0 <= now - self._looked <= ASLEEP
        if slept or view != self._view:
            await self.close()
            self._view = view
            if view.addresses and view.networks:
                await self._open(view)
            self._say(_lack(view, self._presence))
        elif self._zeroconf:
            for label in tuple(self._hints.known):
                self._heed(self._zeroconf.zeroconf, label)  # An address that was replaced goes a second later, unsaid.
            if not 0 <= now - self._asked < ASK_SECONDS:
                await self._ask(self._zeroconf)

    async def _open(self, view: View) -> None:
        """On IPv4, or where there is none on IPv6; either way all addresses are announced."""
        by_version = {version: [str(ip) for ip in view.addresses if ip.version == version] for version in (4, 6)}
        self._zeroconf = opened = AsyncZeroconf(interfaces=by_version[4] or by_version[6])
        await opened.zeroconf.async_wait_for_start(START_SECONDS)
        if not opened.zeroconf.engine.senders:
            raise OSError("no interface takes part in multicast")
        await self._ask(opened)
        at = heard_at(view.addresses, self._presence.bound)
        if self._presence.port is not None and at:
            ours = service(self._presence, view.networks[0], self._presence.port, at)
            # No probing: the name is ours by our key, and who holds it against us must not silence us.
            await (await opened.async_register_service(ours, cooperating_responders=True))

    async def _ask(self, opened: AsyncZeroconf) -> None:
        """For answers by multicast: one to this machine's port 5353 alone may reach another process that shares it."""
        if self._browser:
            await self._browser.async_cancel()
        self._asked = self._clock()
        self._browser = AsyncServiceBrowser(
            opened.zeroconf, SERVICE, handlers=[self._changed], question_type=DNSQuestionType.QM
        )

    def _changed(self, *, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """zeroconf calls it, with keywords."""
        match = INSTANCE.fullmatch(name)
        if match and state_change is ServiceStateChange.Removed:
            self._hints.forget(match[1])
        elif match:
            self._heed(zeroconf, match[1])

    def _heed(self, zeroconf: Zeroconf, label: str) -> None:
        """Its addresses are forgotten after two minutes unless somebody asks: that says nothing."""
        info = ServiceInfo(SERVICE, f"{label}.{SERVICE}")
        if info.load_from_cache(zeroconf):
            told = self._hints.take(label, info, self._clock(), self._ours())
            if told:
                self._heard(told)

    def _ours(self) -> frozenset[Address]:
        found = self._view.addresses if self._view else ()
        return frozenset(Address(str(ip), self._presence.port or 0) for ip in heard_at(found, self._presence.bound))

    def _say(self, why: str) -> None:
        if why != self.why:
            log.info("lan_discovery", reason=why or "open", count=len(self._view.addresses) if self._view else 0)
        self.why = why


@asynccontextmanager
async def lan(
    presence: Presence,
    heard: Callable[[Hint], None],
    clock: Callable[[], float],
    interfaces: Callable[[], tuple[IPAddress, ...]] = addresses,
) -> AsyncIterator[Discovery]:
    """Its `step` belongs into the loops. `heard` must not raise; `clock` goes on while the machine sleeps."""
    discovery = Discovery(presence, heard, clock, interfaces)
    try:
        yield discovery
    finally:
        await discovery.close()


def _lack(view: View, presence: Presence) -> str:
    if not view.networks:
        return NO_NETWORK
    if not view.addresses:
        return NO_INTERFACE
    if not any(presence.dials(ip, ANY_PORT) for ip in view.addresses):
        return f"PEER_ALLOW_CIDRS allows no address of this LAN (ours is {view.addresses[0]}); add its range"
    return ""


async def _shut(opened: AsyncZeroconf) -> None:
    """Also when it is cancelled while it says goodbye: what then follows closes the sockets before it waits."""
    try:
        await opened.async_unregister_all_services()
    finally:
        try:
            await opened.async_close()
        except OSError:  # It failed to take up its sockets when it was opened, and fails again before it closes them.
            opened.zeroconf.close()
