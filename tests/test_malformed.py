"""Malformed requests: each gets one answer and no more, below 500 and without a secret; then the node still serves.

docs/promises.md C5, C6. The cases and the mutations stand in corpus.py.
"""

import asyncio
import re
from collections.abc import Iterable

import pytest

from handlers import chat
from masa_node import server as shell
from tests.asking import ask
from tests.corpus import CANARY, SMUGGLED, cases, mutations
from tests.fakes import ModelServer
from tests.nodes import running
from tests.processes import running_node
from tests.raw import exchange, parse, post
from tests.told import events, logged

CHAT = b'{"model":"llama3","stream":false}'
SHORT = 1.0
"""Seconds for a head and for a body, and half of those for an idle connection: the node ends every exchange."""
AT_ONCE = 64
PATIENT = 60.0
"""Seconds: the node ends every exchange by itself, however busy the machine is."""


@pytest.fixture
async def node(model_server, tmp_path, monkeypatch):
    for module, name in ((shell, "HEAD_SECONDS"), (shell, "LINGER_SECONDS"), (chat, "WINDOW_SECONDS")):
        monkeypatch.setattr(module, name, SHORT)
    monkeypatch.setattr(shell, "IDLE_SECONDS", 2 * SHORT)
    async with running(tmp_path, LLM_CHAT_URL=model_server.url) as node:
        yield node


async def answers(port: int, requests: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """Each request, in order, and every byte that came back until the node closed."""
    left, answered = enumerate(requests), {}

    async def ask_on() -> None:
        for number, data in left:
            answered[number] = data, await exchange(port, data, timeout=PATIENT)

    await asyncio.gather(*(ask_on() for _ in range(AT_ONCE)))
    return [answered[number] for number in sorted(answered)]


def final(data: bytes) -> list[int]:
    """The statuses of all answers that are not informational."""
    found = []
    while data:
        answer = parse(data)
        assert answer.whole
        found += [answer.status] if answer.status >= 200 else []
        data = answer.rest
    return found


async def still_serves(port: int) -> bool:
    return (await ask(port, post(port, "/api/chat", CHAT))).status == 200


def wrong(port: int, answered: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, bytes]]:
    """The cases that got anything but their one answer."""
    told = [(case, data) for case, (_, data) in zip(cases(port), answered, strict=True)]
    return [(case.name, data) for case, data in told if final(data) != [case.status] or CANARY.encode() in data]


def smuggled(server: ModelServer) -> list[bytes]:
    return [seen.head for seen in server.requests if SMUGGLED.encode() in seen.body]


async def test_the_corpus(node, model_server):
    log = logged()
    answered = await answers(node.port, (case.data for case in cases(node.port)))
    assert wrong(node.port, answered) == []
    assert model_server.inferences == []
    assert smuggled(model_server) == []
    assert await still_serves(node.port)
    assert CANARY not in log.getvalue()
    assert not events(log, "fault")


async def test_the_corpus_against_a_real_process(model_server, tmp_path):
    async with running_node(tmp_path, {"LLM_CHAT_URL": model_server.url, "LOG_LEVEL": "debug"}) as node:
        answered = await answers(node.port, (case.data for case in cases(node.port)))
        assert wrong(node.port, answered) == []
        assert model_server.inferences == []
        assert await still_serves(node.port)
    assert CANARY not in node.output
    assert not node.events("fault")


@pytest.mark.parametrize(
    ("seed", "count"),
    [pytest.param(1, 500, id="500"), pytest.param(2, 10_000, id="10000", marks=pytest.mark.slow)],
)
async def test_mutations(node, seed, count):
    log = logged()
    answered = await answers(node.port, mutations(node.port, seed, count))
    odd = [(data, got) for data, got in answered if len(final(got)) != 1 or final(got)[0] >= 500]
    assert odd == []
    assert [(data, got) for data, got in answered if CANARY.encode() in got] == []
    assert await still_serves(node.port)
    assert CANARY not in log.getvalue()
    assert not events(log, "fault")


def test_mutations_are_the_same_for_the_same_seed_and_reach_far():
    """Some get past the parser, and some past the door: faults are not all of one kind."""
    made = list(mutations(8080, 1, 500))
    assert made == list(mutations(8080, 1, 500))
    assert made != list(mutations(8080, 2, 500))
    assert len(set(made)) > 450
    assert sum(bool(re.match(rb"POST /v1/messages HTTP/1.1\r\n", data)) for data in made) > 10


def test_every_case_carries_the_canary_once_more_than_none():
    made = cases(8080)
    assert len(made) == len({case.name for case in made})
    assert all(CANARY.encode() in case.data for case in made)
