"""Discovery on the LAN, by real multicast on loopback: who is heard, what changes, and that nothing is left behind."""

import asyncio
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

import pytest

from peers.network import discovery as module
from peers.network.dialing import OWN_LAN, Address, DialPolicy, IPAddress
from peers.network.discovery import ASK_SECONDS, ASLEEP, LOOK_SECONDS, NO_INTERFACE, NO_NETWORK, RETRY_SECONDS, lan
from peers.network.hints import ELSEWHERE, Hint, Presence
from peers.network.identity import id_text
from tests.waiting import until

HERE, BESIDE = ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("127.0.0.2")
NOT_OURS = ipaddress.ip_address("10.255.255.254")
ALLOWED = DialPolicy(OWN_LAN).gossiped
WITHIN = 15.0


@pytest.fixture(scope="module")
def multicast():
    """Skips where no multicast comes back by loopback."""
    group = "224.0.0.251"
    with socket.socket(type=socket.SOCK_DGRAM) as hears, socket.socket(type=socket.SOCK_DGRAM) as speaks:
        try:
            hears.settimeout(2)
            hears.bind(("", 0))
            hears.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + HERE.packed)
            speaks.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, HERE.packed)
            speaks.sendto(b"heard?", (group, hears.getsockname()[1]))
            assert hears.recv(16) == b"heard?"
        except OSError as error:
            pytest.skip(f"no multicast on loopback here: {error}")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Milliseconds between the three announcements, and between the three goodbyes: 225 and 125 (RFC 6762 §8.3)."""
    monkeypatch.setattr("zeroconf._core._REGISTER_TIME", 20)
    monkeypatch.setattr("zeroconf._core._UNREGISTER_TIME", 20)


class Node:
    """A node's discovery, and what a test may turn: its networks, its interfaces, its clock."""

    def __init__(self, network: str, port: int | None, bound: tuple[IPAddress, ...] = (HERE, BESIDE)) -> None:
        self.networks = [network]
        self.interfaces: tuple[IPAddress, ...] = (HERE,)
        self.ahead = 0.0
        self.told: list[Hint] = []
        me = id_text(os.urandom(31) + b"\0")
        self.presence = Presence(me=me, networks=lambda: self.networks, port=port, bound=bound, allowed=ALLOWED)

    def open(self):
        return lan(self.presence, self.told.append, self.clock, lambda: self.interfaces)

    def clock(self) -> float:
        return time.time() + self.ahead

    def hint(self, *hosts: IPAddress) -> Hint:
        return Hint(self.presence.me, tuple(Address(str(host), self.presence.port or 0) for host in hosts))


@pytest.fixture
async def lans(multicast):
    """Nodes whose discovery is open. Everyone who hears this machine's loopback is kept apart by the network."""
    network = os.urandom(8).hex()
    async with AsyncExitStack() as stack:

        async def start(network: str = network, port: int | None = 4001, **options):
            node = Node(network, port, **options)
            opened = await stack.enter_async_context(node.open())
            assert await opened.step() == LOOK_SECONDS
            return node, opened

        yield start


async def test_two_find_each_other_and_say_goodbye(lans):
    a, at_a = await lans(port=4001)
    b = Node(a.networks[0], 4002)
    async with b.open() as at_b:
        await at_b.step()
        await until(lambda: at_a.hints and at_b.hints)
        assert a.told == [b.hint(HERE)] == list(at_a.hints)
        assert b.told == [a.hint(HERE)]
        assert (at_a.why, at_b.why) == ("", "")
    await until(lambda: not at_a.hints)
    assert a.told == [b.hint(HERE)]


async def test_who_comes_first_does_not_matter_and_nothing_is_told_twice(lans):
    nodes = [await lans(port=4001 + n) for n in range(3)]
    await until(lambda: all(len(at.hints) == 2 for _, at in nodes))
    for node, at in nodes:
        node.ahead += 2
        assert await at.step() == LOOK_SECONDS
        assert len(node.told) == 2


async def test_another_network_is_seen_and_not_hinted_at(lans):
    a, at_a = await lans()
    b, at_b = await lans(network="another", port=4002)
    await until(lambda: at_a.refused.get(b.presence.me[:12]) == ELSEWHERE)
    await until(lambda: at_b.refused.get(a.presence.me[:12]) == ELSEWHERE)
    assert not a.told
    assert not b.told


async def test_a_node_that_nobody_can_dial_hears_and_is_silent(lans):
    a, at_a = await lans(port=None, bound=(HERE,))
    b, at_b = await lans(port=4002)
    c, _ = await lans(port=4003)
    await until(lambda: len(at_a.hints) == 2)
    await until(lambda: at_b.hints)
    assert b.told == [c.hint(HERE)]
    assert not at_b.refused.get(a.presence.me[:12])


async def test_a_changed_address_is_announced_anew(lans):
    a, _ = await lans()
    b, at_b = await lans(port=4002)
    await until(lambda: a.told == [b.hint(HERE)])
    b.interfaces = (BESIDE,)
    await at_b.step()
    await until(lambda: BESIDE in [ipaddress.ip_address(address.host) for address in a.told[-1].addresses])


async def test_without_an_interface_it_says_so_and_goes_on_when_there_is_one(lans):
    a, at_a = await lans()
    b, at_b = await lans(port=4002)
    await until(lambda: at_a.hints and at_b.hints)
    b.interfaces = ()
    assert await at_b.step() == LOOK_SECONDS
    assert at_b.why == NO_INTERFACE
    assert not at_b.hints
    await until(lambda: not at_a.hints)
    b.interfaces = (HERE,)
    await at_b.step()
    assert at_b.why == ""
    await until(lambda: len(a.told) == len(b.told) == 2)


@pytest.mark.slow
async def test_after_a_sleep_everybody_is_heard_anew(lans):
    a, at_a = await lans()
    b, _ = await lans(port=4002)
    await until(lambda: a.told == [b.hint(HERE)])
    a.ahead += ASLEEP + 1
    await at_a.step()
    await until(lambda: a.told == [b.hint(HERE)] * 2)


async def test_a_network_that_is_entered_or_rotated_is_announced_anew(lans):
    a, at_a = await lans()
    _, at_b = await lans(port=4002)
    await until(lambda: at_b.hints)
    a.networks.insert(0, "the new one")
    await at_a.step()
    await until(lambda: at_b.refused.get(a.presence.me[:12]) == ELSEWHERE)
    await until(lambda: not at_a.refused)
    a.networks.clear()
    await at_a.step()
    assert at_a.why == NO_NETWORK
    await until(lambda: not at_b.refused)


async def test_it_asks_again_from_time_to_time(lans, monkeypatch):
    a, at_a = await lans()
    asked = []
    browser = module.AsyncServiceBrowser
    monkeypatch.setattr(module, "AsyncServiceBrowser", lambda *args, **kw: asked.append(args) or browser(*args, **kw))
    for _ in range(int(ASK_SECONDS / LOOK_SECONDS) + 2):
        a.ahead += LOOK_SECONDS
        await at_a.step()
    assert len(asked) == 1


async def test_a_lan_whose_addresses_may_not_be_dialled_is_told(multicast):
    node = Node("n", 4001)
    node.presence = replace(node.presence, allowed=DialPolicy().gossiped)
    async with node.open() as opened:
        await opened.step()
        assert "PEER_ALLOW_CIDRS" in opened.why
        assert "127.0.0.1" in opened.why


def failing(error: BaseException) -> Callable[..., None]:
    def fail(*_args, **_kw):
        raise error

    return fail


async def test_errors_become_words_and_are_tried_again(multicast, monkeypatch):
    node = Node("n", 4001)
    async with node.open() as opened:
        with monkeypatch.context() as patch:
            patch.setattr(module, "AsyncZeroconf", failing(OSError(19, "No such device")))
            assert await opened.step() == RETRY_SECONDS
        assert "No such device" in opened.why
        assert await opened.step() == LOOK_SECONDS
        assert opened.why == ""
    interfaces = failing(OSError(12, "no memory"))
    async with lan(node.presence, node.told.append, node.clock, interfaces) as opened:
        assert await opened.step() == RETRY_SECONDS
        assert "no memory" in opened.why


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_address_that_has_gone(multicast):
    """zeroconf then leaves its listening socket to the garbage collector, which is at once."""
    node = Node("n", 4001, bound=())
    node.interfaces = (NOT_OURS,)
    async with node.open() as opened:
        assert await opened.step() == RETRY_SECONDS
        assert "No such device" in opened.why


async def test_an_interface_that_takes_no_multicast(multicast, monkeypatch):
    """zeroconf passes it over, and would run with none."""
    monkeypatch.setattr("zeroconf._utils.net.add_multicast_member", lambda *_: False)
    node = Node("n", 4001)
    async with node.open() as opened:
        assert await opened.step() == RETRY_SECONDS
        assert "no interface takes part in multicast" in opened.why


async def opened_and_cancelled(where: str, after: float) -> None:
    """Cancelled so many seconds into the end, or into a step that opens it anew."""
    node, there = Node("n", 4001), asyncio.Event()

    async def life() -> None:
        async with node.open() as opened:
            await opened.step()
            there.set()
            if where == "step":
                node.ahead += ASLEEP + 1
                await opened.step()

    task = asyncio.create_task(life())
    await there.wait()
    await asyncio.wait([task], timeout=after)
    task.cancel()
    await asyncio.wait([task])
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def no_endpoint() -> None:
    """As when sockets run out just then."""
    loop = asyncio.get_running_loop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "START_SECONDS", 0.05)
        patch.setattr(type(loop), "create_datagram_endpoint", failing(OSError(105, "No buffer space")), raising=True)
        node = Node("n", 4001)
        async with node.open() as opened:
            assert await opened.step() == RETRY_SECONDS
            assert opened.why


def sockets_of_ours() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(one for one in found if one.startswith("socket:"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc to see open sockets in")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("where", ["step", "end"])
@pytest.mark.parametrize("after", [0, 0.02, 0.05, 0.07, 1])
def test_nothing_is_left_behind(multicast, loop, after, where):
    """Whatever it is cancelled in: the goodbye, the opening, the announcement."""
    factory = pytest.importorskip("uvloop").new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    before = sockets_of_ours(), threading.active_count()
    with asyncio.Runner(loop_factory=factory) as runner:
        inside = sockets_of_ours()
        runner.run(opened_and_cancelled(where, after))
        assert sockets_of_ours() == inside
    assert (sockets_of_ours(), threading.active_count()) == before


def test_sockets_that_cannot_be_taken_up_are_closed(multicast):
    before = sockets_of_ours()
    asyncio.run(no_endpoint())
    assert sockets_of_ours() == before
