"""Serving strangers, whom only certificates vouch for: a share of the places, a number of requests, stricter bodies."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from peers.network.certificates import issue
from peers.network.gate import Buckets
from peers.network.identity import load_identity, node_id
from peers.network.tokens import certificate_text
from tests.fakes import ModelServer
from tests.fleet import address_of, all_know_all
from tests.nodes import Running, running
from tests.scripts import HANG, Script
from tests.test_certificates import AUTHORITY, NETWORK
from tests.visiting import Visitor, chat, in_work, visiting
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("way")
NEVER = Script(before_head=[HANG])
QUIET = {"PEER_HOST": "127.0.0.1", "PEER_PORT": "0", "MDNS": "false", "NETWORK_ID": NETWORK}
QUIET |= {"PEER_ALLOW_CIDRS": "127.0.0.0/8"}


async def member(stack: AsyncExitStack, folder: Path, **settings: str) -> Running:
    await asyncio.to_thread(folder.mkdir)
    me = node_id(await asyncio.to_thread(load_identity, folder / "masa"))
    word = certificate_text(issue(AUTHORITY, me, time.time(), b"at-first"))
    made = await stack.enter_async_context(running(folder, **QUIET, STAKE_CERTIFICATE=word, **settings))
    await made.node.joined.settled()
    return made


@pytest.fixture
async def visitors(model_server: ModelServer, tmp_path: Path) -> AsyncIterator[list[Visitor]]:
    """Two strangers who ask a third."""
    async with AsyncExitStack() as stack:
        server = await member(stack, tmp_path / "s", LLM_CHAT_URL=model_server.url, PEER_MAX_INFLIGHT="12")
        known = address_of(server)
        askers = [await member(stack, tmp_path / name, BOOTNODES=known) for name in "ab"]
        await until(lambda: all_know_all([server, *askers]))
        yield [await stack.enter_async_context(visiting(asker, server)) for asker in askers]


async def test_one_stranger_has_a_quarter_of_the_places(visitors: list[Visitor], model_server: ModelServer) -> None:
    model_server.next(NEVER, NEVER, NEVER)
    for _ in range(3):
        await visitors[0].visit()
    await in_work(model_server, 3)
    got = await visitors[0].ask()
    assert (got.status, got.refused) == (503, "busy")
    assert (await visitors[1].ask()).refused is None
    await visitors[0].close()


async def test_one_stranger_asks_so_often_and_no_more(visitors: list[Visitor]) -> None:
    serving = visitors[0].server.node.joined._serving
    assert (serving.strangers._burst, serving.strangers._per_second) == (60, 1)
    some = Buckets(2, 0.01)
    object.__setattr__(serving, "strangers", some)
    codes = [(await visitors[0].ask()).refused for _ in range(3)]
    assert codes == [None, None, "rate_limited"]
    assert (await visitors[1].ask()).refused is None


async def test_a_strangers_body_is_judged_more_strictly(visitors: list[Visitor], model_server: ModelServer) -> None:
    for fields, field in (
        ({"keep_alive": -1}, b"keep_alive"),
        ({"raw": True}, b"raw"),
        ({"options": {"num_gpu": 0}}, b"options.num_gpu"),
        ({"options": {"num_ctx": 10**6}}, b"options.num_ctx"),
    ):
        got = await visitors[0].ask(body=chat(**fields))
        assert (got.status, got.refused) == (403, "refused_by_peer")
        assert field in got.body
    assert model_server.inferences == []
    assert (await visitors[0].ask(body=chat(options={"num_ctx": 2048}))).refused is None
