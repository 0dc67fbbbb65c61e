"""A call that its asker stops by `calls` ends in good form and its connection lives; whatever else breaks is cut."""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web

from handlers import forwarded, handed
from handlers.admission import Lease
from handlers.out import Out
from handlers.plain import Plain
from handlers.quick_forward import QuickForward
from peers.http1.answer import Answer
from peers.network import contact, outbox
from peers.network.contact import Contact, NoContact
from peers.network.dialing import Address
from peers.network.outbox import LONGEST_END, open_outbox
from tests.fakes import ModelServer
from tests.fleet import fleet
from tests.nodes import Running
from tests.scripts import HANG, NDJSON, Script
from tests.signing import ME
from tests.visiting import Visitor, in_work, visiting
from tests.waiting import settled, until

UNIT = b'{"model":"llama3","message":{"role":"assistant","content":"x"},"done":false}\n'
BEGUN = Script(headers=NDJSON, chunks=[UNIT, HANG])
SILENT = Script(before_head=[HANG])
TIMES = 5
AT = Address("10.0.0.1", 4001)


@pytest.fixture
def came_by(way: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connection of each call that was handed on, by its asker's port."""
    ports: list[Any] = []
    forward, answer = forwarded.forward, QuickForward.answer

    async def noted(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername"))
        return await forward(request)

    async def noted_quickly(self: QuickForward, plain: Plain, lease: Lease, address: str, out: Out) -> bool:
        ports.append(out._transport.get_extra_info("peername"))
        return await answer(self, plain, lease, address, out)

    monkeypatch.setattr(forwarded, "forward", noted)
    monkeypatch.setattr(QuickForward, "answer", noted_quickly)
    return ports


@pytest.fixture
async def two(came_by: list[Any], model_server: ModelServer, tmp_path: Path) -> AsyncIterator[list[Running]]:
    async with fleet(tmp_path, {}, {"LLM_CHAT_URL": model_server.url, "PEER_MAX_INFLIGHT": "4"}) as nodes:
        yield nodes


@pytest.fixture
async def visitor(two: list[Running]) -> AsyncIterator[Visitor]:
    async with visiting(*two) as made:
        yield made


async def begun(visitor: Visitor, model_server: ModelServer, script: Script = BEGUN) -> tuple[str, Answer]:
    """An answer whose first unit is on its way."""
    model_server.next(script)
    name = secrets.token_hex(16)
    return name, await visitor.open(request_id=name)


def served(two: list[Running], outcome: str) -> float | None:
    return two[1].node.metrics.registry.get_sample_value("masa_served_total", {"outcome": outcome})


async def test_what_has_begun_ends_and_its_connection_serves_the_next(
    two: list[Running], visitor: Visitor, model_server: ModelServer, came_by: list[Any]
) -> None:
    network = two[0].node.joined.network
    assert network is not None
    for number in range(TIMES):
        name, answer = await begun(visitor, model_server)
        network.outbox.stop(two[1].node.who.id, visitor.at, name, answer)
        await asyncio.wait_for(model_server.inferences[number].abandoned.wait(), 5)
        await until(lambda: answer.whole)  # noqa: B023 - asked at once
    assert (len(came_by), len(set(came_by))) == (TIMES, 1)
    assert served(two, "stopped") == TIMES


async def test_what_has_not_begun_is_refused_and_its_connection_serves_the_next(
    two: list[Running], visitor: Visitor, model_server: ModelServer, came_by: list[Any]
) -> None:
    for number in range(1, TIMES + 1):
        model_server.next(SILENT)
        visit = await visitor.visit()
        await in_work(model_server, number)
        await visitor.calls(stop=[visit.request_id])
        got = await visit.answer()
        assert (got.status, got.refused) == (499, "stopped")
    assert (len(came_by), len(set(came_by))) == (TIMES, 1)
    assert served(two, "stopped") == TIMES


async def test_what_its_asker_reads_to_the_end_it_gets(visitor: Visitor, model_server: ModelServer) -> None:
    """All that went out before the stop came, and no more."""
    name, answer = await begun(visitor, model_server)
    assert await answer.read() == UNIT
    await visitor.calls(stop=[name])
    assert await answer.read() == b""
    assert answer.whole


async def test_an_answer_that_says_its_length_is_cut(visitor: Visitor, model_server: ModelServer) -> None:
    """Another end than the one it has promised would begin the next answer."""
    framed = Script(headers=NDJSON, chunks=[UNIT, HANG], framing="length", length=9 * len(UNIT))
    name, answer = await begun(visitor, model_server, framed)
    await visitor.calls(stop=[name])
    assert await answer.read() == UNIT
    with pytest.raises(ConnectionError):
        await answer.read()


async def test_an_asker_who_leaves_unsaid_is_cut_off(
    two: list[Running], visitor: Visitor, model_server: ModelServer, came_by: list[Any]
) -> None:
    for number in range(TIMES):
        _, answer = await begun(visitor, model_server)
        answer.close()
        await asyncio.wait_for(model_server.inferences[number].abandoned.wait(), 5)
    assert len(set(came_by)) == TIMES
    assert served(two, "asker_gone") == TIMES


async def test_who_does_not_read_holds_nothing_up(
    two: list[Running], visitor: Visitor, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of its answer waits for it no longer than that: then its connection is closed."""
    monkeypatch.setattr(handed, "END_SECONDS", 0.2)
    name, answer = await begun(visitor, model_server, Script(headers=NDJSON, chunks=[UNIT * 400_000, HANG]))
    answer.pause()
    await settled(lambda: model_server.inferences[0].written)
    await visitor.calls(stop=[name])
    await until(lambda: served(two, "stopped") == 1)
    answer.close()


# The asker's side


class Tape:
    """An open answer; `pieces` come at once, then nothing, or its end."""

    def __init__(self, *pieces: bytes, ends: bool) -> None:
        self.pieces = list(pieces)
        self.ends = ends
        self.closed = self.whole = self.over = False

    async def read(self) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        if not self.ends:
            await asyncio.Event().wait()
        self.whole = True
        return b""

    def close(self) -> None:
        self.closed = True


class Heard:
    """A Contact whose peer answers this, or cannot be asked."""

    def __init__(self, status: int | None = 200) -> None:
        self.status = status

    async def post(self, *_: object, **__: object) -> contact.Answer:
        if self.status is None:
            raise NoContact("silent", "it did not answer in time")
        return contact.Answer(self.status, {}, b"{}")


async def stopped(peer: Heard, *tapes: Tape) -> list[bool]:
    """Which of these were read to their end; all are closed."""
    async with open_outbox(cast(Contact, peer)) as box:
        for number, tape in zip(itertools.count(), tapes, strict=False):
            box.stop(ME, AT, str(number), cast(Answer, tape))
        await until(lambda: all(tape.closed for tape in tapes), 5)
    return [tape.whole for tape in tapes]


async def test_an_answer_is_read_to_its_end_once_the_peer_has_heard() -> None:
    assert await stopped(Heard(), Tape(UNIT, UNIT, ends=True), Tape(ends=True)) == [True, True]
    assert await stopped(Heard(403), Tape(ends=True)) == [False]
    assert await stopped(Heard(None), Tape(ends=True)) == [False]


async def test_a_peer_that_does_not_stop_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "END_SECONDS", 0.1)
    assert await stopped(Heard(), Tape(UNIT, ends=False)) == [False]
    endless = Tape(*[bytes(LONGEST_END // 4)] * 100, ends=True)
    assert await stopped(Heard(), endless) == [False]
    assert len(endless.pieces) == 96
