"""Histories in the manner of Jepsen: what every caller asked and got, held against what every model server made of it.

No two questions are alike and no two answers, so that each is traced by its bytes.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp

from tests.fakes import DIE, HANG, RESET, ModelServer, Script, Seen
from tests.scripts import SSE, Speaks, busy, usual
from tests.waiting import until

ORPHANED = 1.0
"""Seconds after its caller is gone in which all work for a question must have ended."""
LONGEST = 60.0
"""Seconds for a question."""
BODIES: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "/api/chat": lambda text: {"messages": [{"role": "user", "content": text}]},
    "/v1/api/chat": lambda text: {"messages": [{"role": "user", "content": text}]},
    "/api/generate": lambda text: {"prompt": text},
    "/v1/chat/completions": lambda text: {"messages": [{"role": "user", "content": text}]},
    "/v1/responses": lambda text: {"input": text},
    "/v1/messages": lambda text: {"max_tokens": 9, "messages": [{"role": "user", "content": text}]},
}


@dataclass(slots=True)
class Work:
    """What one model server was asked, and how it was to answer."""

    seen: Seen
    script: Script
    ended: float | None = None
    """When it was finished or abandoned, in seconds of the loop's clock."""

    @property
    def answer(self) -> bytes:
        return b"".join(chunk for chunk in self.script.chunks if isinstance(chunk, bytes))

    @property
    def whole(self) -> bool:
        return self.script.status == 200 and not {DIE, RESET, HANG} & {*self.script.before_head, *self.script.chunks}


class Voice(ModelServer):
    """A model server whose every answer holds its name and the question."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(**options)
        self.name = name
        self.bend: Callable[[Script], Script] = lambda script: script
        """How its answers differ from the usual ones: late, slow, broken."""
        self.most: int | None = None
        """How many requests it does at once; more are refused as Ollama does. None: as many as come."""
        self.work: list[Work] = []
        self._under_way: list[Work] = []

    def chosen(self, seen: Seen) -> Script:
        if not seen.inference:
            return super().chosen(seen)
        full = self.most is not None and len(self._under_way) >= self.most
        work = Work(seen, busy() if full else super().chosen(seen) if self._next else self.bend(self._said(seen)))
        self.work.append(work)
        self._under_way.append(work)
        return work.script

    def tell(self) -> None:
        for work in [one for one in self._under_way if one.seen.abandoned.is_set() or one.seen.finished.is_set()]:
            work.ended = asyncio.get_running_loop().time()
            self._under_way.remove(work)
        super().tell()

    def _said(self, seen: Seen) -> Script:
        words = (self.name, " heard ", seen.body.hex()[:16], *(f" {seen.asked.get('seed')}" for _ in range(5)))
        speaks = Speaks(self.speaks.models, self.speaks.loaded, self.speaks.dialects, words)
        return usual(speaks, "POST", seen.path, seen.asked)


Outcome = Literal["asking", "ok", "error", "cut", "left"]
"""A whole answer with status 200; a refusal; an answer that broke off; its caller hung up."""


@dataclass(slots=True)
class Question:
    """One call of one caller."""

    path: str
    body: bytes
    stream: bool
    began: float
    outcome: Outcome = "asking"
    ended: float = float("inf")
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    answer: bytes = b""
    first_byte: float | None = None

    @property
    def told(self) -> dict[str, Any]:
        told = json.loads(self.answer)
        assert isinstance(told, dict)
        return told

    @property
    def code(self) -> str:
        """Of a refusal in any dialect."""
        error = self.told.get("error")
        return str(self.told.get("code") or (error.get("code") or error.get("type") if isinstance(error, dict) else ""))


class History:
    """All questions of a test, and the model servers of the network; by node id where that is known."""

    def __init__(self, voices: Mapping[str, Voice]) -> None:
        self.voices = voices
        self.questions: list[Question] = []

    async def ask(
        self,
        url: str,
        path: str = "/api/chat",
        *,
        stream: bool = True,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Question:
        """Ask, and read to the end, whatever it is. Whoever cancels this hangs up."""
        loop, number = asyncio.get_running_loop(), len(self.questions)
        body = {"seed": number, "model": "llama3", "stream": stream, **BODIES[path](f"question {number}"), **fields}
        question = Question(path, json.dumps(body).encode(), stream, loop.time())
        self.questions.append(question)
        try:
            await self._exchange(question, url, {"Content-Type": "application/json", **(headers or {})})
        except aiohttp.ClientPayloadError:
            question.outcome = "cut"
        except asyncio.CancelledError:
            question.outcome = "left"
            raise
        finally:
            question.ended = loop.time()
        return question

    async def _exchange(self, question: Question, url: str, headers: Mapping[str, str]) -> None:
        limit = aiohttp.ClientTimeout(total=LONGEST)
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.post(url + question.path, data=question.body, headers=headers) as got,
        ):
            question.status, question.headers = got.status, dict(got.headers)
            async for chunk in got.content.iter_any():
                question.first_byte = question.first_byte or asyncio.get_running_loop().time()
                question.answer += chunk
            question.outcome = "ok" if got.status == 200 else "error"

    def work_for(self, question: Question) -> list[tuple[str, Work]]:
        """All that was done for it anywhere, with the node's id."""
        done = [(node, work) for node, voice in self.voices.items() for work in voice.work]
        return [(node, work) for node, work in done if work.seen.body == question.body]

    async def check(self, *, most_sends: float, at_once: bool = False) -> None:
        """AssertionError: an answer that no model gave, work that nobody waited for, or too much of it.

        `most_sends`: for each question. `at_once`: nobody is asked twice.
        """
        assert all(question.outcome != "asking" for question in self.questions)
        await self._all_ended()
        for question in self.questions:
            work = self.work_for(question)
            self._check_answer(question, work)
            assert len(work) <= most_sends, f"{len(work)} sends for one question"
            times = Counter(node for node, one in work if one.script.status != 503)
            assert not at_once or max(times.values(), default=0) <= 1, f"asked twice: {times}"
            orphans = [node for node, one in work if one.ended is None or one.ended > question.ended + ORPHANED]
            assert not orphans, f"{orphans} went on after {question}"

    async def _all_ended(self) -> None:
        """Wait for the end of all work, as long as it may take."""
        last = max((question.ended for question in self.questions), default=0.0) + ORPHANED
        works = [work for voice in self.voices.values() for work in voice.work]
        loop = asyncio.get_running_loop()
        await until(lambda: loop.time() >= last or all(work.ended is not None for work in works))

    def _check_answer(self, question: Question, work: list[tuple[str, Work]]) -> None:
        match question.outcome:
            case "ok":
                by = [node for node, one in work if one.whole and one.answer == question.answer]
                assert by == [question.headers["X-Masa-Node"]], f"{by} gave {question}"
            case "error":
                assert question.status >= 400, question
                assert question.code, question
            case "cut":
                parts = [one.answer for _, one in work]
                assert any(begins(question.answer, part) for part in parts), f"nobody began {question}"


def begins(answer: bytes, part: bytes) -> bool:
    """Whether a broken answer is a beginning of this one and, at most, the node's own word that it broke."""
    if part.startswith(answer):
        return True
    for mark in (b"{", b"data: {", b"event: error"):
        kept, found, told = answer.rpartition(b"\n" + mark)
        if found and b"error" in told and part.startswith(kept.rstrip(b"\n")):
            return True
    return False


def error_at_end(question: Question) -> dict[str, Any] | None:
    """The error that the stream ends with, as its dialect tells it; None where there is none."""
    unit = question.answer.rstrip(b"\n").rpartition(b"\n")[2]
    text = unit.removeprefix(b"data: ") if question.headers.get("Content-Type") == SSE["Content-Type"] else unit
    try:
        told = json.loads(text)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "error" in told else None
