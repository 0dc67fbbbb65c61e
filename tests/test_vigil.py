"""Vigil: thirty seconds of silence, not of work, in the middle of a peer's answer. In virtual time, and for real."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest

from peers.http1.answer import Answer
from peers.http1.errors import Silent
from peers.network import vigil as watching
from peers.network.contact import Contact
from peers.network.dialing import Address
from peers.network.vigil import Vigil, open_vigil
from peers.runner import Doing
from peers.wire import NodeId
from tests.asking import ask
from tests.fakes import ModelServer, Script
from tests.fleet import fleet
from tests.plainly import asking
from tests.runners import virtually

TIMEOUT = 30.0
AT = Address("127.0.0.1", 1)
WORKING = Doing("generating", 1)
LINE = b'{"model":"llama3","message":{"role":"assistant","content":"a"},"done":false}\n'
LAST = b'{"model":"llama3","message":{"role":"assistant","content":""},"done":true}\n'
Said = Callable[[], Doing | None]


class Peer:
    """Where an answer comes from; and what it says when it is asked."""

    def __init__(self, says: Said) -> None:
        self.heard_at = 0.0
        self.answer = Answer(self, asyncio.get_running_loop())
        self.says = says
        self.asked: list[float] = []
        self.given_up: tuple[float, OSError] | None = None

    async def doing(self, *_: object) -> Doing | None:
        self.asked.append(asyncio.get_running_loop().time())
        return self.says()

    def hold(self) -> None: ...

    def go_on(self) -> None: ...

    def give_up(self, error: OSError) -> None:
        self.given_up = (asyncio.get_running_loop().time(), error)
        self.answer.fail(error)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[Said, Callable[[Peer, Vigil], Awaitable[None]]], Peer]:
    """A peer whose answer has begun, after what is done meanwhile."""

    def run(says: Said, meanwhile: Callable[[Peer, Vigil], Awaitable[None]]) -> Peer:
        async def main() -> Peer:
            peer = Peer(says)
            monkeypatch.setattr(watching, "doing", peer.doing)
            with open_vigil(cast(Contact, None), TIMEOUT) as vigil:
                vigil.begin(NodeId("n"), AT, "r", peer.answer)
                await meanwhile(peer, vigil)
            return peer

        return virtually(main())

    return run


def sleeping(seconds: float) -> Callable[[Peer, Vigil], Coroutine[Any, Any, None]]:
    async def meanwhile(*_: object) -> None:
        await asyncio.sleep(seconds)

    return meanwhile


def test_who_does_not_say_that_it_lives_is_given_up(watched) -> None:
    peer = watched(lambda: None, sleeping(100))
    assert peer.asked == pytest.approx([24, 29, 34])
    at, error = peer.given_up
    assert at == pytest.approx(34)
    assert isinstance(error, Silent)


def test_who_works_may_be_silent(watched) -> None:
    peer = watched(lambda: WORKING, sleeping(250))
    assert peer.given_up is None
    assert peer.asked == pytest.approx([24 * number for number in range(1, 11)])


def test_a_question_that_is_lost_is_asked_again(watched) -> None:
    said = iter([None, WORKING, None, None, WORKING])
    peer = watched(lambda: next(said), sleeping(80))
    assert peer.given_up is None
    assert peer.asked == pytest.approx([24, 29, 53, 58, 63])


def test_this_node_has_slept(watched) -> None:
    """All answers look silent then; one question in vain is not enough."""
    said = iter([None, WORKING])

    async def meanwhile(peer: Peer, _: Vigil) -> None:
        peer.heard_at = -1000.0
        await asyncio.sleep(30)

    peer = watched(lambda: next(said), meanwhile)
    assert peer.given_up is None


def test_nobody_is_asked_whose_answer_comes(watched) -> None:
    async def meanwhile(peer: Peer, _: Vigil) -> None:
        for _second in range(10):
            await asyncio.sleep(20)
            peer.heard_at = asyncio.get_running_loop().time()

    assert watched(lambda: None, meanwhile).asked == []


def test_nobody_is_asked_whose_reader_is_slow(watched) -> None:
    async def meanwhile(peer: Peer, _: Vigil) -> None:
        peer.answer.pause()
        await asyncio.sleep(100)

    assert watched(lambda: None, meanwhile).asked == []


def test_nobody_is_asked_whose_answer_has_ended(watched) -> None:
    async def meanwhile(peer: Peer, vigil: Vigil) -> None:
        vigil.end(peer.answer)
        await asyncio.sleep(100)

    assert watched(lambda: None, meanwhile).asked == []


async def test_a_peers_model_that_is_silent_in_its_answer_is_waited_for(
    model_server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked by real nodes: the gate opens once the peer has said three times that it is at work."""
    gate, said, doing = asyncio.Event(), [], watching.doing

    async def noting(*args: Any) -> Doing | None:
        said.append(await doing(*args))
        if len(said) == 3:
            gate.set()
        return said[-1]

    monkeypatch.setattr(watching, "doing", noting)
    async with fleet(tmp_path, {"RACE_TIMEOUT": "1"}, {"LLM_CHAT_URL": model_server.url}) as nodes:
        model_server.next(Script(chunks=[LINE, gate, LAST]))
        answer = await ask(nodes[0].port, asking(nodes[0].port, 1))
    assert answer.body == LINE + LAST
    assert None not in said
