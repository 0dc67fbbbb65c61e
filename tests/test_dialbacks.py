"""Trying for others whether they can be reached: whom, where and how often (docs/security.md C-10)."""

import asyncio

import pytest

from peers.network import dialbacks
from peers.network.contact import NoContact
from peers.network.dialbacks import DialBacks
from peers.network.dialing import Address, DialPolicy
from peers.wire import NodeId
from tests.members import A, B, C
from tests.waiting import until

HERE, ELSEWHERE = "8.8.8.8:4001", "8.8.4.4:4001"


class Net:
    """Answers pings at HERE alone, once it may."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pinged: list[tuple[str, NodeId]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.dial_backs = DialBacks(self.ping, DialPolicy().gossiped, lambda: self.now)

    async def ping(self, address: Address, node: NodeId) -> None:
        self.pinged.append((str(address), node))
        await self.open.wait()
        if str(address) != HERE:
            raise NoContact("refused", "nobody")


async def test_what_answers_is_told() -> None:
    net = Net()
    assert await net.dial_backs.tried(A, (ELSEWHERE, HERE)) == (HERE,)
    assert sorted(net.pinged) == sorted([(ELSEWHERE, A), (HERE, A)])


async def test_once_a_minute_for_each_peer() -> None:
    net = Net()
    told = []
    for net.now in (0.0, 1.0, 59.0, 61.0, 62.0):
        told.append(await net.dial_backs.tried(A, (HERE,)))
    assert told == [(HERE,), None, None, (HERE,), None]
    assert await net.dial_backs.tried(B, (HERE,)) == (HERE,)


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:4001", "10.0.0.1:4001", "169.254.169.254:4001", "8.8.8.8:22", "8.8.8.8:11434", "8.8.8.8", "x@y:1"],
)
async def test_what_a_record_may_not_offer_is_not_dialled(text: str) -> None:
    net = Net()
    assert await net.dial_backs.tried(A, (text,)) == ()
    assert net.pinged == []


async def test_four_at_once_whoever_asks() -> None:
    net = Net()
    net.open.clear()
    first = asyncio.ensure_future(net.dial_backs.tried(A, (HERE, ELSEWHERE, "8.8.8.8:4002")))
    await until(lambda: len(net.pinged) == 3, 5)
    assert await net.dial_backs.tried(B, (HERE, ELSEWHERE)) is None
    net.open.set()
    assert await first == (HERE,)
    assert await net.dial_backs.tried(B, (HERE, ELSEWHERE)) == (HERE,)  # it was not held against it


async def test_one_that_asks_all_the_time_takes_nothing_from_others() -> None:
    net = Net()
    for _ in range(100):
        await net.dial_backs.tried(A, (HERE,))
    assert await net.dial_backs.tried(B, (HERE, ELSEWHERE)) == (HERE,)


async def test_ten_a_second_for_all_together() -> None:
    net = Net()
    for number in range(30):
        await net.dial_backs.tried(NodeId(f"{number}"), (HERE,))
    assert len(net.pinged) == 10
    net.now = 1.0
    assert await net.dial_backs.tried(C, (HERE,)) == (HERE,)


async def test_silence_is_waited_for_no_longer_than_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialbacks, "DIAL_BACK_SECONDS", 0.05)
    net = Net()
    net.open.clear()
    async with asyncio.timeout(5):
        assert await net.dial_backs.tried(A, (HERE, ELSEWHERE)) == ()
    net.open.set()
    assert await net.dial_backs.tried(B, (HERE,)) == (HERE,)  # its places are free again
