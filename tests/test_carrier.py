"""The carrier: what it makes of answers, failures and its own slowness; the other nodes are scripted."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from random import Random
from typing import Any

import pytest

from peers.network.carrier import EXCHANGE_SECONDS, Carrier, carrying
from peers.network.contact import Answer, NoContact
from peers.network.dialing import Address
from peers.network.liveness import FAILURES
from peers.network.terms import Bootnode
from peers.network.traffic import Traffic
from peers.network.whereabouts import Whereabouts
from tests.members import A, B, core, sealed
from tests.simnet import START
from tests.waiting import until

BOOTNODE = "20.0.0.9:4001"


class Others:
    """Stands in for Contact: `answers` says what comes of each POST; the clock stands still unless they move it."""

    def __init__(self, *answers: Callable[[], Answer]) -> None:
        self.now = START
        self.answers = list(answers)
        self.asked: list[tuple[str, float]] = []

    async def post(self, node: str, address: Address, path: str, body: bytes, *, within: float, **_: Any) -> Answer:
        self.asked.append((path, within))
        return self.answers.pop(0)()

    async def ping(self, address: Address, expected: str | None = None, *, patience: int = 1) -> Any:
        self.asked.append(("ping", patience))
        return self.answers.pop(0)()


def answer(status: int = 200, refused: str = "", date: float = START) -> Answer:
    headers = {"date": formatdate(date, usegmt=True)} | ({"masa-error": refused} if refused else {})
    return Answer(status, headers, b"")


@asynccontextmanager
async def carried(others: Others, **changes: Any) -> AsyncIterator[Carrier]:
    at = core(A, **changes)
    assert at.introduced(sealed(B), START) == "started"
    nowhere = Whereabouts(None, lambda text: True, Random(1))
    async with carrying(at, others, Traffic(), nowhere, lambda: others.now) as carrier:  # type: ignore[arg-type]
        yield carrier


async def one_round(carrier: Carrier) -> None:
    await carrier.round()
    await until(lambda: not carrier.busy, 5)


async def test_what_an_exchange_took_is_kept_for_as_long_as_its_node_is() -> None:
    others = Others()

    def slowly() -> Answer:
        others.now += 0.25
        return answer()

    others.answers = [slowly]
    async with carried(others) as carrier:
        await one_round(carrier)
        assert carrier.latencies == {B: pytest.approx(0.25)}
        del carrier.membership.table.members[B]
        await carrier.round()
        assert carrier.latencies == {}


async def test_a_failure_that_began_before_a_success_counts_for_nothing() -> None:
    others = Others()
    async with carried(others) as carrier:
        liveness = carrier.membership.liveness

        def late() -> Answer:
            others.now += 3
            liveness.heard(B, others.now - 1)
            raise NoContact("silent", "it did not answer in time")

        others.answers = [late]
        await one_round(carrier)
        assert liveness.of(B).failures == 0
        others.answers = [_silent]
        await one_round(carrier)
        assert liveness.of(B).failures == 1


async def test_a_node_that_is_slow_itself_is_more_patient() -> None:
    others = Others(*[_silent] * (FAILURES - 1), answer)
    async with carried(others) as carrier:
        for _ in range(FAILURES):
            await one_round(carrier)
        assert [within for _, within in others.asked] == [EXCHANGE_SECONDS, 2 * EXCHANGE_SECONDS, 3 * EXCHANGE_SECONDS]


@pytest.mark.parametrize("refusal", ["stale", "early"])
async def test_who_is_told_that_its_record_is_untimely_goes_by_the_others_clock(refusal: str) -> None:
    ahead = 300.0 if refusal == "stale" else -300.0
    others = Others(
        lambda: answer(403, "unknown_peer"),
        lambda: answer(403, refusal, date=START + ahead),
        answer,
        answer,
    )
    async with carried(others) as carrier:
        await one_round(carrier)
        assert [path for path, _ in others.asked] == ["/peer/v1/gossip", *["/peer/v1/identify"] * 2, "/peer/v1/gossip"]
        assert carrier.membership.clock.measured == pytest.approx(ahead, abs=1)


async def test_what_came_of_calling_a_bootnode_is_told() -> None:
    others = Others(answer, _refused)
    async with carried(others, bootnodes=(Bootnode(BOOTNODE),)) as carrier:
        carrier.membership.rng.random = lambda: 0.0  # type: ignore[method-assign]
        await one_round(carrier)
        assert carrier.called == {BOOTNODE: "it cannot be reached"}


def _silent() -> Answer:
    raise NoContact("silent", "it did not answer in time")


def _refused() -> Answer:
    raise NoContact("refused", "it cannot be reached")
