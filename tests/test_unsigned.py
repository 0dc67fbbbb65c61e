"""Who is no member gets nothing of the peer listener: real sockets and TLS (docs/promises.md D12)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path

import pytest

from masa_node.server import NodeServer
from peers.wire import NodeId
from tests import signing
from tests.deeds import Deeds
from tests.peers import Peer, peer
from tests.raw_tls import answer_to
from tests.spoiling import SNIPPETS
from tests.victims import METHODS, PATHS, forged, refused, request, victim
from tests.waiting import until

SIGNED = ("/peer/v1/identify", "/peer/v1/gossip", "/peer/v1/forward/api/chat")
VALUES = [None, "", *(text for one in SNIPPETS if not set(text := one.decode("latin-1")) & set("\r\n\0"))]


@pytest.fixture(scope="module")
def audit() -> Deeds:
    """An audit hook stays for as long as the process: one for all tests."""
    return Deeds()


@asynccontextmanager
async def nothing_comes_of_it(to: Peer, server: NodeServer, deeds: Deeds) -> AsyncIterator[None]:
    """No dial, no look-up, no file: but for our own connections to it. And nobody becomes anything to it."""
    ours = ("socket.connect", (to.address.host, to.address.port))
    with deeds.watched() as seen:
        yield
    assert [deed for deed in seen if deed != ours] == []
    assert ours in seen
    assert set(to.network.membership.table.members) == {to.id}
    assert not to.network.membership.intake.candidates
    assert not to.network.carrier.busy
    await until(lambda: server.open == 0)


async def test_every_path_and_method_without_a_signature(tmp_path: Path, audit: Deeds) -> None:
    async with victim(tmp_path) as (it, server), nothing_comes_of_it(it, server, audit):
        for path, method in product(PATHS, METHODS):
            refused(await answer_to(it.address, request(method, path, {"Connection": "close"})))


async def test_every_signed_path_with_signatures_that_are_none(tmp_path: Path, audit: Deeds) -> None:
    async with victim(tmp_path) as (it, server), nothing_comes_of_it(it, server, audit):
        for path in SIGNED:
            good = forged(it, path)
            for name, value in product(good, VALUES):
                some = {key: given for key, given in good.items() if key != name}
                refused(await answer_to(it.address, request("POST", path, some | value_of(name, value), b"{}")))


def value_of(name: str, value: str | None) -> dict[str, str]:
    return {} if value is None else {name: value}


@pytest.mark.parametrize("keyid", [signing.SENDER, "the victim's own", "a member's"])
async def test_a_signature_in_perfect_form_by_another_key(tmp_path: Path, keyid: str) -> None:
    """Whoever it names, nothing counts against that one."""
    async with victim(tmp_path / "a") as (it, _), peer(tmp_path / "b") as friend:
        await friend.network.carrier.meet(it.address)
        named = NodeId({"the victim's own": it.id, "a member's": friend.id}.get(keyid, keyid))
        for path, body in product(SIGNED, (b"{}", b"[" * 4000)):
            for sent in (body, b"{ ", body + b" "):
                headers = forged(it, path, body, named)
                refused(await answer_to(it.address, request("POST", path, headers, sent)))
        assert it.sees() == {friend.id}
        assert await friend.network.carrier.meet(it.address) == it.id


@pytest.mark.parametrize(
    "data",
    [
        b"GET /peer/v1/ping HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % at for at in range(500)) + b"\r\n",
        b"GET /peer/v1/ping HTTP/1.1\r\nHost: x\r\nMasa-Nonce: " + b"0" * 9000 + b"\r\n\r\n",
        b"GET /peer/v1/ping HTTP/1.1\r\nHost: x\r\nMasa-Nonce: " + b"\xff" * 32 + b"\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /peer/v1/gossip HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /peer/v1/gossip HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /peer/v1/gossip HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /peer/v1/gossip HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /peer/v1/gossip HTTP/1.1\r\nHost: x\r\nExpect: \xff\r\nContent-Length: 2\r\n\r\n{}",
        b"GET /peer/v1/ping HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01" * 99,
        bytes(range(256)) * 40,
    ],
    ids=lambda data: repr(data[:40]),
)
async def test_what_is_no_request_is_refused_without_a_word_of_who_this_is(
    tmp_path: Path, audit: Deeds, data: bytes
) -> None:
    async with victim(tmp_path) as (it, server), nothing_comes_of_it(it, server, audit):
        answer = await answer_to(it.address, data)
        refused(answer)
        assert it.id.encode() not in answer
