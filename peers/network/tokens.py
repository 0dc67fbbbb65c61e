"""The words that people copy: network secrets, invite tokens, certificates (docs/protocol.md). Pure."""

import base64
from dataclasses import dataclass
from hashlib import sha256
from secrets import token_bytes

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from peers.network.certificates import NetworkId, network_id
from peers.network.dialing import Address, BadAddress
from peers.network.identity import BadKey, id_text, raw_key, strong
from peers.wire import NodeId

SECRET_PREFIX = "masa1"  # noqa: S105  # what a secret starts with is none
CERTIFICATE_PREFIX = "masacert1"
SECRET_LENGTH = 53
LONGEST_TOKEN = 600
MOST_ADDRESSES = 4
_CHECKSUM = 4


class BadToken(ValueError):
    """Not the word it should be; the text says what is wrong with it, and never repeats it."""


@dataclass(frozen=True, slots=True)
class Secret:
    """What makes a network: whoever has it is a member."""

    raw: bytes
    """32 random bytes."""

    @classmethod
    def new(cls) -> "Secret":
        return cls(token_bytes(32))

    @property
    def text(self) -> str:
        """`masa1`, then base64url of the bytes and the first four of their SHA-256: 53 characters."""
        return SECRET_PREFIX + _word(_checked(self.raw))

    def network_key(self) -> Ed25519PrivateKey:
        """HKDF-SHA256 (RFC 5869, no salt) as an Ed25519 seed: the network's own key."""
        return Ed25519PrivateKey.from_private_bytes(HKDF(SHA256(), 32, None, b"masa-network-v1").derive(self.raw))

    def network(self) -> NetworkId:
        return network_id(self.network_key())

    def __repr__(self) -> str:
        return "Secret(***)"


@dataclass(frozen=True, slots=True)
class Invite:
    """All that a machine needs to join: the secret, and where members were when it was made."""

    secret: Secret
    members: tuple[tuple[NodeId, Address], ...] = ()

    def text(self) -> str:
        """The token: the secret, then base64url of the members and the first four bytes of SHA-256 of all before.

        A member is its raw key, its port in two bytes, the length of its host in one, and the host. The first that
        fit are in it: at most four, and the token at most 600 characters.
        """
        told, token = self.secret.raw, self.secret.text
        for member in self.members[:MOST_ADDRESSES]:
            more = told + _member_bytes(*member)
            longer = self.secret.text + _word(_checked(more)[32:])
            if len(longer) <= LONGEST_TOKEN:
                told, token = more, longer
        return token


def parse_secret(text: str) -> Secret:
    """Raises BadToken."""
    text = text.strip()
    if not text.startswith(SECRET_PREFIX):
        raise BadToken(f"a network secret starts with {SECRET_PREFIX}; `masa-node invite` makes one")
    if len(text) != SECRET_LENGTH:
        raise BadToken(f"a network secret has {SECRET_LENGTH} characters, this one {len(text)}; copy all of it")
    return Secret(_unchecked(_bytes(text[len(SECRET_PREFIX) :])))


def parse_secrets(text: str) -> tuple[Secret, ...]:
    """One, or while rotating two by comma, the new one first. Raises BadToken."""
    secrets = tuple(map(parse_secret, text.split(",")))
    if len(secrets) > 2 or len(set(secrets)) < len(secrets):
        raise BadToken("at most two different network secrets, the new one first")
    return secrets


def parse_invite(text: str) -> Invite:
    """A token, or a bare secret, which is one without addresses. Raises BadToken."""
    text = text.strip()
    if len(text) > LONGEST_TOKEN:
        raise BadToken(f"a token has at most {LONGEST_TOKEN} characters, this one {len(text)}")
    secret = parse_secret(text[:SECRET_LENGTH])
    if len(text) == SECRET_LENGTH:
        return Invite(secret)
    told = _unchecked(secret.raw + _bytes(text[SECRET_LENGTH:]))
    return Invite(secret, _members(told[32:]))


def certificate_text(sealed: bytes) -> str:
    """A membership certificate as one word."""
    return CERTIFICATE_PREFIX + _word(sealed)


def parse_certificate(text: str) -> bytes:
    """The sealed bytes, unproven. Raises BadToken."""
    text = text.strip()
    if not text.startswith(CERTIFICATE_PREFIX):
        raise BadToken(f"a certificate starts with {CERTIFICATE_PREFIX}; `masa-node stake issue` makes one")
    return _bytes(text[len(CERTIFICATE_PREFIX) :])


def deny_list_text(sealed: bytes) -> str:
    """A deny-list as gossip carries it: base64url."""
    return _word(sealed)


def parse_deny_list(text: str) -> bytes:
    """The sealed bytes, unproven. Raises BadToken."""
    return _bytes(text)


def _member_bytes(node: NodeId, address: Address) -> bytes:
    host = address.host.encode()
    return raw_key(node) + address.port.to_bytes(2, "big") + bytes([len(host)]) + host


def _members(told: bytes) -> tuple[tuple[NodeId, Address], ...]:
    members = []
    try:
        while told:
            key, port, length, told = told[:32], told[32:34], told[34], told[35:]
            host, told = told[:length], told[length:]
            if len(host) < length:
                raise BadAddress("cut short")
            address = Address.parse(str(Address(host.decode("ascii"), int.from_bytes(port, "big"))))
            members.append((id_text(strong(key)), address))
    except (IndexError, UnicodeDecodeError, BadKey, BadAddress):
        raise BadToken("the token names a member that cannot be one; ask for another token") from None
    if not 1 <= len(members) <= MOST_ADDRESSES:
        raise BadToken(f"a token names at most {MOST_ADDRESSES} members")
    return tuple(members)


def _checked(raw: bytes) -> bytes:
    return raw + sha256(raw).digest()[:_CHECKSUM]


def _unchecked(checked: bytes) -> bytes:
    raw = checked[:-_CHECKSUM]
    if _checked(raw) != checked:
        raise BadToken("a character is wrong or missing (the checksum does not fit); copy it again")
    return raw


def _word(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(word: str) -> bytes:
    """Only what `_word` would write: Python's own decoder skips what it does not know."""
    try:
        raw = base64.urlsafe_b64decode(word + "=" * (-len(word) % 4))
    except ValueError:
        raw = b""
    if _word(raw) != word:
        raise BadToken("a character is wrong or missing; copy it again")
    return raw
