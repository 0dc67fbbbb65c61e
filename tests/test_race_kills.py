"""Processes killed in the middle of a race: its winner, a loser, its asker."""

import asyncio
import json
import math
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contest import Machinery, machinery
from tests.fakes import HANG, Script
from tests.histories import Question, error_at_end
from tests.waiting import until

pytestmark = pytest.mark.slow

SOON = 0.5
"""Ten times the 50 ms in which work is to stop (docs/promises.md B5)."""
LATER = 1.0
"""Seconds until the others begin to answer."""
FRAMES = {"/api/chat": 1, "/v1/chat/completions": 2, "/v1/messages": 3}
"""Units of each dialect's answers up to the first that says something."""


def cut_at(script: Script, size: int) -> Script:
    """The first `size` bytes of the answer, and then silence."""
    return replace(script, chunks=[whole(script)[:size], HANG] if size else [HANG])


def whole(script: Script) -> bytes:
    return b"".join(chunk for chunk in script.chunks if isinstance(chunk, bytes))


def later(script: Script) -> Script:
    return replace(script, before_head=[LATER])


async def kill(made: Machinery, peer: int) -> None:
    made.peers[peer].running.signal(signal.SIGKILL)
    assert await made.peers[peer].running.wait() == -signal.SIGKILL


async def killed_at(made: Machinery, peer: int, path: str, size: int) -> Question:
    """This peer is killed when its model has given so many bytes (all but so many, below 0), and all have come here."""
    for voice in made.voices:
        voice.bend = later
    dying = made.voices[peer]
    sizes: list[tuple[int, int]] = []

    def bend(script: Script) -> Script:
        first = len(b"".join(part for part in script.chunks[: FRAMES[path]] if isinstance(part, bytes)))
        sizes.append((size if size >= 0 else len(whole(script)) + size, first))
        return cut_at(script, sizes[0][0])

    dying.bend = bend
    asking = asyncio.create_task(made.ask(path))
    await until(lambda: bool(sizes) or asking.done())
    if not sizes:  # it was left out of this race
        asking = asyncio.create_task(made.ask(path))
    await until(lambda: bool(sizes) and dying.work[-1].seen.written == sizes[0][0])
    question, (given, first) = made.history.questions[-1], sizes[0]
    await until(lambda: len(question.answer) == (given if given >= first else 0))
    await kill(made, peer)
    return await asking


@pytest.mark.parametrize("path", FRAMES)
async def test_a_winner_that_is_killed_never_looks_whole(tmp_path: Path, path: str) -> None:
    """docs/promises.md B4: nothing told yet, another answers; then an error in the stream's dialect, and the cut."""
    async with machinery(tmp_path, 5) as made:
        for peer, size in enumerate((0, 1, 10)):
            got = await killed_at(made, peer, path, size)
            assert (got.outcome, made.index(got) > peer) == ("ok", True), (size, got)
        got = await killed_at(made, 3, path, -1)
        assert got.outcome == "cut", got
        told = error_at_end(got)
        assert told is not None, got.answer
        assert "dan-" in json.dumps(told)
        made.voices[4].bend = lambda script: script
        assert (await made.ask(path)).outcome == "ok"
        await made.history.check(most_sends=5, at_once=True)


async def test_a_winner_that_falls_asleep_is_cut_after_race_timeout(tmp_path: Path) -> None:
    """docs/promises.md B8: of its answer as of a race."""
    async with machinery(tmp_path, 1, asker={"RACE_TIMEOUT": "2"}) as made:
        made.voices[0].bend = lambda script: cut_at(script, -1)
        asking = asyncio.create_task(made.ask())
        await until(lambda: bool(made.history.questions) and len(made.history.questions[-1].answer) > 0)
        made.peers[0].running.signal(signal.SIGSTOP)
        async with asyncio.timeout(30):  # LLM_TIMEOUT would be 300
            got = await asking
        made.peers[0].running.signal(signal.SIGCONT)
        assert got.outcome == "cut", got
        assert "silent in the middle of its answer" in json.dumps(error_at_end(got))


async def test_a_loser_that_is_killed_is_not_noticed(tmp_path: Path) -> None:
    async with machinery(tmp_path, 5) as made:
        gate = asyncio.Event()
        for voice in made.voices[1:]:
            voice.bend = lambda script: replace(script, before_head=[HANG])
        made.voices[0].bend = lambda script: replace(
            script, before_head=[gate], chunks=[*script.chunks[:2], LATER, *script.chunks[2:]]
        )
        asking = asyncio.create_task(made.ask())
        await until(lambda: all(len(voice.work) == 1 for voice in made.voices))
        await kill(made, 1)
        gate.set()
        question = made.history.questions[-1]
        await until(lambda: len(question.answer) > 0)
        await kill(made, 2)
        assert ((await asking).outcome, made.index(question)) == ("ok", 0)
        await made.history.check(most_sends=5, at_once=True)


async def test_when_the_asker_is_killed_all_peers_models_stop(tmp_path: Path) -> None:
    """docs/promises.md B5, B6: those that have not begun, and the one that streams."""
    async with machinery(tmp_path, 5) as made:
        for stream in (True, False):
            for voice in made.voices:
                voice.bend = lambda script: replace(script, before_head=[HANG])
            asking = asyncio.create_task(made.ask(stream=stream))
            await until(lambda many=5 if stream else 7: sum(len(voice.work) for voice in made.voices) == many)
            if stream:
                asking.cancel()
                await asyncio.wait([asking])
                await until(lambda: all(work.ended for voice in made.voices for work in voice.work))
        now = asyncio.get_running_loop().time()
        made.asker.running.signal(signal.SIGKILL)
        await until(lambda: all(work.ended for voice in made.voices for work in voice.work))
        assert max(work.ended or math.inf for voice in made.voices for work in voice.work) - now < SOON
        await asyncio.wait([asking])


async def test_no_call_goes_to_a_peer_that_refused_one(tmp_path: Path) -> None:
    """docs/promises.md A7."""
    async with machinery(tmp_path, 4) as made:
        await made.ask()
        await kill(made, 0)
        for _ in range(10):
            assert (await made.ask()).outcome == "ok"
        told = (await made.asker.get("/api/v1/races"))["races"][:10]
        asked = [one["outcome"] for race in told for one in race["asked"] if one["node"] == made.peers[0].id]
        # The newest first: in a race that is won before, it is not known yet that it refuses.
        assert "unreachable" not in asked[1:]


async def test_a_peer_that_stands_still_delays_nobodys_stop(tmp_path: Path) -> None:
    """docs/promises.md B6: while one does not even hear that it is to stop, the losers of the next race do."""
    async with machinery(tmp_path, 4) as made:
        gate = asyncio.Event()
        first, frozen, *others = made.voices
        first.bend = lambda script: replace(script, before_head=[gate])
        for voice in (frozen, *others):
            voice.bend = lambda script: replace(script, chunks=[b"\n", HANG])
        for _ in range(2):
            gate.clear()
            for voice in made.voices:
                voice.work.clear()
            asking = asyncio.create_task(made.ask())
            await until(lambda: [work.seen.written for v in (first, *others) for work in v.work] == [0, 1, 1])
            made.peers[1].running.signal(signal.SIGSTOP)
            gate.set()
            won = (await asking).first_byte or 0.0
            await until(lambda: all(voice.work[0].ended for voice in others))
            assert max(voice.work[0].ended or math.inf for voice in others) - won < SOON
        made.peers[1].running.signal(signal.SIGCONT)
