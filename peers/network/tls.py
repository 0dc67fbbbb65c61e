"""TLS between peers: a certificate made from the node key, and pins on the key behind one (docs/security.md C-6)."""

import asyncio
import ssl
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from peers.network.identity import KEY_FILE, BadKey, id_text, node_id, strong
from peers.wire import NodeId

CERTIFICATE_FILE = "node.crt"
LIFE = timedelta(days=30)


def certificate(key: Ed25519PrivateKey, now: float) -> bytes:
    """A new self-signed certificate in PEM, good from a day before `now` until LIFE after it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node_id(key))])
    made = datetime.fromtimestamp(now, UTC)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(made - timedelta(days=1))
        .not_valid_after(made + LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return builder.sign(key, None).public_bytes(Encoding.PEM)


class NodeTls:
    """What the peer listener serves: TLS 1.3 alone, with a certificate of the node key.

    Both methods read and write files in MASA_DIR, where the key must be: not on the loop.
    """

    def __init__(self, folder: Path, key: Ed25519PrivateKey, now: float) -> None:
        self._folder = folder
        self._key = key
        self._due = now
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.num_tickets = 0
        self.renew(now)

    def renew(self, now: float) -> bool:
        """Whether there is a new certificate, made when the last one is half over; open connections keep theirs."""
        if now < self._due:
            return False
        path = self._folder / CERTIFICATE_FILE
        path.write_bytes(certificate(self._key, now))
        self.context.load_cert_chain(path, self._folder / KEY_FILE)
        self._due = now + LIFE.total_seconds() / 2
        return True


class KeyCheck(aiohttp.Fingerprint, ABC):
    """For `ssl=` of a request: aiohttp asks it about every new connection, before the first byte of a request.

    aiohttp pairs it with a context of its own that accepts any certificate, whatever its dates, and TLS 1.2 too:
    hence the version is looked at here, and the key alone counts.
    """

    def check(self, transport: asyncio.Transport) -> None:
        place = transport.get_extra_info("peername") or ("", 0)
        self.saw(_served_key(transport), *place[:2])

    @abstractmethod
    def saw(self, key: bytes, host: str, port: int) -> None:
        """Judge the raw key that was served there; empty where there was none. Raises ServerFingerprintMismatch."""


class NodePin(KeyCheck):
    """This key and no other. Equal pins share connections: aiohttp's own Fingerprint has no `__eq__`.

    A pin of a later generation shares none with those before: they end what they are doing, and are used no more.
    """

    def __init__(self, key: bytes, generation: int = 0) -> None:
        super().__init__(strong(key))
        self._same = (bytes(key), generation)

    def saw(self, key: bytes, host: str, port: int) -> None:
        if key != self.fingerprint:
            raise aiohttp.ServerFingerprintMismatch(self.fingerprint, key, host, port)

    def __eq__(self, other: object) -> bool:
        return type(other) is NodePin and other._same == self._same

    def __hash__(self) -> int:
        return hash(self._same)


class SeenKey(KeyCheck):
    """First contact: any key that is not weak, remembered. One for each request, with `Connection: close`."""

    def __init__(self) -> None:
        super().__init__(bytes(32))
        self.node: NodeId | None = None
        """Whom the connection reached: set before a byte is sent."""

    def saw(self, key: bytes, host: str, port: int) -> None:
        try:
            self.node = id_text(strong(key))
        except BadKey:
            raise aiohttp.ServerFingerprintMismatch(b"", key, host, port) from None


def _served_key(transport: asyncio.Transport) -> bytes:
    """The raw Ed25519 key of the other side's certificate; empty where it has none, or not over TLS 1.3."""
    tls = transport.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True) if tls and tls.version() == "TLSv1.3" else None
    try:
        key = x509.load_der_x509_certificate(der or b"").public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return b""
    return key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else b""
