"""Waiting for facts that nobody tells of, as another process's news: the one place that looks again and again."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

PATIENCE = 20.0
LOOK = 0.01

Fact = Callable[[], object] | Callable[[], Awaitable[object]]
"""True or not, at once or after a moment."""


async def until(fact: Fact, within: float = PATIENCE, told: Fact = lambda: "") -> float:
    """Wait until it is so; the seconds it took. AssertionError after `within`, with what is `told` then."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    while not await _asked(fact):
        if loop.time() - start > within:
            raise AssertionError(f"not so after {within:g} s: {await _asked(told)}")
        await asyncio.sleep(LOOK)
    return loop.time() - start


async def holds(fact: Fact, seconds: float, told: Fact = lambda: "") -> None:
    """It is so now, and for as long: AssertionError as soon as it is not."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        assert await _asked(fact), f"no longer so: {await _asked(told)}"
        await asyncio.sleep(LOOK * 10)


async def settled(value: Callable[[], object], still: float = 0.2) -> None:
    """Wait until it has not changed for so many seconds: buffers on a way are full, and nothing moves any more."""
    loop = asyncio.get_running_loop()
    before, since = value(), loop.time()
    while loop.time() - since < still:
        await asyncio.sleep(LOOK)
        if (now := value()) != before:
            before, since = now, loop.time()


async def _asked(fact: Fact) -> object:
    answer = fact()
    return await answer if inspect.isawaitable(answer) else answer
