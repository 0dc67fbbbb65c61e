"""Watch: one timer for the silence on many connections."""

import asyncio

import pytest

from peers.http1.errors import Silent
from peers.http1.watch import Watch
from tests.http1 import Bucket, read
from tests.http1_server import HELLO, SOON, saying, serving


class One:
    """It waits for something until `until`."""

    def __init__(self, watch: Watch, until: float) -> None:
        self.until = asyncio.get_running_loop().time() + until
        self.told = asyncio.Event()
        self.at = 0.0
        watch.begin(self, self.until)

    def due(self, now: float) -> float:
        return self.until

    def silent(self) -> None:
        self.at, self.until = asyncio.get_running_loop().time(), float("inf")
        self.told.set()


async def test_each_is_told_in_its_time_whichever_began_first() -> None:
    watch = Watch()
    late, soon, ended = One(watch, SOON * 2), One(watch, SOON), One(watch, SOON / 2)
    watch.end(ended)
    dues = (soon.until, late.until)
    async with asyncio.timeout(5):
        await soon.told.wait()
        assert not late.told.is_set()
        await late.told.wait()
    assert not ended.told.is_set()
    for one, due in zip((soon, late), dues, strict=True):
        assert one.at >= due


async def test_one_that_was_heard_of_meanwhile_is_looked_at_again() -> None:
    watch = Watch()
    one = One(watch, SOON)
    one.until += SOON
    due = one.until
    async with asyncio.timeout(5):
        await one.told.wait()
    assert one.at >= due


async def test_nobody_is_waited_for_once_all_have_ended() -> None:
    watch = Watch()
    one = One(watch, SOON)
    timer = watch._timer
    watch.end(one)
    assert timer is not None
    assert timer.cancelled()


async def test_two_answers_of_one_client_are_silent_each_for_itself() -> None:
    async with serving(saying(HELLO[:-1])) as (_, caller):
        quick, slow = await caller.ask(silence=SOON), await caller.ask(silence=30)
        with pytest.raises(Silent):
            await read(quick, Bucket())
        assert not slow.over
        slow.close()
