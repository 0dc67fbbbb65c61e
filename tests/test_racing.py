"""Races between whole nodes: who wins, who is stopped, and what callers are told when nobody answers."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.calls import ask
from tests.contest import Contest, contest
from tests.fakes import DIE, HANG, Script, answer
from tests.histories import Voice
from tests.scripts import model_entry
from tests.waiting import until

SOON = 0.5
"""Ten times the 50 ms in which losers are to stop (docs/promises.md B5)."""
NOISE = 3.0
"""Seconds by which a busy machine may be late."""
ROLE = b'{"model":"llama3","message":{"role":"assistant","content":""},"done":false}\n'
EMBEDDINGS = (("/api/embed", "input"), ("/api/embeddings", "prompt"), ("/v1/embeddings", "input"))


def silent(script: Script) -> Script:
    return replace(script, before_head=[HANG])


def begun(script: Script) -> Script:
    """It has sent what says nothing of an answer yet."""
    return replace(script, chunks=[ROLE, HANG])


def failing(_script: Script) -> Script:
    return answer({"error": "out of memory"}, 500)


def held_by(gate: asyncio.Event) -> Callable[[Script], Script]:
    return lambda script: replace(script, before_head=[gate])


def sends(made: Contest) -> list[int]:
    return [len(voice.work) for voice in made.voices]


async def all_ended(made: Contest) -> None:
    await until(lambda: all(work.ended is not None for voice in made.voices for work in voice.work))


async def test_the_fastest_wins_and_the_others_stop_at_once(tmp_path: Path) -> None:
    async with contest(tmp_path, 4) as made:
        go = asyncio.Event()
        first, *others = made.voices
        first.bend = held_by(go)
        for voice, bend in zip(others, (begun, begun, silent), strict=True):
            voice.bend = bend
        asking = asyncio.create_task(made.ask())
        await until(lambda: [work.seen.written for voice in made.voices for work in voice.work] == [0, 76, 76, 0])
        go.set()
        got = await asking
        assert (got.outcome, got.headers["X-Masa-Route"], got.headers["X-Masa-Asked"]) == ("ok", "peer", "4")
        assert made.index(got) == 0
        assert got.headers["X-Masa-Name"].startswith("ada-")
        await all_ended(made)
        assert max(work.ended or math.inf for voice in others for work in voice.work) - (got.first_byte or 0) < SOON
        race = await made.last_race()
        assert (race["outcome"], race["winner"]) == ("won", got.headers["X-Masa-Node"])
        assert sorted(one["outcome"] for one in race["asked"]) == ["lost", "lost", "lost", "won"]
        await made.history.check(most_sends=4, at_once=True)


async def test_one_that_answers_is_enough_and_with_none_each_reason_is_told(tmp_path: Path) -> None:
    async with contest(tmp_path, 5) as made:
        gone, *bent, well = made.voices
        await gone.stop()
        breaking = (failing, lambda s: replace(s, before_head=[DIE]), lambda s: replace(s, chunks=[ROLE, DIE]))
        for voice, bend in zip(bent, breaking, strict=True):
            voice.bend = bend
        got = await made.ask()
        assert (got.outcome, made.index(got)) == ("ok", 4)
        assert got.ended - got.began < NOISE
        well.bend = failing
        got = await made.ask()
        assert (got.status, got.code) == (502, "no_answer")
        assert got.ended - got.began < NOISE
        assert all(voice.name in got.told["error"] for voice in (*bent, well))
        await made.history.check(most_sends=6)  # a kept connection that breaks is tried once more


async def test_silence_has_an_end_and_an_unknown_model_is_told_at_once(tmp_path: Path) -> None:
    """docs/promises.md B8."""
    async with contest(tmp_path, 2, {"RACE_TIMEOUT": "0.8"}) as made:
        for voice in made.voices:
            voice.bend = silent
        got = await made.ask()
        assert (got.status, got.code) == (504, "race_timeout")
        assert 0.75 < got.ended - got.began < 0.8 + NOISE
        assert all(f"{voice.name}-" in got.told["error"] for voice in made.voices)
        assert got.told["error"].count("silent") == 2
        got = await made.ask(model="nobodys")
        assert (got.status, got.code) == (404, "model_not_found")
        assert got.ended - got.began < NOISE
        await made.history.check(most_sends=2, at_once=True)


@pytest.mark.slow
async def test_silence_is_told_as_such_when_there_is_no_patience(tmp_path: Path) -> None:
    """The peers give up first: their deadlines are ours."""
    async with contest(tmp_path, 2, {"RACE_TIMEOUT": "1", "RACE_PATIENCE": "0"}) as made:
        for voice in made.voices:
            voice.bend = silent
        got = await made.ask()
        assert (got.status, got.code) == (504, "race_timeout"), got.answer
        assert 0.95 < got.ended - got.began < 1 + NOISE


@pytest.mark.slow
async def test_how_many_are_asked_at_once(tmp_path: Path) -> None:
    """docs/promises.md B7."""
    slow = {"RACE_DELAY": "3"}
    async with contest(tmp_path, 4, {"RACE_WIDTH": "1"} | slow, {"RACE_WIDTH": "all"} | slow, slow) as made:
        for asker, at_once in ((1, 4), (2, 2)):
            go = asyncio.Event()
            for voice in made.voices:
                voice.bend = held_by(go)
                voice.work.clear()
            asking = asyncio.create_task(made.ask(asker=asker, stream=False))
            await until(lambda many=at_once: sum(sends(made)) == many)
            go.set()
            assert (await asking).headers["X-Masa-Asked"] == str(at_once)
            assert sum(sends(made)) == at_once
            await all_ended(made)
        for voice in made.voices:
            voice.bend = failing
            voice.work.clear()
        got = await made.ask(asker=0)
        assert (got.status, got.code, sends(made)) == (502, "no_answer", [1, 1, 1, 1])
        asked = sorted((await made.last_race(0))["asked"], key=lambda one: one["at_ms"])
        assert all(one["ended_ms"] <= then["at_ms"] for one, then in pairwise(asked))


@pytest.mark.slow
async def test_the_full_are_waited_for(tmp_path: Path) -> None:
    """docs/promises.md B8."""
    async with contest(tmp_path, 2, {"RACE_TIMEOUT": "2.5"}, {}) as made:
        for voice in made.voices:
            voice.bend = silent
        holding = []
        for count in (1, 2):
            holding.append(asyncio.create_task(made.ask(asker=1, stream=False)))
            await until(lambda many=count: sum(sends(made)) >= many)
        got = await made.ask()
        assert (got.status, got.code) == (503, "busy"), got.answer
        assert int(got.headers["Retry-After"]) >= 1
        for voice in made.voices:
            voice.bend = lambda script: script
        waiting = asyncio.create_task(made.ask())
        await until(lambda: len(made.asker.node.asking.races) == 2)
        for task in holding:
            task.cancel()
        await asyncio.wait(holding)
        assert (await waiting).outcome == "ok"
        await made.history.check(most_sends=2)


async def test_embeddings_are_not_raced_and_a_conversation_stays_where_it_is(tmp_path: Path) -> None:
    async with contest(tmp_path, 3, {}, {"RACE_WIDTH": "1"}) as made:
        for count, (path, field) in enumerate(EMBEDDINGS, 1):
            embedded = await ask(made.asker.url, path, **{field: "why?"})
            assert (embedded.status, embedded.headers["X-Masa-Asked"], sum(sends(made))) == (200, "1", count)
        turns = [{"role": "user", "content": "first"}]
        answered = made.index(await made.ask(asker=1, messages=turns))
        for number in range(6):
            more = {"role": "assistant", "content": f"answer {number}"}, {"role": "user", "content": f"and {number}?"}
            turns += more
            assert made.index(await made.ask(asker=1, messages=turns)) == answered


@pytest.mark.slow
async def test_one_race_runs_one_build(tmp_path: Path) -> None:
    """The commonest, one wave after the other; another one only once those have failed."""
    voices = [Voice(name) for name in ("ada", "bob", "cyd", "odd")]
    listed = {"models": [model_entry("llama3:latest") | {"digest": "f" * 64}]}
    voices[3].script("/api/tags", answer(listed))
    waves = {"RACE_TIMEOUT": "20", "RACE_WIDTH": "1", "RACE_DELAY": "0.1"}
    async with contest(tmp_path, 4, waves, voices=voices) as made:
        go = asyncio.Event()
        for voice in voices[:3]:
            voice.bend = held_by(go)
        asking = asyncio.create_task(made.ask())
        await until(lambda: sends(made)[:3] == [1, 1, 1])
        assert sends(made)[3] == 0
        go.set()
        assert made.index(await asking) < 3
        for voice in voices[:3]:
            voice.bend = failing
        assert made.index(await made.ask()) == 3
