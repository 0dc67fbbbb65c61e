"""Races of every mix of good, bad, failing and hanging runners: each ends as it must, and nothing is left of any."""

import asyncio
from collections.abc import Iterator
from itertools import product
from random import Random
from typing import Any

import pytest

from peers.errors import MasaError
from peers.waves import Rules
from tests.runners import Scripted, answers, assert_nothing_runs, fails, hangs, result, run, virtually

KINDS: dict[str, Any] = {"good": answers, "bad": lambda at: fails(at, code="bad_answer"), "failing": fails}
MIXES = [*product(("good", "bad", "failing", "hanging"), repeat=3)]
ORDERS = [*product((0.0, 1.0, 2.0), repeat=3)]


def mixed(mix: tuple[str, ...], order: tuple[float, ...]) -> list[Scripted]:
    acts = [hangs if kind == "hanging" else KINDS[kind](at) for kind, at in zip(mix, order, strict=True)]
    return [Scripted(f"{kind}{at}-{place}", act) for place, (kind, at, act) in enumerate(zip(mix, order, acts))]  # noqa: B905


def expected(mix: tuple[str, ...], order: tuple[float, ...]) -> str:
    """How the name of the winner begins, or the error."""
    good = [at for kind, at in zip(mix, order, strict=True) if kind == "good"]
    if good:
        return f"good{min(good)}"
    return "504 race_timeout" if "hanging" in mix else "502 no_answer"


class TestMixes:
    @pytest.mark.parametrize("mix", MIXES, ids="-".join)
    def test_every_mix_in_every_order_ends_as_it_must(self, mix: tuple[str, ...]) -> None:
        async def every() -> None:
            for order in ORDERS:
                runners = mixed(mix, order)
                assert (await result(*runners))[0].startswith(expected(mix, order))
                await assert_nothing_left(runners)

        virtually(every())

    @pytest.mark.parametrize("mix", MIXES, ids="-".join)
    def test_one_after_another_they_end_alike(self, mix: tuple[str, ...]) -> None:
        async def every() -> None:
            for order in ORDERS:
                runners = mixed(mix, order)
                told = (await result(*runners, rules=Rules(width=1, delay=0.5)))[0]
                assert told.startswith(expected(mix, order)[:4])
                await assert_nothing_left(runners)

        virtually(every())

    @pytest.mark.parametrize("mix", MIXES, ids="-".join)
    def test_cancelled_at_any_step_nothing_is_left(self, mix: tuple[str, ...]) -> None:
        async def every() -> None:
            for order, at, steps in steps_of(Random("-".join(mix))):
                runners = mixed(mix, order)
                await cancelled(runners, at, steps)
                await assert_nothing_left(runners)

        virtually(every())


def steps_of(rng: Random) -> Iterator[tuple[tuple[float, ...], float, int]]:
    """An order, when to cancel, and after how many turns of the loop; each moment in a few of the orders."""
    for at, steps in product((0.0, 1.0, 2.0, 30.0), range(8)):
        for order in rng.sample(ORDERS, 3):
            yield order, at, steps


async def cancelled(runners: list[Scripted], at: float, steps: int) -> None:
    task = asyncio.create_task(run(*runners))
    await asyncio.sleep(at)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    try:
        reply = await task
    except (asyncio.CancelledError, MasaError):
        return
    reply.close()


async def assert_nothing_left(runners: list[Scripted]) -> None:
    await assert_nothing_runs()
    assert all(runner.open_replies == 0 for runner in runners)
