"""Plain requests, which the fast path takes, and those that it took."""

import pytest

from handlers.plain import Plain
from handlers.quick import Quick
from handlers.quick_forward import QuickForward
from tests.asking import read_answer
from tests.raw import Wire, post


def noted(monkeypatch: pytest.MonkeyPatch, way: type[Quick | QuickForward] = Quick) -> list[Plain]:
    """Those that the fast path answers from now on."""
    taken, answer = [], way.answer

    async def noting(self, plain, *rest):
        taken.append(plain)
        return await answer(self, plain, *rest)

    monkeypatch.setattr(way, "answer", noting)
    return taken


def asking(port: int, number: int, **headers: str) -> bytes:
    """Without further headers it is plain."""
    return post(port, "/api/chat", b'{"model":"llama3","n":%d}' % number, headers)


async def statuses(wire: Wire, count: int) -> list[int]:
    """Of the next answers."""
    return [(await read_answer(wire)).status for _ in range(count)]
