"""Within: one timer for many connections that have the same time each for something."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Within(Generic[T]):
    """`late` hears of each that has begun and was not ended after `seconds`."""

    def __init__(self, seconds: float, late: Callable[[T], None]) -> None:
        self._seconds = seconds
        self._late = late
        self._loop = asyncio.get_running_loop()
        self._due: dict[T, float] = {}
        """The first is due first."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, one: T) -> None:
        self._due[one] = self._loop.time() + self._seconds
        if self._timer is None:
            self._arm()

    def end(self, one: T) -> None:
        self._due.pop(one, None)

    def due(self, one: T) -> float | None:
        """The loop's time; None: it has not begun."""
        return self._due.get(one)

    def _arm(self) -> None:
        self._timer = self._loop.call_at(next(iter(self._due.values())), self._look)

    def _look(self) -> None:
        self._timer, now = None, self._loop.time()
        late = []
        for one, due in self._due.items():
            if due > now:
                break
            late.append(one)
        for one in late:
            if self._due.pop(one, None) is not None:  # none of those before it has ended it
                self._late(one)
        if self._due and self._timer is None:
            self._arm()
