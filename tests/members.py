"""Single Memberships for tests: made, told of others, and asked what they think."""

from collections.abc import Callable
from random import Random
from typing import Any

from peers.errors import MasaError
from peers.network.frames import decode
from peers.network.membership import Membership
from peers.network.records import Models, Record, seal
from peers.network.roster import Status
from peers.network.table import Member
from peers.wire import NodeId
from tests.simnet import NETWORK, START, an_id, fake_sign, terms

RNG = Random(1)
A, B, C = (an_id(RNG) for _ in range(3))


def core(node: NodeId = A, *, now: float = START, **changes: Any) -> Membership:
    made = Membership(terms(node, **changes), Random(node), now)
    made.announce(now, addrs=("20.0.0.1:4001",), models=Models())
    return made


def sealed(node: NodeId = B, *, now: float = START, **changes: Any) -> str:
    usual: dict[str, Any] = {
        "net": NETWORK,
        "id": node,
        "boot": "0" * 16,
        "epoch": int(START * 1000),
        "seq": 1,
        "issued": int(now),
        "ttl": 60,
        "addrs": ("20.0.0.2:4001",),
    }
    return seal(Record(**usual | changes), lambda data: fake_sign(node, data))


def member(node: NodeId, **changes: Any) -> Member:
    at = core()
    assert at.introduced(sealed(node, **changes), START) == "started"
    return at.table.members[node]


def status(at: Membership, node: NodeId, now: float) -> Status:
    return at.roster.status(at.table.members[node], now)


def records_of(body: bytes) -> list[str]:
    return decode(body).records


def refusal(act: Callable[[], object]) -> str | None:
    """The code by which it is refused; None: it is not."""
    try:
        act()
    except MasaError as error:
        return f"{error.status} {error.code}"
    return None
