"""A real node under load: a thousand streams, a greedy caller, far too many calls (docs/promises.md C7, C8, C9)."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from tests.histories import History, Voice
from tests.processes import RunningNode, running_node
from tests.scripts import JSON, Script
from tests.waiting import until

pytestmark = pytest.mark.slow

STREAMS = 1000
AT_ONCE, PLACES, QUEUE = 2000, 64, 30
GREEDY, NORMAL, ROUNDS = 200, 10, 3
MIB = 1 << 20
MOST_RSS = 64 * MIB
"""For a thousand streams and the sockets they take."""
SPARE_FILES = 8
WHOLE = b'{"model":"llama3","message":{"role":"assistant","content":"Hello"},"done":true}'


@asynccontextmanager
async def loaded(folder: Path, voice: Voice, **settings: str) -> AsyncIterator[tuple[RunningNode, History]]:
    async with running_node(folder, {"LLM_CHAT_URL": voice.url, **settings}) as node:
        history = History({str(node.events("listening")[0]["node"]): voice})
        assert (await history.ask(node.url)).outcome == "ok"
        yield node, history


async def figure(node: RunningNode, name: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{node.url}/metrics") as got:
        lines = (await got.text()).splitlines()
    return next(float(line.split(" ")[1]) for line in lines if line.startswith(f"{name} "))


async def comes_to_rest(node: RunningNode, voice: Voice, files: int) -> None:
    """Within a second nothing is held of any call, but kept connections; none either once the model hangs up."""

    async def idle() -> bool:
        return not any([await figure(node, name) for name in ("masa_in_flight", "masa_queued")])

    await until(idle, 1)
    voice.hang_up()
    await until(lambda: node.open_files() <= files + SPARE_FILES, 2, lambda: node.open_files())


async def test_a_thousand_streams_at_once_are_each_whole_and_in_order(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with Voice("ada") as voice, loaded(tmp_path, voice) as (node, history):
        files, before = node.open_files(), node.rss()
        voice.bend = lambda script: replace(script, chunks=[*script.chunks[:2], gate, *script.chunks[2:]])
        asking = [asyncio.create_task(history.ask(node.url)) for _ in range(STREAMS)]

        async def all_run() -> bool:
            return await figure(node, "masa_in_flight") == STREAMS

        await until(all_run, 60)
        await until(lambda: all(one.first_byte for one in history.questions), 60)
        grown = node.rss() - before
        gate.set()
        got = await asyncio.gather(*asking)
        assert Counter(one.outcome for one in got) == {"ok": STREAMS}
        assert len({one.answer for one in got}) == STREAMS
        await history.check(most_sends=1, at_once=True)
        assert grown < MOST_RSS
        await comes_to_rest(node, voice, files)


async def test_of_far_too_many_calls_those_admitted_are_answered_and_the_rest_told(tmp_path: Path) -> None:
    """docs/promises.md C8 on a process: 2,000 at once, 64 places and a queue of 30."""
    gate = asyncio.Event()
    settings = {"MAX_INFLIGHT": str(PLACES), "QUEUE_SIZE": str(QUEUE), "QUEUE_TIMEOUT": "60"}
    async with Voice("ada") as voice, loaded(tmp_path, voice, **settings) as (node, history):
        files = node.open_files()
        voice.bend = lambda script: replace(script, chunks=[gate, *script.chunks])
        asking = [asyncio.create_task(history.ask(node.url)) for _ in range(AT_ONCE)]
        first = itertools.islice(asyncio.as_completed(asking), AT_ONCE - PLACES - QUEUE)
        refused = [await one for one in first]
        assert {(one.status, one.code) for one in refused} == {(429, "queue_full")}
        assert all(int(one.headers["Retry-After"]) > 0 for one in refused)
        async with aiohttp.ClientSession() as session, session.get(f"{node.url}/health") as health:
            assert health.status == 200
        gate.set()
        got = await asyncio.gather(*asking)
        assert Counter(one.outcome for one in got) == {"ok": PLACES + QUEUE, "error": AT_ONCE - PLACES - QUEUE}
        await history.check(most_sends=1, at_once=True)
        await comes_to_rest(node, voice, files)


async def test_one_who_asks_for_two_hundred_things_delays_each_other_by_one(tmp_path: Path) -> None:
    """docs/promises.md C9 on a node's own upstream: the order in which the model was asked, again and again."""
    keys = [f"key-of-caller-number-{number:02}" for number in range(NORMAL + 1)]
    settings = {"API_KEYS": ",".join(keys), "MAX_INFLIGHT": "1", "QUEUE_SIZE": str(GREEDY + NORMAL)}
    async with (
        Voice("ada") as voice,
        running_node(tmp_path, {"LLM_CHAT_URL": voice.url, "QUEUE_TIMEOUT": "60", **settings}) as node,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        asyncio.TaskGroup() as group,
    ):

        async def ask(key: str) -> None:
            body = {"model": "llama3", "stream": False, "seed": keys.index(key), "messages": []}
            given = {"Authorization": f"Bearer {key}"}
            async with session.post(f"{node.url}/api/chat", json=body, headers=given) as got:
                assert (got.status, await got.read()) == (200, WHOLE)

        async def queued(count: int) -> None:
            async def so_many() -> bool:
                async with session.get(f"{node.url}/metrics", headers={"x-api-key": keys[0]}) as got:
                    return f"masa_queued {float(count)}\n" in await got.text()

            await until(so_many)

        gate = asyncio.Event()
        voice.bend = lambda _: Script(headers=JSON, chunks=[gate, WHOLE])
        greedy = [group.create_task(ask(keys[0])) for _ in range(GREEDY)]
        for number in range(ROUNDS):
            await until(lambda gate=gate: voice.work and gate in voice.work[-1].script.chunks)
            before = len(voice.work)
            normal = [group.create_task(ask(key)) for key in keys[1:]]
            await queued(GREEDY - sum(who(work.seen.body) == 0 for work in voice.work) + NORMAL)
            gate.set()
            await asyncio.gather(*normal)
            gate = asyncio.Event()
            served = [who(work.seen.body) for work in voice.work[before:]][: 2 * NORMAL]
            assert most_in_a_row(served, 0) <= 1, f"round {number}: {served}"
            assert {*range(1, NORMAL + 1)} <= {*served}, f"round {number}: {served}"
        gate.set()
        voice.bend = lambda _: Script(headers=JSON, chunks=[WHOLE])
        await asyncio.gather(*greedy)


def who(body: bytes) -> int:
    number: int = json.loads(body)["seed"]
    return number


def most_in_a_row(served: list[int], caller: int) -> int:
    return max((len(list(run)) for who, run in itertools.groupby(served) if who == caller), default=0)
