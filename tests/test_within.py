"""Within: who began and was not ended in time is told of, once, and nobody else is. In virtual time."""

import asyncio
from typing import Any

import pytest

from masa_node.within import Within
from tests.runners import virtually

SECONDS = 10.0


class Told:
    """Who was late, and when."""

    def __init__(self) -> None:
        self.within = Within[str](SECONDS, self.note)
        self.late: list[tuple[str, float]] = []

    def note(self, name: str) -> None:
        self.late.append((name, pytest.approx(asyncio.get_running_loop().time())))


def test_only_those_who_are_late_are_told_of_and_in_their_order():
    async def run() -> None:
        told = Told()
        for name in ("a", "b", "c"):
            told.within.begin(name)
        await asyncio.sleep(1)
        told.within.begin("d")
        told.within.end("a")
        told.within.end("c")
        await asyncio.sleep(100)
        assert told.late == [("b", SECONDS), ("d", SECONDS + 1)]
        assert told.within.due("b") is None

    virtually(run())


def test_they_have_one_timer():
    async def run() -> None:
        told, timers = Told(), []

        class Noting:
            time = staticmethod(asyncio.get_running_loop().time)

            @staticmethod
            def call_at(*args: Any) -> asyncio.TimerHandle:
                timers.append(asyncio.get_running_loop().call_at(*args))
                return timers[-1]

        told.within._loop = Noting()
        for name in ("a", "b", "c"):
            told.within.begin(name)
            await asyncio.sleep(1)
        assert len(timers) == 1
        await asyncio.sleep(100)
        assert told.late == [("a", SECONDS), ("b", SECONDS + 1), ("c", SECONDS + 2)]
        assert len(timers) == 3

    virtually(run())


def test_who_begins_again_has_the_whole_time_again():
    async def run() -> None:
        told = Told()
        told.within.begin("a")
        await asyncio.sleep(4)
        told.within.end("a")
        told.within.begin("a")
        assert told.within.due("a") == pytest.approx(14)
        await asyncio.sleep(16)
        told.within.begin("a")  # it was late, and has come back
        await asyncio.sleep(100)
        assert told.late == [("a", 14), ("a", 30)]

    virtually(run())


def test_one_who_ends_another_while_it_is_late_itself():
    class Ending(Told):
        def note(self, name: str) -> None:
            super().note(name)
            self.within.end("later")

    async def run() -> None:
        told = Ending()
        told.within.begin("first")
        told.within.begin("later")
        await asyncio.sleep(100)
        assert told.late == [("first", SECONDS)]
        assert told.within.due("later") is None

    virtually(run())
