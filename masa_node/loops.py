"""The one owner of background work: each step runs for ever, at its own pace."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import structlog

log = structlog.get_logger(__name__)

JITTER = 0.1
AFTER_A_FAULT = 5.0

Step = Callable[[], Awaitable[float]]
"""Does its work once, and says after how many seconds to do it again."""


async def every(step: Step, name: str, rng: random.Random) -> None:
    """A step that fails is logged and tried again."""
    while True:
        try:
            pause = await step()
        except Exception as error:
            log.error("step_failed", name=name, exc_info=error)
            pause = AFTER_A_FAULT
        if (task := asyncio.current_task()) and task.cancelling():
            return  # the fault came while it was being cancelled, and swallowed that
        await asyncio.sleep(pause * rng.uniform(1 - JITTER, 1 + JITTER))


@asynccontextmanager
async def loops(steps: Sequence[tuple[str, Step]], rng: random.Random) -> AsyncIterator[None]:
    """Run the steps until the block is left. A loop that dies ends the process."""
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(every(step, name, rng), name=name) for name, step in steps]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
