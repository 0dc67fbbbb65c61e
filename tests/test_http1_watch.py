"""Watch: one timer for the silence on many connections. In virtual time, where no real connection is needed."""

import asyncio
import math

import pytest

from peers.http1.errors import Silent
from peers.http1.watch import Watch
from tests.http1 import Bucket, read
from tests.http1_server import HELLO, SOON, saying, serving
from tests.runners import virtually


class One:
    """It waits for something until `until`."""

    def __init__(self, watch: Watch, until: float) -> None:
        self.until = until
        self.at: float | None = None
        """When it was told."""
        watch.begin(self, until)

    def due(self, now: float) -> float:
        return self.until

    def silent(self) -> None:
        self.at, self.until = asyncio.get_running_loop().time(), math.inf


def test_each_is_told_in_its_time_whichever_began_first() -> None:
    async def run() -> None:
        watch = Watch()
        late, soon, ended = One(watch, 20), One(watch, 10), One(watch, 5)
        watch.end(ended)
        await asyncio.sleep(100)
        assert (soon.at, late.at, ended.at) == (pytest.approx(10), pytest.approx(20), None)

    virtually(run())


def test_one_that_was_heard_of_meanwhile_is_looked_at_again() -> None:
    async def run() -> None:
        one = One(Watch(), 10)
        one.until += 10
        await asyncio.sleep(100)
        assert one.at == pytest.approx(20)

    virtually(run())


def test_nobody_is_waited_for_once_all_have_ended() -> None:
    async def run() -> None:
        watch = Watch()
        one = One(watch, 10)
        timer = watch._timer
        watch.end(one)
        assert timer is not None
        assert timer.cancelled()
        later = One(watch, 20)
        await asyncio.sleep(100)
        assert (one.at, later.at) == (None, pytest.approx(20))

    virtually(run())


async def test_two_answers_of_one_client_are_silent_each_for_itself() -> None:
    async with serving(saying(HELLO[:-1])) as (_, caller):
        quick, slow = await caller.ask(silence=SOON), await caller.ask(silence=30)
        with pytest.raises(Silent):
            await read(quick, Bucket())
        assert not slow.over
        slow.close()
