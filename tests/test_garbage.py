"""What a call leaves behind is freed with it: nothing of the node's waits for the garbage collector.

An error holds the frames it was raised through, and these hold bodies, tasks and connections. Whoever keeps one where
such a frame can reach it makes a ring, and a node whose peers fail now and then grows until the collector comes.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from handlers.handed import FORWARD, Serving, handed
from peers.errors import Busy, MasaError, UpstreamUnreachable
from peers.network.contact import Contact, NoContact
from peers.network.gate import Knock
from peers.router import first_to_take
from peers.wire import Call, Reply
from tests.calls import ask, call
from tests.contest import Contest, contest
from tests.fakes import DIE, Script, answer
from tests.http1 import REQUEST, SECONDS, Bucket, Wire, lost, read
from tests.nodes import Running
from tests.runners import Scripted, answers, fails, is_busy, one_chunk, result, says, virtually
from tests.scripts import busy
from tests.waiting import until

Left = Callable[[], Counter[str]]
OURS = ("peers", "handlers", "masa_node")


@pytest.fixture
def left() -> Iterator[Left]:
    """The node's objects that only the collector has found since the last look, by kind."""

    def found() -> Counter[str]:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        kinds = Counter(f"{type(one).__module__}.{type(one).__name__}" for one in gc.garbage)
        gc.garbage.clear()
        return Counter({kind: count for kind, count in kinds.items() if kind.partition(".")[0] in OURS})

    gc.collect()
    gc.freeze()  # what earlier tests have left is none of this one's
    gc.disable()
    yield found
    gc.enable()
    gc.unfreeze()


class Refuses:
    async def open(self, call: Call) -> Reply:
        raise UpstreamUnreachable("it refused the connection")


class Takes:
    async def open(self, call: Call) -> Reply:
        return Reply(200, {}, one_chunk("yes"), "local:fake", "fake")


def test_a_race_that_is_won(left: Left) -> None:
    peers = Scripted("dead", fails()), Scripted("full", is_busy(9)), Scripted("odd", says(400))
    assert virtually(result(*peers, Scripted("well", answers(1)))) == ("well", 1.0)
    assert not left()


def test_a_race_that_nobody_wins(left: Left) -> None:
    assert virtually(result(Scripted("dead", fails()), Scripted("late", fails(1)))) == ("502 no_answer", 1.0)
    assert not left()


async def test_upstreams_of_which_one_refuses(left: Left) -> None:
    (await first_to_take([Refuses(), Takes()], call())).close()
    with suppress(MasaError):
        await first_to_take([Refuses(), Refuses()], call())
    assert not left()


@pytest.mark.parametrize("poured", [False, True])
async def test_an_answer_that_breaks_off(left: Left, poured: bool) -> None:
    await broken_off(poured=poured)
    assert "peers.http1.answer.Answer" not in left()  # the Wire and its Connection hold each other


async def broken_off(*, poured: bool) -> None:
    """In a frame of its own, which ends."""
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    answered = await Wire([begun, b"half"], "reset").connection.ask(REQUEST, b"{}", SECONDS)
    with closing(answered), suppress(OSError):
        await (answered.pour(Bucket()) if poured else read(answered, Bucket()))
    await lost()


async def test_nodes_whose_peers_fail(left: Left, tmp_path: Path) -> None:
    """All of them in this process: the asker, and peers that are full, fail, and break off before they have begun."""
    async with contest(tmp_path, 3) as made:
        first, second, third = made.voices
        assert (await made.ask()).outcome == "ok"
        await all_ended(made)
        left()
        first.bend, second.bend = full, failing
        for _ in range(3):
            assert (await made.ask()).outcome == "ok"
        first.bend = second.bend = failing
        third.bend = dying
        assert (await made.ask()).code == "no_answer"
        await all_ended(made)
        assert not left()


async def test_an_answer_that_breaks_off_on_its_way_through_two_nodes(left: Left, tmp_path: Path) -> None:
    async with contest(tmp_path, 1) as made:
        assert (await made.ask()).outcome == "ok"
        await all_ended(made)
        left()
        made.voices[0].bend = cut_short
        assert (await made.ask()).outcome == "cut"
        await until(lambda: not made.peers[0].node.guests)
        assert not left()


async def test_a_peer_that_cannot_be_reached(left: Left, two: list[Running], monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreached(*_: object, **__: object) -> None:
        raise NoContact("refused", "it cannot be reached")

    monkeypatch.setattr(Contact, "open", unreached)
    left()
    assert (await ask(two[0].url, "/api/chat")).told["code"] == "no_answer"
    assert not left()


def test_a_call_while_nobody_is_served(left: Left) -> None:
    serving = SimpleNamespace(closed=lambda: Busy("it pauses", code="paused"))
    knock = SimpleNamespace(request=SimpleNamespace(path=FORWARD + "/api/chat", deadline_ms=1))
    with pytest.raises(Busy):
        handed(cast(Serving, serving), cast(Knock, knock), {}, 1, 0)
    assert not left()


def failing(_script: Script) -> Script:
    return answer({"error": "out of memory"}, 500)


def full(_script: Script) -> Script:
    return busy(retry_after=1)


def dying(script: Script) -> Script:
    return replace(script, before_head=[DIE])


def cut_short(script: Script) -> Script:
    return replace(script, chunks=[*script.chunks[:2], DIE])


async def all_ended(made: Contest) -> None:
    await until(lambda: all(work.ended is not None for voice in made.voices for work in voice.work))
