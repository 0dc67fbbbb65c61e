"""TLS between peers: a certificate made of the node key, and the key that others serve (docs/security.md C-6)."""

import asyncio
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from peers.network.disk import write_whole
from peers.network.identity import KEY_FILE, node_id

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
        made = certificate(self._key, now).decode()
        path = self._folder / CERTIFICATE_FILE
        try:
            write_whole(path, made)
            self.context.load_cert_chain(path, self._folder / KEY_FILE)
        except OSError:  # A full disk: it need not be kept, but OpenSSL reads files alone.
            with tempfile.NamedTemporaryFile("w") as file:
                file.write(made)
                file.flush()
                self.context.load_cert_chain(file.name, self._folder / KEY_FILE)
        self._due = now + LIFE.total_seconds() / 2
        return True


def peer_context() -> ssl.SSLContext:
    """For dialling nodes: TLS 1.3 with any certificate, whatever its names and dates, since the key alone counts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def served_key(transport: asyncio.BaseTransport) -> bytes:
    """The raw Ed25519 key of the other side's certificate; empty where it has none, or not over TLS 1.3.

    It is to be compared, or found strong(), before a byte is sent.
    """
    tls = transport.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True) if tls and tls.version() == "TLSv1.3" else None
    try:
        key = x509.load_der_x509_certificate(der or b"").public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return b""
    return key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else b""
