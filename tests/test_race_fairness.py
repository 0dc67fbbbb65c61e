"""Callers of one node take turns, also where peers do the work: who asks for much waits, and nobody else for it."""

import asyncio
from pathlib import Path

from handlers.keys import TURNS
from tests.calls import ask
from tests.fakes import ModelServer
from tests.fleet import fleet
from tests.scripts import JSON, Script
from tests.waiting import until

NORMAL, GREEDY, PLACES = 10, 40, 2
KEYS = [f"key-of-caller-number-{number:02}" for number in range(NORMAL + 1)]
WHOLE = b'{"model":"llama3:latest","message":{"role":"assistant","content":"Hello"},"done":true}'


async def test_one_who_asks_for_much_delays_nobody_else(model_server: ModelServer, tmp_path: Path) -> None:
    """docs/promises.md C9, over a peer."""
    gate = asyncio.Event()
    model_server.script("/api/chat", Script(headers=JSON, chunks=[gate, WHOLE]))
    asker = {"API_KEYS": ",".join(KEYS), "MAX_INFLIGHT": str(PLACES), "QUEUE_SIZE": str(GREEDY + NORMAL)}
    async with fleet(tmp_path, asker, {"LLM_CHAT_URL": model_server.url, "LLM_PARALLEL": str(PLACES)}) as nodes:
        done: list[str] = []

        async def one(key: str) -> None:
            answered = await ask(nodes[0].url, "/api/chat", headers={"Authorization": f"Bearer {key}"})
            assert (answered.status, answered.body) == (200, WHOLE)
            done.append(key)

        greedy = [asyncio.create_task(one(KEYS[0])) for _ in range(GREEDY)]
        turns = nodes[0].app[TURNS]
        await until(lambda: turns.waiting == GREEDY - PLACES)
        normal = [asyncio.create_task(one(key)) for key in KEYS[1:]]
        await until(lambda: turns.waiting == GREEDY - PLACES + NORMAL)
        gate.set()
        await asyncio.gather(*greedy, *normal)
    last = max(done.index(key) for key in KEYS[1:])
    assert last < 2 * (NORMAL + PLACES), "each of them waited for one of the greedy's at most"
