"""A peer's model over a network that loses 30 % of all packets: nearly every request is answered. Needs root."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from statistics import median, quantiles

import aiohttp
import pytest

from peers.network.tokens import Secret
from tests.fakes import ModelServer
from tests.namespaces import Lans
from tests.networks import ALTERED, Machine, Machines, all_see_all, views
from tests.waiting import until

LISTENER = {"PEER_HOST": "0.0.0.0", "PEER_PORT": "4001", "LLM_PARALLEL": "4", "PEER_MAX_INFLIGHT": "4"}
OUT_OF_CONTAINER = (*ALTERED, "--no-container", "run")
KNOWN = 30.0
"""Seconds until the asker knows what its peer serves."""
WITHIN = 30.0
ANSWERED = 0.97
CALLERS = 4
HELLO = [{"role": "user", "content": "why is the sky blue?"}]


@pytest.fixture
async def asker(world: Machines, lans: Lans) -> AsyncIterator[Machine]:
    """Without a model, on one LAN; on the other a peer that has it. What comes in at either is lost, 30 %."""
    here, there = [await asyncio.to_thread(lans.add, lan) for lan in ("lan-a", "lan-b")]
    secret, known = Secret.new().text, {"BOOTNODES": f"{there.address}:4001"}
    server = ModelServer(port=11434)
    with there.entered():
        await server.start()
    try:
        nodes = [
            await world.start(
                within=host.within,
                program=OUT_OF_CONTAINER,
                make_socket=host.make_socket,
                env={**LISTENER, "NETWORK_SECRET": secret, **more},
            )
            for host, more in ((there, {"LLM_CHAT_URL": "http://127.0.0.1:11434"}), (here, known))
        ]
        await all_see_all(nodes, KNOWN)
        asker = nodes[1]

        async def told() -> bool:
            return bool(await asker.models())

        await until(told, KNOWN, lambda: views(nodes))
        for _ in range(CALLERS):
            assert (await ask(asker, stream=False))[0] == "right"
        for host in (here, there):
            await host.lose(30)
        yield asker
    finally:
        await server.stop()


async def ask(asker: Machine, *, stream: bool) -> tuple[str, float]:
    """What became of one request, and the seconds that it took."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    connector = aiohttp.TCPConnector(socket_factory=asker.make_socket)
    body = {"model": "llama3", "messages": HELLO, "stream": stream}
    try:
        async with (
            asyncio.timeout(WITHIN),
            aiohttp.ClientSession(connector=connector) as session,
            session.post(f"{asker.running.url}/api/chat", json=body) as got,
        ):
            whole = await got.read()
    except (TimeoutError, aiohttp.ClientError) as error:
        return repr(error), loop.time() - start
    lines = [json.loads(line) for line in whole.splitlines()]
    right = got.status == 200 and "".join(line["message"]["content"] for line in lines) == "Hello"
    return "right" if right and lines[-1]["done"] else f"{got.status} {whole[:300]!r}", loop.time() - start


async def answered(asker: Machine, requests: int) -> None:
    """Streams and whole answers in turn, from several callers at once."""
    ended: list[tuple[str, float]] = []

    async def caller(number: int) -> None:
        for one in range(number, requests, CALLERS):
            ended.append(await ask(asker, stream=one % 2 == 0))  # noqa: PERF401 - one after the other

    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    outcomes, took = Counter(what for what, _ in ended), [seconds for _, seconds in ended]
    told = f"{outcomes}; seconds: p50 {median(took):.2f}, p95 {quantiles(took, n=20)[-1]:.1f}, most {max(took):.1f}"
    print(told)
    assert outcomes["right"] >= ANSWERED * requests, f"{told}\n{asker.running.output[-4000:]}"
    assert len(took) == requests


@pytest.mark.slow
async def test_lost_packets_lose_few_requests(asker: Machine) -> None:
    """docs/promises.md B14, shortened."""
    await answered(asker, 40)


@pytest.mark.reliability
async def test_lost_packets_lose_few_of_many_requests(asker: Machine) -> None:
    """docs/promises.md B14."""
    await answered(asker, 400)
