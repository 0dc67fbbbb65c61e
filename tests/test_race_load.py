"""Many calls, slow models and slow readers over real processes: none is lost, and no more is sent than is needed."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contest import Contest, Machinery, contest, machinery
from tests.fakes import HANG, Script
from tests.histories import Question, Voice
from tests.raw import Wire, post
from tests.waiting import settled

pytestmark = pytest.mark.slow

MEGABYTE = 1 << 20
UNIT = b'{"model":"llama3","message":{"role":"assistant","content":"%s"},"done":false}\n' % (b"x" * (MEGABYTE // 16))
END = b'{"model":"llama3","message":{"role":"assistant","content":""},"done":true}\n'
LONG = "x" * 9000
"""More than a short prompt."""


def after(seconds: float) -> Callable[[Script], Script]:
    return lambda script: replace(script, before_head=[seconds])


async def sends(made: Machinery) -> list[int]:
    """Of the last races, how often somebody was asked."""
    races = (await made.asker.get("/api/v1/races"))["races"]
    return [sum(one["times"] for one in race["asked"]) for race in races]


async def test_two_hundred_at_once_over_five_small_peers(tmp_path: Path) -> None:
    """docs/promises.md B7: one of them is slow, and each takes two; nobody is worked for twice by one model."""
    places = {"PEER_MAX_INFLIGHT": "2", "LLM_PARALLEL": "2"}
    async with machinery(tmp_path, 5, peers=places) as made:
        for voice in made.voices:
            voice.bend, voice.most = after(0.05), 2
        made.voices[0].bend = after(1.5)
        got = await asyncio.gather(*(made.ask(stream=bool(number % 2)) for number in range(200)))
        assert Counter(question.outcome for question in got) == {"ok": 200}
        told = await sends(made)
        assert len(told) == 200
        assert max(told) <= 5 * (1 + 30 / 1)  # each again only after its busy answer, and a second
        assert sum(told) < 200 * 15
        assert sum(len(voice.work) for voice in made.voices) <= 200 * 2
        await made.history.check(most_sends=5, at_once=True)


async def test_one_after_another_costs_hardly_more_than_one(tmp_path: Path) -> None:
    """docs/promises.md B7: RACE_WIDTH=1, one of five slow: at most 1.5 sends for a request."""
    places = {"PEER_MAX_INFLIGHT": "4", "LLM_PARALLEL": "4"}
    async with machinery(tmp_path, 5, {"RACE_WIDTH": "1"}, places) as made:
        for voice in made.voices:
            voice.bend = after(0.02)
        made.voices[0].bend = after(3.0)
        for _ in range(25):
            got = await asyncio.gather(*(made.ask(stream=bool(number % 2)) for number in range(4)))
            assert {question.outcome for question in got} == {"ok"}
        told = await sends(made)
        assert sum(told) <= 1.5 * len(told)
        await made.history.check(most_sends=5, at_once=True)


async def test_an_outage_does_not_double_the_load(tmp_path: Path) -> None:
    """docs/promises.md B7: every model fails, and no call asks anybody twice."""
    async with machinery(tmp_path, 5, {"RACE_DELAY": "5"}) as made:
        for voice in made.voices:
            voice.bend = lambda script: replace(script, status=500, chunks=[b"{}"])
        for _ in range(20):
            assert (await made.ask()).status in (502, 503)
        assert max(await sends(made)) <= 5
        await made.history.check(most_sends=5, at_once=True)


async def test_work_is_waited_for_and_silence_is_not(tmp_path: Path) -> None:
    """docs/promises.md B8: a load of several RACE_TIMEOUTs, a whole answer, a long prompt; not a short one."""
    patient = {"RACE_TIMEOUT": "1", "RACE_PATIENCE": "20"}
    voices = [Voice("ada")]
    voices[0].speaks.loaded = []
    async with contest(tmp_path, 1, patient, {"RACE_TIMEOUT": "1", "RACE_PATIENCE": "2"}, voices=voices) as made:
        doing = []
        voices[0].bend = after(4.0)
        doing.append(await working(made.ask(), made))
        voices[0].bend = lambda script: replace(script, before_head=[HANG])
        over = await made.ask(asker=1)
        assert (over.status, over.code) == (504, "race_timeout"), over.answer
        assert "loading" in over.told["error"]
        voices[0].speaks.loaded = voices[0].speaks.models
        voices[0].bend = after(4.0)
        doing.append(await working(made.ask(stream=False), made))
        doing.append(await working(made.ask(messages=[{"role": "user", "content": LONG}]), made))
        assert doing == [("ok", "loading"), ("ok", "generating"), ("ok", "reading")]
        silent = await made.ask()
        assert (silent.status, silent.code) == (504, "race_timeout")
        await made.history.check(most_sends=1)


async def working(asking: Awaitable[Question], made: Contest) -> tuple[str, str]:
    got = await asking
    assert got.ended - got.began >= 4
    return got.outcome, (await made.last_race())["asked"][0]["doing"]


async def test_a_slow_reader_slows_its_model_and_fills_no_node(tmp_path: Path) -> None:
    """docs/promises.md B13, over a peer."""
    async with machinery(tmp_path, 1, peers={"PEER_MAX_INFLIGHT": "2", "LLM_PARALLEL": "2"}) as made:
        body = json.dumps({"model": "llama3", "messages": []}).encode()
        assert (await made.ask()).outcome == "ok"
        both = made.asker.running, made.peers[0].running
        before = [node.rss() for node in both]
        made.voices[0].next(Script(chunks=[*[UNIT] * 960, END]))
        async with Wire(made.asker.running.port, receive_buffer=4096) as wire:
            await wire.send(post(made.asker.running.port, "/api/chat", body))
            await wire.read_head()
            seen = made.voices[0].work[-1].seen
            await settled(lambda: seen.written)
            others = await asyncio.gather(*(made.ask() for _ in range(3)))
            assert {one.outcome for one in others} == {"ok"}
            assert seen.written < 32 * MEGABYTE  # the kernel buffers some on both sides of each node
            grown = [now.rss() - then for now, then in zip(both, before, strict=True)]
            assert max(grown) < 8 * MEGABYTE, grown
            assert (await wire.read_to_end()).body == UNIT * 960 + END
