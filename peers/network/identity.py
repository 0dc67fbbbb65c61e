"""Identity: a node's Ed25519 key pair, kept in MASA_DIR; the id is the public key (docs/security.md C-3)."""

import base64
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from peers.wire import NodeId

KEY_FILE = "node.key"


class IdentityError(Exception):
    """The key or its folder cannot be used; the text says what to do."""


def load_identity(folder: Path) -> Ed25519PrivateKey:
    """The key in `folder`, made there if there is none. Raises IdentityError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / KEY_FILE
        if not path.exists():
            _write_new(path, Ed25519PrivateKey.generate())
        return _read(path)
    except OSError as error:
        raise IdentityError(
            f"MASA_DIR {folder} cannot be used ({error.strerror}); set MASA_DIR to a folder of your own"
        ) from error


def node_id(key: Ed25519PrivateKey) -> NodeId:
    """The raw public key in lower-case base32, without padding: 52 characters."""
    raw = key.public_key().public_bytes_raw()
    return NodeId(base64.b32encode(raw).decode().rstrip("=").lower())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder: one running node each. Raises IdentityError where another one holds it."""
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read(20).strip() or "another process"
            raise IdentityError(
                f"MASA_DIR {folder} is in use by a running node (process {holder}); "
                "stop it, or give this one a MASA_DIR of its own"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _write_new(path: Path, key: Ed25519PrivateKey) -> None:
    """All of it or nothing, readable by the owner alone, on disk before it is used."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    draft = path.with_suffix(f".{os.getpid()}.new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, pem)
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(draft, path)  # Unlike a rename, it never replaces a key that somebody made meanwhile.
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _read(path: Path) -> Ed25519PrivateKey:
    if path.stat().st_mode & 0o077:
        raise IdentityError(f"{path} can be read by others; run: chmod 600 {path}")
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except ValueError as error:
        raise IdentityError(
            f"{path} is not a private key; restore it, or move it away to get a new identity"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(f"{path} is not an Ed25519 key; restore it, or move it away to get a new identity")
    return key
