"""The callers of bench/soak: so many questions a second, and each answer held against what a model server said."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import aiohttp

from harness.soak_models import BUSY, MODEL, failure, lie, said
from harness.soak_nodes import Node

LIMIT_S = 90.0
"""Longer than all that a node may wait for (harness.soak_nodes.IMPATIENT): beyond it an answer is lost."""
LEAVES, LEAVES_S = 0.05, (0.05, 1.0)
PATHS = ("/api/chat", "/v1/chat/completions")


@dataclass(slots=True)
class Callers:
    """All who ask, and how it went."""

    nodes: Sequence[Node]
    rng: Random
    tell: Callable[[str], None]
    """Whoever watches hears at once of what was lost or false."""
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """What was lost or false, in words."""
    asked: int = 0

    async def ask_on(self, per_second: float) -> None:
        """Until cancelled; those under way are then awaited."""
        limit = aiohttp.ClientTimeout(total=LIMIT_S)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(timeout=limit, connector=connector) as session,
            asyncio.TaskGroup() as group,
        ):
            try:
                while True:
                    group.create_task(self._one(session, self.rng.choice(self.nodes)))
                    await asyncio.sleep(self.rng.expovariate(per_second))
            except asyncio.CancelledError:
                pass  # the group waits for the answers that are still to come

    async def _one(self, session: aiohttp.ClientSession, node: Node) -> None:
        path, number = self.rng.choice(PATHS), self.asked
        self.asked += 1
        messages = [{"role": "user", "content": f"question {number}"}]
        asked = {"model": MODEL, "stream": self.rng.random() < 0.75, "messages": messages}
        body, meddled, up = json.dumps(asked).encode(), node.meddled, node.up
        leaves = self.rng.uniform(*LEAVES_S) if self.rng.random() < LEAVES else None
        outcome, why = await self._exchange(session, node, path, body, leaves)
        if outcome == "unreachable":
            left_alone = up and node.up and meddled == node.meddled
            outcome = "lost" if left_alone else "node was down"
        self.outcomes[outcome] += 1
        if outcome in ("lost", "false"):
            self.wrong.append(f"{outcome}: question {number} to {node.name}{path}: {why}")
            self.tell(self.wrong[-1])

    async def _exchange(
        self, session: aiohttp.ClientSession, node: Node, path: str, body: bytes, leaves: float | None
    ) -> tuple[str, str]:
        got = bytearray()
        headers: Mapping[str, str] = {}
        status = 0
        try:
            async with asyncio.timeout(leaves):
                post = session.post(node.url + path, data=body, headers={"Content-Type": "application/json"})
                async with post as answer:
                    status, headers = answer.status, answer.headers
                    async for chunk in answer.content.iter_any():
                        got += chunk
        except aiohttp.ClientPayloadError:
            return self._cut(headers, path, body, bytes(got))
        except TimeoutError:
            return ("left", "") if leaves else ("lost", f"nothing more after {LIMIT_S:.0f} s, status {status}")
        except (aiohttp.ClientError, ConnectionError) as error:
            if status:
                return self._cut(headers, path, body, bytes(got))
            return "unreachable", f"{type(error).__name__} {error}"
        return self._whole(status, headers, path, body, bytes(got))

    def _whole(self, status: int, headers: Mapping[str, str], path: str, body: bytes, got: bytes) -> tuple[str, str]:
        if status == 200:
            if got == said(self._model(headers), path, body).body:
                return "answered", ""
            if got == lie(body) and headers["X-Masa-Route"].startswith("local"):
                return "answered as its own model did", ""
            return "false", f"{len(got)} bytes that nobody said: {got[:300]!r} … {got[-300:]!r}"
        if got in (failure(body), BUSY):
            return "its model's own error", ""
        try:
            told = json.loads(got)
            error = told["error"]
            code = told.get("code") or error["code"]
        except (ValueError, LookupError, TypeError, AttributeError):
            return "false", f"{status} without a code: {got[:300]!r}"
        return f"{status} {code}", ""

    def _cut(self, headers: Mapping[str, str], path: str, body: bytes, got: bytes) -> tuple[str, str]:
        whole = said(self._model(headers), path, body).body
        if whole.startswith(got) or any(whole.startswith(part) for part in _before_error(got)):
            return "cut", ""
        return "false", f"no beginning of an answer: {got[:300]!r} … {got[-300:]!r}"

    def _model(self, headers: Mapping[str, str]) -> str:
        return next((node.name for node in self.nodes if node.id == headers.get("X-Masa-Node")), "nobody")

    def missed(self) -> int:
        return self.outcomes["lost"] + self.outcomes["false"]


def _before_error(got: bytes) -> list[bytes]:
    """What stood there before the node's own word that the answer broke (README: a cut stream)."""
    found = (got.rpartition(mark) for mark in (b'\n{"error"', b'\ndata: {"error"'))
    return [kept.rstrip(b"\n") for kept, mark, _ in found if mark] + [b""] * got.startswith((b'{"error"', b"data: {"))
