"""Identity: a node's Ed25519 key pair, kept in MASA_DIR; the id is the public key (docs/security.md C-3, C-4)."""

import base64
import errno
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from peers.network.disk import sync_folder
from peers.wire import NodeId

KEY_FILE = "node.key"

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
IN_THE_WAY = frozenset({errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
"""A file for a folder, a folder for a file, a link that leads nowhere: no permission would mend it."""

ID = re.compile(r"[a-z2-7]{51}[aq]")
"""256 bits in lower-case base32 (RFC 4648): the last character carries one bit, and four that are zero."""

_P = 2**255 - 19
_ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
_WEAK = frozenset({0, 1, _P - 1, _ORDER_8, _P - _ORDER_8})
"""The y of every point of small order: under such a key a forged signature verifies (docs/security.md C-4)."""


class IdentityError(Exception):
    """The key or its folder cannot be used; the text says what to do."""


class BadKey(ValueError):
    """Not the text of a public key, or a key that nobody may use."""


def load_identity(folder: Path) -> Ed25519PrivateKey:
    """The node's key in `folder`, made there if there is none. Raises IdentityError."""
    return load_key(folder, KEY_FILE)


def load_key(folder: Path, name: str) -> Ed25519PrivateKey:
    """The key in this file of `folder`, made there if there is none. Raises IdentityError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / name
        if not path.exists():
            _write_new(path, Ed25519PrivateKey.generate())
        return _read(path)
    except OSError as error:
        raise unusable(folder, error) from error


def unusable(folder: Path, error: OSError) -> IdentityError:
    """What is wrong, a semicolon, the remedy."""
    why, remedy = error.strerror, "make it writable"
    if error.errno in FULL:
        why, remedy = "its disk is full", "make room"
    elif error.errno in IN_THE_WAY:
        why, remedy = f"{error.strerror}: {error.filename or folder}", "move away what is in the way"
    return IdentityError(f"MASA_DIR {folder} cannot be used ({why}); {remedy}, or set MASA_DIR to a folder of your own")


def node_id(key: Ed25519PrivateKey) -> NodeId:
    """The id of the node that holds `key`."""
    return id_text(key.public_key().public_bytes_raw())


def id_text(raw: bytes) -> NodeId:
    """A raw public key in lower-case base32, without padding: 52 characters. Networks are named so too."""
    return NodeId(base64.b32encode(raw).decode().rstrip("=").lower())


@lru_cache(maxsize=4096)
def raw_key(text: str) -> bytes:
    """The 32 bytes behind an id, which has exactly one spelling. Raises BadKey, for a weak key too."""
    if not ID.fullmatch(text):
        raise BadKey("not an id: 52 characters of a-z and 2-7")
    return strong(base64.b32decode(text.upper() + "===="))


def parse_key(text: str) -> Ed25519PublicKey:
    """The public key behind an id. Raises BadKey, for a weak key too."""
    return Ed25519PublicKey.from_public_bytes(raw_key(text))


def strong(raw: bytes) -> bytes:
    """`raw`. Raises BadKey: no canonical Ed25519 key (RFC 8032 §5.1.3), or a weak one (docs/security.md C-4)."""
    if len(raw) != 32:
        raise BadKey("not a key: 32 bytes")
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y >= _P:
        raise BadKey("not the canonical form of a key")
    if y in _WEAK:
        raise BadKey("a weak key: anybody can sign in its name")
    return raw


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder: one running node each. Raises IdentityError: another one holds it, or nothing can be written."""
    try:
        file = (folder / "lock").open("ab+", buffering=0)
    except OSError as error:
        raise unusable(folder, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = (file.read(20) or b"").decode("ascii", "replace").strip() or "another process"
            raise IdentityError(
                f"MASA_DIR {folder} is in use by a running node (process {holder}); "
                "stop it, or give this one a MASA_DIR of its own"
            ) from None
        with suppress(OSError):  # on a full disk: the number is for people, the lock is what counts
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        yield


def _write_new(path: Path, key: Ed25519PrivateKey) -> None:
    """All of it or nothing, readable by the owner alone, on disk before it is used."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    handle, name = tempfile.mkstemp(prefix=path.stem, suffix=".new", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(handle)
        os.link(draft, path)  # Unlike a rename, it never replaces a key that somebody made meanwhile.
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    sync_folder(path.parent)


def _read(path: Path) -> Ed25519PrivateKey:
    pem = path.read_bytes()
    if path.stat().st_mode & 0o077:
        raise IdentityError(f"{path} can be read by others; run: chmod 600 {path}")
    try:
        key = load_pem_private_key(pem, None)
    except ValueError as error:
        raise IdentityError(
            f"{path} is not a private key; restore it, or move it away to get a new identity"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(f"{path} is not an Ed25519 key; restore it, or move it away to get a new identity")
    return key
