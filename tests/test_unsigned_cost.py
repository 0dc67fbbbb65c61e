"""What who is no member may cost the peer listener (docs/promises.md A15, D12)."""

import asyncio
import os
import random
import socket
import ssl
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from handlers import between
from masa_node import tls_accept
from masa_node.server import MOST_UNREAD, Connection
from peers.network.gate import Buckets
from peers.network.records import LONGEST_SEALED
from peers.wire import Model, NodeId
from tests import signing
from tests.members import refusal
from tests.peers import Peer, offer, peer, rounds
from tests.raw_tls import answer_to, anybody, counting, dialled, status_of
from tests.victims import LARGEST_ANSWER, METHODS, PATHS, forged, refused, request, victim
from tests.waiting import until

A_READ = 256 * 1024
"""Bytes that asyncio's TLS takes from its socket at once."""
MOST_FOR_ONE = 5.0
"""Bytes out for one that came in, of a handshake and a ping: of TCP's payload."""
PING = request("GET", "/peer/v1/ping", {"Masa-Nonce": "0" * 32})


@pytest.mark.parametrize("form", ["no signature", "a forged one", "chunked", "to ping", "to nowhere"])
async def test_a_huge_body_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """It is refused by its head; of what comes all the same 64 KiB are taken, and the reads under way."""
    taken, take = 0, Connection.data_received

    def count(self: Connection, data: bytes) -> None:
        nonlocal taken
        taken += len(data)
        take(self, data)

    monkeypatch.setattr(Connection, "data_received", count)
    path = {"to ping": "/peer/v1/ping", "to nowhere": "/x"}.get(form, "/peer/v1/identify")
    part = b"10000\r\n" + bytes(65_536) + b"\r\n" if form == "chunked" else bytes(65_536)
    async with victim(tmp_path) as (it, server):
        headers = forged(it, path) if form in ("a forged one", "chunked") else {}
        headers |= {"Transfer-Encoding": "chunked"} if form == "chunked" else {"Content-Length": str(10**9)}
        async with dialled(it.address) as (reader, writer):
            writer.write(request("GET" if form == "to ping" else "POST", path, headers))
            refused(await send_until_closed(reader, writer, part))
        await until(lambda: server.open == 0)
    assert taken <= MOST_UNREAD + 3 * A_READ


async def send_until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, part: bytes) -> bytes:
    """The answer, read while 64 MiB are sent, if it has to be."""
    answer = asyncio.create_task(reader.read(65_536))
    for _ in range(1024):
        if writer.transport.is_closing():
            return await answer
        writer.write(part)
        with suppress(ConnectionError):
            await writer.drain()
        await asyncio.sleep(0)  # a drain that need not wait lets nobody else run
    raise AssertionError("it was all taken")


async def test_a_slow_body_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert between.BODY_SECONDS == 3
    monkeypatch.setattr(between, "BODY_SECONDS", 0.3)
    path = "/peer/v1/identify"
    async with victim(tmp_path) as (it, server):
        async with AsyncExitStack() as stack:
            slow = [await stack.enter_async_context(dialled(it.address)) for _ in range(20)]
            for _, writer in slow:
                writer.write(request("POST", path, forged(it, path) | {"Content-Length": "9"}) + b"{")
            for reader, _ in slow:
                answer = await asyncio.wait_for(reader.read(4096), 5)
                refused(answer)
                assert status_of(answer) == 408
        await until(lambda: server.open == 0)


@pytest.mark.parametrize("rest", [b"ZZ\r\n", b"f" * 40 + b"\r\n", b"2;" + b"x" * 20_000, b"2\r\n{}XX"])
async def test_a_body_that_is_no_http_is_no_fault_of_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rest: bytes
) -> None:
    """Its head is in perfect form, so that the body is waited for."""
    path = "/peer/v1/identify"
    async with victim(tmp_path) as (it, server):
        async with dialled(it.address) as (reader, writer):
            writer.write(request("POST", path, forged(it, path) | {"Transfer-Encoding": "chunked"}))
            await until(lambda: any(one.busy for one in server.connections))
            writer.write(rest)
            refused(await asyncio.wait_for(reader.read(4096), 5))
        await until(lambda: server.open == 0)
    assert "fault" not in caplog.text


@pytest.mark.parametrize(
    "data", [request("GET", "/peer/v1/ping"), b"\x16\x03\x01\xff\xff", bytes(70_000)], ids=["HTTP", "cut", "zeros"]
)
async def test_plain_bytes_to_the_tls_port_harm_nothing(tmp_path: Path, data: bytes) -> None:
    async with victim(tmp_path / "a") as (it, server), peer(tmp_path / "b") as friend:
        answers = await asyncio.gather(*(answer_to(it.address, data, tls=False) for _ in range(20)))
        assert all(len(answer) <= 64 and status_of(answer) == 0 for answer in answers)
        await until(lambda: server.open == 0)
        assert await friend.network.carrier.meet(it.address) == it.id


async def test_a_flood_of_unsigned_requests_while_gossip_goes_on(tmp_path: Path) -> None:
    async with victim(tmp_path / "a") as (it, server), peer(tmp_path / "b") as friend:
        await friend.network.carrier.meet(it.address)
        before = await asyncio.to_thread(resident)
        flooding = asyncio.gather(*(flood(it, friend.id, random.Random(number)) for number in range(20)))
        held = friend.network.membership.table.members[it.id]
        for name in ("one", "two", "three"):
            offer(it, Model(name, frozenset({"ollama"})))
            said = it.network.membership.announcer.record.models
            assert await rounds([it, friend], lambda: held.record.models == said) <= 3  # noqa: B023 - asked at once
        assert not flooding.done()
        assert sum(await flooding) == 2000
        await until(lambda: server.open <= 3)  # the friend's: gossip, a list, a session
        assert await asyncio.to_thread(resident) - before < 32 * 1024 * 1024
        assert it.sees() == {friend.id}


async def flood(it: Peer, friend: NodeId, rng: random.Random) -> int:
    """A hundred requests over one connection; how many were refused."""
    async with dialled(it.address) as (reader, writer):
        for _ in range(100):
            path, method = rng.choice(PATHS[:6]), rng.choice(METHODS[:6])
            headers = rng.choice(({}, forged(it, path, keyid=rng.choice((friend, signing.SENDER)))))
            writer.write(request(method, path, headers, b"{}"))
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            refused(head + await reader.readexactly(0 if method == "HEAD" else length))
    return 100


def test_one_host_of_ipv6_is_one_source() -> None:
    """It has 2**64 addresses."""
    buckets = Buckets(burst=10, per_second=0)
    taken = [refusal(lambda: buckets.take(f"2a00:1:2:3::{number:x}", 0.0)) for number in range(12)]  # noqa: B023 - now
    assert taken == [None] * 10 + ["429 rate_limited"] * 2
    assert refusal(lambda: buckets.take("2a00:1:2:4::1", 0.0)) is None
    assert refusal(lambda: buckets.take("fe80::1%eth0", 0.0)) is None


def resident() -> int:
    """Bytes that this process holds."""
    with Path("/proc/self/statm").open() as statm:
        return int(statm.readline().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize("seconds", [3.0, pytest.param(tls_accept.HANDSHAKE_SECONDS, marks=pytest.mark.slow)])
async def test_stalled_handshakes_count_and_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    assert tls_accept.HANDSHAKE_SECONDS == 5
    monkeypatch.setattr(tls_accept, "HANDSHAKE_SECONDS", seconds)
    hello = client_hello()
    async with victim(tmp_path / "a") as (it, server), peer(tmp_path / "b") as friend:
        async with AsyncExitStack() as stack:
            stalled = [await stack.enter_async_context(dialled(it.address, tls=False)) for _ in range(200)]
            for number, (_, writer) in enumerate(stalled):
                writer.write(hello[: number % len(hello)])
            begun = time.monotonic()
            await until(lambda: server.open == 200)
            assert await friend.network.carrier.meet(it.address) == it.id
            async with asyncio.timeout(seconds + 6):
                await asyncio.gather(*(ended(reader) for reader, _ in stalled))
            assert time.monotonic() - begun < seconds + 5
        await until(lambda: server.open <= 2)


async def test_beyond_the_caps_a_connection_is_reset_before_its_handshake(tmp_path: Path) -> None:
    async with victim(tmp_path) as (it, server):
        server.most = 5
        async with AsyncExitStack() as stack:
            for _ in range(5):
                await stack.enter_async_context(dialled(it.address, tls=False))
            await until(lambda: server.open == 5)
            with pytest.raises(ConnectionResetError):  # while it connects, or afterwards
                async with dialled(it.address, tls=False) as (reader, _):
                    await asyncio.wait_for(reader.read(1), 2)
        await until(lambda: server.open == 0)
        assert status_of(await answer_to(it.address, PING)) == 200


async def test_who_does_not_answer_our_close_is_gone_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tls_accept.CLOSE_SECONDS == 2
    monkeypatch.setattr(tls_accept, "CLOSE_SECONDS", 0.3)

    def mute(port: int) -> ssl.SSLSocket:
        """It sends, and never reads."""
        tls = anybody().wrap_socket(socket.create_connection(("127.0.0.1", port)))
        tls.sendall(b"garbage\r\n\r\n")
        return tls

    async with victim(tmp_path) as (it, server):
        some = await asyncio.gather(*(asyncio.to_thread(mute, it.address.port) for _ in range(5)))
        await until(lambda: server.open == 0)
        for one in some:
            one.close()


async def ended(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionResetError):
        assert await reader.read(1) == b""


def client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        anybody().wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


async def test_a_ping_brings_its_sender_little_more_than_it_costs(tmp_path: Path) -> None:
    """By a record as large as they come. TCP has shown by then that the sender is where it says."""
    async with victim(tmp_path / "a") as (it, _), peer(tmp_path / "b") as asker:
        membership = it.network.membership
        record = membership.announcer.record
        addresses = tuple(f"{number}{'x' * 55}.example:4001" for number in range(4))
        membership.announce(time.time(), addrs=addresses, models=record.models, proof=record.proof, name="n" * 38)
        async with counting(it.address) as counted:
            met = await asker.network.carrier._contact.ping(counted.address)
        assert met.node == it.id
        assert LONGEST_SEALED - 100 < len(met.record) <= LONGEST_SEALED
        assert counted.back < MOST_FOR_ONE * counted.there


async def test_the_least_that_brings_a_ping(tmp_path: Path) -> None:
    async with victim(tmp_path) as (it, _), counting(it.address) as counted:
        answer = await answer_to(counted.address, PING)
        assert status_of(answer) == 200
        assert len(answer) <= LARGEST_ANSWER
        assert counted.back < MOST_FOR_ONE * counted.there


async def test_there_are_no_session_tickets(tmp_path: Path) -> None:
    async with victim(tmp_path) as (it, _), dialled(it.address) as (reader, writer):
        writer.write(PING)
        assert await reader.read(4096)
        tls = writer.get_extra_info("ssl_object")
        assert tls.version() == "TLSv1.3"
        assert not tls.session.has_ticket
