"""Pause: whether this node serves its peers, by its owner's word; a restart keeps it."""

import asyncio
import math
from collections.abc import Callable
from datetime import datetime

from peers.errors import Busy, MasaError
from peers.network.disk import not_written
from peers.network.store import Store

ASK_AGAIN = 60
"""Seconds after which a peer may look again."""


class Pause:
    """One for a node. It ends by the clock, in Unix seconds."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        """Reads what was kept: blocks."""
        self._store = store
        self._clock = clock
        self._until = store.paused_until()

    @property
    def until(self) -> float | None:
        """None: not paused; infinity: until it is ended."""
        return self._until if self._clock() < self._until else None

    async def begin(self, seconds: float | None) -> None:
        """None: until it is ended. Raises MasaError: see `_keep`."""
        await self._keep(math.inf if seconds is None else self._clock() + seconds)

    async def end(self) -> None:
        await self._keep(0.0)

    def refusal(self) -> MasaError | None:
        """What a peer is told meanwhile."""
        until = self.until
        if until is None:
            return None
        left = min(ASK_AGAIN, math.ceil(max(1.0, until - self._clock()))) if until < math.inf else ASK_AGAIN
        text = f"this node serves no peers {shown(until)}; `masa-node resume` ends that"
        return Busy(text, code="paused", retry_after=left)

    async def _keep(self, until: float) -> None:
        """It counts from now on, whatever the disk says. Raises MasaError: a restart will not know of it."""
        self._until = until
        try:
            await asyncio.to_thread(self._store.keep_pause, until)
        except OSError as error:
            text = f"done, but a restart will not know of it: {not_written(error)}"
            raise MasaError(500, "not_kept", text) from error


def shown(until: float) -> str:
    """For people, in their own time."""
    if until == math.inf:
        return "until it resumes"
    return f"until {datetime.fromtimestamp(until).astimezone():%Y-%m-%d %H:%M:%S}"
