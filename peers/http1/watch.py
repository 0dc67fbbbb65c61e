"""Watch: one timer for the silence on many connections, however many requests they carry."""

import asyncio
import math
from typing import Protocol


class Watched(Protocol):
    def due(self, now: float) -> float:
        """The loop's time at which it will have been silent for too long; infinite: nothing is waited for."""
        ...

    def silent(self) -> None:
        """It was."""
        ...


class Watch:
    """It looks at all of them when the first may have been silent for too long."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, one: Watched, due: float) -> None:
        """Right at any time: the same one with another `due` too."""
        self._watched.add(one)
        if self._timer is None or due < self._timer.when():
            self._arm(due)

    def end(self, one: Watched) -> None:
        self._watched.discard(one)
        if self._timer is not None and not self._watched:
            self._timer.cancel()
            self._timer = None

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer, now = None, self._loop.time()
        late = [one for one in self._watched if one.due(now) <= now]
        for one in late:
            one.silent()
        first = min((one.due(now) for one in self._watched), default=math.inf)
        if self._timer is None and first < math.inf:
            self._arm(first)
