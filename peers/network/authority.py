"""Authority: who may be in a network by certificates, kept in MASA_DIR/authority: its key, and what it issued.

All of it blocks. Whoever has the key is the authority; whoever loses it can issue and revoke nothing more.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_bytes
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from peers.network.certificates import DAY, DAYS, SKEW, NetworkId, deny, issue, network_id, read_certificate
from peers.network.disk import write_whole
from peers.network.identity import load_key
from peers.network.tokens import deny_list_text
from peers.wire import NodeId

FOLDER = "authority"
KEY_FILE = "authority.key"
LIST_FILE = "issued.json"
LISTED_DAYS = 365
"""For so long after its end a certificate is still listed."""
SHORTEST_PREFIX = 6

State = Literal["valid", "revoked", "ended"]


class AuthorityError(Exception):
    """It cannot be done here; the text says why, and what to do."""


class NoSuchNode(AuthorityError):
    """No certificate, or not just one node's, is meant."""


class Issued(msgspec.Struct, frozen=True):
    """A certificate that was issued; times in Unix seconds."""

    serial: str
    node: NodeId
    amount: int
    nbf: int
    exp: int
    revoked: bool = False

    def live(self, now: float) -> bool:
        """Some clock may still take it: what ends needs no revocation."""
        return now <= self.exp + 2 * SKEW

    def state(self, now: float) -> State:
        return "ended" if now > self.exp else "revoked" if self.revoked else "valid"


class _Kept(msgspec.Struct):
    """The file `issued.json`."""

    number: int = 0
    deny_list: str = ""
    """The last one, signed."""
    issued: list[Issued] = []


class Revoked(msgspec.Struct, frozen=True):
    """What a revocation did."""

    network: NetworkId
    node: NodeId
    count: int
    """Certificates revoked just now; 0: all that live were revoked before."""
    deny_list: str
    """As gossip carries it."""


class Authority:
    def __init__(self, masa_dir: Path) -> None:
        self.folder = masa_dir / FOLDER

    @property
    def exists(self) -> bool:
        return (self.folder / KEY_FILE).exists()

    def network(self) -> NetworkId:
        """Whose authority this is. Raises AuthorityError, IdentityError."""
        return network_id(self._key())

    def issued(self, now: float) -> list[Issued]:
        """What it issued, without what ended long ago; the newest last. Raises AuthorityError."""
        return [one for one in self._read().issued if now <= one.exp + LISTED_DAYS * DAY]

    def issue(self, node: NodeId, now: float, *, amount: int = 1, days: int = DAYS) -> bytes:
        """A sealed certificate; the first one makes the authority.

        Raises ValueError (days, amount, BadKey for the node), AuthorityError, IdentityError, OSError.
        """
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sealed = issue(load_key(self.folder, KEY_FILE), node, now, token_bytes(8), amount=amount, days=days)
        made = read_certificate(sealed)
        with self._changing(now) as kept:
            kept.issued.append(Issued(made.serial, node, made.amount, made.nbf, made.exp))
        return sealed

    def revoke(self, which: str, now: float) -> Revoked:
        """All live certificates of one node, named by its id or the beginning of it.

        Raises NoSuchNode, AuthorityError, IdentityError, OSError.
        """
        key = self._key()
        with self._changing(now) as kept:
            node = _meant(which, [one.node for one in kept.issued])
            live = [one for one in kept.issued if one.node == node and one.live(now)]
            if not live:
                raise NoSuchNode(f"every certificate of node {node} has ended: there is nothing to revoke")
            count = sum(not one.revoked for one in live)
            if count:
                _revoke(kept, node, key, now)
            return Revoked(network_id(key), node, count, kept.deny_list)

    def _key(self) -> Ed25519PrivateKey:
        if not self.exists:
            raise AuthorityError(
                f"this machine is no authority: there is no {self.folder / KEY_FILE}; "
                "`masa-node stake issue` begins one, or restore that folder from its backup"
            )
        return load_key(self.folder, KEY_FILE)

    @contextmanager
    def _changing(self, now: float) -> Iterator[_Kept]:
        """Read, change, write: one command at a time. Nothing is written where the block raises."""
        with (self.folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept = self._read()
            yield kept
            kept.issued = [one for one in kept.issued if now <= one.exp + LISTED_DAYS * DAY]
            write_whole(self.folder / LIST_FILE, msgspec.json.encode(kept).decode())

    def _read(self) -> _Kept:
        path = self.folder / LIST_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return _Kept()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # An empty list in its place would take every revocation back.
            raise AuthorityError(f"{path} is damaged: restore it from its backup") from None


def _meant(which: str, nodes: list[NodeId]) -> NodeId:
    found = {node for node in nodes if node.startswith(which)}
    if len(found) > 1:
        raise NoSuchNode(f"{which} is the beginning of {len(found)} nodes' ids: {', '.join(sorted(found))}")
    if not found:
        raise NoSuchNode(f"no certificate was issued here for node {which}; `masa-node stake list` shows all")
    return found.pop()


def _revoke(kept: _Kept, node: NodeId, key: Ed25519PrivateKey, now: float) -> None:
    """Sign the next deny-list: of what is revoked and has not ended."""
    kept.issued = [
        msgspec.structs.replace(one, revoked=True) if one.node == node and one.live(now) else one for one in kept.issued
    ]
    # Not only one more: a folder restored from its backup must not sign a number that members have seen.
    kept.number = max(kept.number + 1, int(now))
    try:
        sealed = deny(key, kept.number, [one.serial for one in kept.issued if one.revoked and one.live(now)])
    except ValueError as error:
        raise AuthorityError(f"{error}; a deny-list has 4 KiB: wait until some end, or issue for fewer days") from None
    kept.deny_list = deny_list_text(sealed)
