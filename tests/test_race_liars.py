"""Peers whose answers are none: they never win, and are not asked again (docs/promises.md B1)."""

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contest import Contest, contest
from tests.fakes import JSON, SSE, Script, answer
from tests.waiting import until

HTML = b"<!doctype html><html><body>Welcome</body></html>"
TEXT = {"Content-Type": "text/html"}
CHUNK = {"model": "llama3", "message": {"role": "assistant", "content": "hi"}, "done": False}
LINE = json.dumps(CHUNK).encode() + b"\n"
ROLE = json.dumps(CHUNK | {"message": {"role": "assistant", "content": ""}}).encode() + b"\n"
MEGABYTE = 1 << 20
MOST_READ = 32 * MEGABYTE
"""Of an endless answer, what the kernel's buffers on the way hold included."""

NDJSON_LIES = {
    "empty": Script(),
    "empty lines": Script(chunks=[b"\n\n\n"]),
    "html": Script(headers=TEXT, chunks=[HTML]),
    "html as lines": Script(chunks=[HTML]),
    "{}": Script(chunks=[b"{}\n"]),
    "error": Script(chunks=[b'{"error":"no"}\n']),
    "wrong model": Script(chunks=[LINE.replace(b"llama3", b"mistral")]),
    "truncated": Script(chunks=[LINE[:40]]),
    "garbage": Script(chunks=[bytes(range(256)) * 4]),
    "endless": Script(chunks=[b"x" * MEGABYTE] * 1024),
    "endlessly nothing": Script(chunks=[ROLE * 8192] * 1024),
    "events": Script(headers=SSE, chunks=[b"data: {}\n\n", b"data: nonsense\n\n"]),
}
EVENT_LIES = {
    "empty": Script(headers=SSE),
    "only the end": Script(headers=SSE, chunks=[b"data: [DONE]\n\n"]),
    "html": Script(headers=SSE, chunks=[HTML + b"\n\n"]),
    "{}": Script(headers=SSE, chunks=[b"data: {}\n\n"]),
    "error": Script(headers=SSE, chunks=[b'data: {"error":{"message":"no"}}\n\n']),
    "nonsense": Script(headers=SSE, chunks=[b"data: nonsense\n\n"]),
    "truncated": Script(headers=SSE, chunks=[b'data: {"choices":[{"delta":{"content":"h']),
    "comments": Script(headers=SSE, chunks=[b": wait\n\n" * MEGABYTE] * 32),
    "lines": Script(chunks=[LINE]),
}
WHOLE_LIES = {
    "empty": Script(headers=JSON, framing="length"),
    "blanks": Script(headers=JSON, chunks=[b" " * MEGABYTE] * 32),
    "html": Script(headers=JSON, chunks=[HTML], framing="length"),
    "{}": answer({}),
    "error": answer({"error": "no"}),
    "wrong model": answer(CHUNK | {"model": "mistral", "done": True}),
    "truncated": Script(headers=JSON, chunks=[LINE[:40]], framing="length"),
    "list": answer([CHUNK]),
    "endless": Script(headers=JSON, chunks=[b"x" * MEGABYTE] * 1024),
}


def caught(made: Contest, liars: int) -> bool:
    races = made.asker.node.asking.races
    return bool(races) and sum(one.outcome == "bad_answer" for one in races[-1].asked.values()) == liars


async def expose(folder: Path, path: str, lies: Mapping[str, Script], *, stream: bool) -> None:
    """One peer for each lie, and an honest one who is slower than all of them."""
    async with contest(folder, len(lies) + 1, {"RACE_WIDTH": "all"}) as made:
        honest = asyncio.Event()
        for voice, lie in zip(made.voices, lies.values(), strict=False):
            voice.bend = lambda _, script=lie: script
        made.voices[-1].bend = lambda script: replace(script, before_head=[honest])
        asking = asyncio.create_task(made.ask(path, stream=stream))
        await until(lambda: caught(made, len(lies)))
        honest.set()
        assert made.index(await asking) == len(lies)
        for _ in range(3):
            got = await made.ask(path, stream=stream)
            assert (made.index(got), got.headers["X-Masa-Asked"]) == (len(lies), "1")
        assert [len(voice.work) for voice in made.voices] == [*([1] * len(lies)), 4]
        await until(lambda: all(work.ended is not None for voice in made.voices for work in voice.work))
        assert max(work.seen.written for voice in made.voices for work in voice.work) < MOST_READ
        await made.history.check(most_sends=len(lies) + 1, at_once=True)


async def test_some_that_are_no_answer(tmp_path: Path) -> None:
    some = ("{}", "wrong model", "truncated", "endless")
    await expose(tmp_path, "/api/chat", {name: NDJSON_LIES[name] for name in some}, stream=True)


@pytest.mark.slow
async def test_lines_that_are_no_answer(tmp_path: Path) -> None:
    await expose(tmp_path, "/api/chat", NDJSON_LIES, stream=True)


@pytest.mark.slow
async def test_events_that_are_no_answer(tmp_path: Path) -> None:
    await expose(tmp_path, "/v1/chat/completions", EVENT_LIES, stream=True)


@pytest.mark.slow
async def test_what_is_no_answer_in_one_piece(tmp_path: Path) -> None:
    await expose(tmp_path, "/api/chat", WHOLE_LIES, stream=False)


@pytest.mark.slow
async def test_liars_among_the_honest_are_never_believed(tmp_path: Path) -> None:
    """Three of ten lie within 5 ms; what is asked for alternates. A second wave, which a machine that is held up for a
    third of a second sends, comes late enough to be none."""
    lies = [NDJSON_LIES["{}"], NDJSON_LIES["wrong model"], NDJSON_LIES["endless"]]
    async with contest(tmp_path, 10, {"RACE_DELAY": "20"}) as made:
        for voice in made.voices:
            voice.bend = lambda script: replace(script, before_head=[0.01])
        for voice, lie in zip(made.voices, lies, strict=False):
            voice.bend = lambda _, script=lie: script
        for number in range(200):
            got = await made.ask(stream=bool(number % 2))
            assert got.outcome == "ok", got.answer
            assert made.index(got) >= len(lies)
        races = made.asker.node.asking.races
        told = [one for race in races for one in race.asked.values() if one.outcome == "bad_answer"]
        assert max(map([one.node for one in told].count, (one.node for one in told))) == 1
        await made.history.check(most_sends=8, at_once=True)


@pytest.mark.slow
async def test_one_that_always_breaks_off_does_not_win_for_ever(tmp_path: Path) -> None:
    """The fastest of three, whose answers all break after their first unit."""
    async with contest(tmp_path, 3) as made:
        made.voices[0].bend = lambda script: replace(script, chunks=[LINE], length=10 * len(LINE), framing="length")
        for voice in made.voices[1:]:
            voice.bend = lambda script: replace(script, before_head=[0.1])
        outcomes = [(await made.ask()).outcome for _ in range(10)]
        assert outcomes.count("cut") <= 3, outcomes
        assert outcomes[-1] == "ok"
        await made.history.check(most_sends=3, at_once=True)


@pytest.mark.slow
async def test_a_server_error_counts_as_a_failure_and_not_as_a_lie(tmp_path: Path) -> None:
    """Otherwise whoever floods a rival would have it quarantined."""
    async with contest(tmp_path, 2, {"RACE_WIDTH": "all"}) as made:
        made.voices[0].bend = lambda _: answer({"error": "out of memory"}, 500)
        made.voices[1].bend = lambda script: replace(script, before_head=[0.05])
        asked = [(await made.ask()).headers["X-Masa-Asked"] for _ in range(5)]
        assert asked[:3] == ["2", "2", "2"]
        assert math.prod(map(int, asked)) == 8
