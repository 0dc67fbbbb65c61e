"""TLS between peers, over real sockets: the key counts, and nothing is told to a node that has another one."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from peers.http1.client import request_head
from peers.http1.connection import Connection
from peers.http1.errors import Unreached, WrongKey
from peers.network.dialing import Address, DialPolicy
from peers.network.identity import KEY_FILE, load_identity, node_id, raw_key
from peers.network.sessions import Sessions, peer_connector, peer_sessions
from peers.network.tls import LIFE, NodeTls, certificate, served_key

NOW = 1_800_000_000.0
HEAD = request_head("GET", "/", "127.0.0.1", {}, None)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STRANGER = Ed25519PrivateKey.generate().public_key().public_bytes_raw()


@dataclass(slots=True)
class Place:
    """A TLS server that answers every request, and remembers each connection with the bytes that came."""

    address: Address
    connections: list[bytearray] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[Place]:
    place = Place(Address("127.0.0.1", 1))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came = bytearray()
        place.connections.append(came)
        try:
            while chunk := await reader.read(65_536):
                came += chunk
                if came.endswith(b"\r\n\r\n"):
                    writer.write(ANSWER)
        except ConnectionError:
            pass
        finally:
            writer.close()
            place.ended.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    place.address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        yield place
    finally:
        server.close()
        await server.wait_closed()


def identity(folder: Path, now: float = NOW) -> tuple[bytes, NodeTls]:
    """A node's raw key and its TLS."""
    key = load_identity(folder)
    return raw_key(node_id(key)), NodeTls(folder, key, now)


@pytest.fixture
async def node(tmp_path: Path) -> tuple[bytes, NodeTls]:
    return await asyncio.to_thread(identity, tmp_path)


@asynccontextmanager
async def dialling(place: Place) -> AsyncIterator[Sessions]:
    async with peer_sessions(peer_connector(DialPolicy(named=frozenset([place.address])))) as sessions:
        yield sessions


async def get(sessions: Sessions, place: Place, key: bytes) -> int:
    """Ask whoever has this key."""
    answer = await sessions.ask(place.address, key, HEAD, b"", connect=5, silence=5)
    assert await answer.read() == b"ok"
    return answer.status


async def refused(place: Place, key: bytes | None) -> None:
    """The handshake is done, the check fails, and the server has seen no byte of the request when we are gone.

    `key` None: first contact, with any that is not weak.
    """
    async with dialling(place) as sessions:
        with pytest.raises(Unreached):
            await (sessions.meet(place.address, HEAD, silence=5) if key is None else get(sessions, place, key))
        await asyncio.wait_for(place.ended.wait(), 5)
    assert place.connections == [b""]


async def test_the_right_key_is_asked(node: tuple[bytes, NodeTls]) -> None:
    key, tls = node
    async with serving(tls.context) as place, dialling(place) as sessions:
        assert await get(sessions, place, key) == 200
        assert place.connections[0].startswith(b"GET / HTTP/1.1\r\n")


async def test_another_key_is_told_nothing(node: tuple[bytes, NodeTls]) -> None:
    """D10: also what somebody in the middle meets, who has a key of his own."""
    async with serving(node[1].context) as place:
        await refused(place, STRANGER)


async def test_one_key_shares_a_connection_and_others_do_not(node: tuple[bytes, NodeTls]) -> None:
    key, tls = node
    async with serving(tls.context) as place, dialling(place) as sessions:
        for _ in range(5):
            await get(sessions, place, bytes(key))
        assert len(place.connections) == 1
        with pytest.raises(WrongKey):
            await get(sessions, place, STRANGER)
        await get(sessions, place, key)
        assert [len(came) > 0 for came in place.connections] == [True, False]
        sessions.renew()
        await get(sessions, place, key)
        assert [len(came) > 0 for came in place.connections] == [True, False, True]


async def test_an_expired_certificate_of_the_right_key_is_accepted(tmp_path: Path) -> None:
    for name, now in (("old", 1e9), ("early", 4e9)):
        key, tls = await asyncio.to_thread(identity, tmp_path / name, now)
        async with serving(tls.context) as place, dialling(place) as sessions:
            assert await get(sessions, place, key) == 200


async def test_first_contact_learns_the_key_and_shares_nothing(node: tuple[bytes, NodeTls]) -> None:
    key, tls = node
    async with serving(tls.context) as place, dialling(place) as sessions:
        for count in (1, 2):
            seen, answer = await sessions.meet(place.address, HEAD, silence=5)
            assert (seen, await answer.read()) == (key, b"ok")
            assert len(place.connections) == count


async def test_tls_1_2_is_refused_by_the_server(node: tuple[bytes, NodeTls]) -> None:
    async with serving(node[1].context) as place:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await served(place, ssl.TLSVersion.TLSv1_2)
        assert place.connections == []
        await served(place, ssl.TLSVersion.TLSv1_3)


@pytest.mark.parametrize("first_contact", [True, False])
async def test_tls_1_2_is_refused_by_who_dials(node: tuple[bytes, NodeTls], first_contact: bool) -> None:
    key, tls = node
    tls.context.minimum_version = tls.context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(tls.context) as place:
        async with dialling(place) as sessions:
            with pytest.raises(Unreached):
                await (sessions.meet(place.address, HEAD, silence=5) if first_contact else get(sessions, place, key))
        assert place.connections == []  # its handshake was refused


async def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    context = await asyncio.to_thread(foreign, tmp_path)
    async with serving(context) as place:
        await refused(place, None)


def foreign(folder: Path) -> ssl.SSLContext:
    """Whose key is no Ed25519 key."""
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "crt").write_bytes(signed_by(key).public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "crt", folder / "key")
    return context


def signed_by(signer: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, key: object = None) -> x509.Certificate:
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, key or signer.public_key(), x509.random_serial_number())
    start = datetime.fromtimestamp(NOW, UTC)
    return builder.not_valid_before(start).not_valid_after(start + timedelta(days=1)).sign(signer, SHA256())


async def test_a_certificate_is_renewed_when_half_its_life_is_over(node: tuple[bytes, NodeTls]) -> None:
    """Under the same context: new connections get it, and an open one goes on."""
    key, tls = node
    half = LIFE.total_seconds() / 2
    async with serving(tls.context) as place, dialling(place) as sessions:
        await get(sessions, place, key)
        first = await served(place)
        assert not await asyncio.to_thread(tls.renew, NOW + half - 1)
        assert await served(place) == first
        assert await asyncio.to_thread(tls.renew, NOW + half)
        second = await served(place)
        assert second.serial_number != first.serial_number
        assert second.not_valid_after_utc - first.not_valid_after_utc == LIFE / 2
        await get(sessions, place, key)
        assert len(place.connections) == 4


async def served(place: Place, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> x509.Certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = version
    _, writer = await asyncio.open_connection(place.address.host, place.address.port, ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(der)


def test_what_a_certificate_says(tmp_path: Path) -> None:
    key = load_identity(tmp_path)
    made = [x509.load_pem_x509_certificate(certificate(key, NOW)) for _ in range(2)]
    one, other = made
    assert one.serial_number != other.serial_number
    assert one.not_valid_after_utc == datetime.fromtimestamp(NOW, UTC) + LIFE
    assert one.public_key() == key.public_key()
    one.verify_directly_issued_by(one)
    NodeTls(tmp_path, key, NOW)
    assert b"PRIVATE" not in (tmp_path / "node.crt").read_bytes()
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600


async def test_a_weak_key_is_not_learnt(tmp_path: Path) -> None:
    weak = Ed25519PublicKey.from_public_bytes((1).to_bytes(32, "little"))
    shown = signed_by(ec.generate_private_key(ec.SECP256R1()), weak).public_bytes(Encoding.DER)
    assert served_key(transport(shown)) == weak.public_bytes_raw()
    asked = []

    async def connect(address: Address, connection: Connection) -> bytes:
        connection.connection_made(SimpleNamespace(abort=lambda: asked.append("aborted")))
        return weak.public_bytes_raw()

    async with peer_sessions(connect) as sessions:
        with pytest.raises(WrongKey):
            await sessions.meet(Address("10.0.0.1", 4001), HEAD, silence=5)
    assert asked == ["aborted"]


def transport(der: bytes | None, peername: tuple[str, int] | None = ("127.0.0.1", 1)) -> SimpleNamespace:
    """Of a connection where this certificate was shown."""
    tls = SimpleNamespace(getpeercert=lambda binary_form: der, version=lambda: "TLSv1.3")
    return SimpleNamespace(get_extra_info={"ssl_object": tls, "peername": peername}.get)


GOOD = x509.load_pem_x509_certificate(certificate(Ed25519PrivateKey.generate(), NOW)).public_bytes(Encoding.DER)
DAMAGED = st.builds(
    lambda place, byte: GOOD[:place] + bytes([byte]) + GOOD[place + 1 :],
    st.integers(0, len(GOOD) - 1),
    st.integers(0, 255),
)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(deadline=None)
@example(GOOD.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"), None)
@given(st.one_of(st.none(), st.binary(max_size=400), DAMAGED), st.sampled_from([None, ("::1", 1, 0, 0)]))
def test_no_certificate_breaks_a_check(der: bytes | None, peername: tuple[str, int] | None) -> None:
    """Whatever is shown, its key is not another one's, and nothing is raised."""
    assert served_key(transport(der, peername)) != STRANGER


def test_without_tls_there_is_no_key() -> None:
    plain = SimpleNamespace(get_extra_info={"peername": ("127.0.0.1", 1)}.get)
    assert served_key(plain) == b""
