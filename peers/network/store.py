"""Store: what a node keeps of its network in MASA_DIR: secret, members, epoch, port, who was revoked; its pause."""

import base64
import math
import shutil
from contextlib import suppress
from pathlib import Path

import msgspec

from peers.errors import MasaError
from peers.network.certificates import NetworkId
from peers.network.dialing import Address, BadAddress
from peers.network.disk import write_whole
from peers.network.rotation import Rotation, read_rotation
from peers.network.tokens import SECRET_LENGTH, BadToken, Secret, parse_secrets
from peers.wire import NodeId

MOST_CONTACTS = 16


class _Kept(msgspec.Struct):
    """The file `peers.json`."""

    epoch: int = 0
    records: list[str] = []


class Store:
    """Files for the owner alone, each written whole or not at all. All methods block: not on the loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "network"
        self._pause = folder / "paused"
        self._aside = folder / "secret.left"

    def secrets(self) -> tuple[Secret, ...]:
        """The network's secret, behind it while rotating the old one; empty: in no network. Raises BadToken."""
        kept = self._secrets()
        return kept if self.rotation() else kept[:1]

    def rotation(self) -> Rotation | None:
        """From the second secret to the first: without it, as after a fault of the disk, the second does not count."""
        new, *old = self._secrets() or (None,)
        try:
            rotation = read_rotation(base64.b64decode(self._read("rotation")))
        except (ValueError, MasaError):
            return None
        return rotation if rotation.secret == new and [one.network() for one in old] == [rotation.net] else None

    def keep_secrets(self, secrets: tuple[Secret, ...], rotation: Rotation | None = None) -> None:
        """A rotation is kept before the secrets, so that an old one never counts without its limits."""
        if rotation:
            self._write("rotation", base64.b64encode(rotation.sealed).decode())
        self._write("secret", ",".join(secret.text for secret in secrets))
        if not rotation:
            (self._folder / "rotation").unlink(missing_ok=True)

    def contacts(self) -> list[tuple[NodeId | None, Address]]:
        """Whom the token named: to be called at a start, as bootnodes are."""
        found: list[tuple[NodeId | None, Address]] = []
        for line in self._read("contacts").splitlines():
            node, _, place = line.rpartition("@")
            with suppress(BadAddress):
                found.append((NodeId(node) if node else None, Address.parse(place)))
        return found[:MOST_CONTACTS]

    def keep_contacts(self, contacts: list[tuple[NodeId | None, Address]]) -> None:
        self._write("contacts", "\n".join(f"{node}@{place}" if node else str(place) for node, place in contacts))

    def peers(self) -> tuple[int, list[str]]:
        """(epoch, sealed records of members that answered); (0, []) when it was lost."""
        try:
            kept = msgspec.json.decode(self._read("peers.json"), type=_Kept)
        except (msgspec.DecodeError, RecursionError):
            return 0, []
        return kept.epoch, kept.records

    def keep_peers(self, epoch: int, records: list[str]) -> None:
        self._write("peers.json", msgspec.json.encode(_Kept(epoch, records)).decode())

    def deny_list(self, network: NetworkId) -> str:
        """The highest that was heard of in this network, as gossip carries it; empty: none."""
        return self._read(f"denied-{network}")

    def keep_deny_list(self, network: NetworkId, text: str) -> None:
        self._write(f"denied-{network}", text)

    def port(self) -> int:
        """The port that PEER_PORT=0 picked; 0: none yet."""
        text = self._read("port")
        return int(text) if text.isdigit() and len(text) < 6 and int(text) < 65536 else 0

    def keep_port(self, port: int) -> None:
        self._write("port", str(port))

    def paused_until(self) -> float:
        """In Unix seconds; infinity: for ever, as also where the file cannot be read. 0: no peer is kept waiting."""
        try:
            until = float(self._pause.read_text())
        except FileNotFoundError:
            return 0.0
        except (OSError, ValueError):
            return math.inf
        return math.inf if math.isnan(until) else until

    def keep_pause(self, until: float) -> None:
        """0: none. Other networks are served as little: it is kept when this one is forgotten."""
        if until:
            write_whole(self._pause, repr(until))
        else:
            self._pause.unlink(missing_ok=True)

    def set_aside(self, secret: Secret) -> Path:
        """Where it is kept, by whoever goes to another network, until the next time."""
        write_whole(self._aside, secret.text)
        return self._aside

    def forget(self) -> None:
        """Leave the network behind."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _secrets(self) -> tuple[Secret, ...]:
        path = self._folder / "secret"
        try:
            text = path.read_text(errors="replace")
        except FileNotFoundError:
            return ()
        if text and path.stat().st_mode & 0o077:
            raise BadToken(
                f"{path} can be read by others; run: chmod 600 {path}, and `masa-node rotate`: they may have it"
            )
        try:
            return parse_secrets(text) if text else ()
        except BadToken:
            raise BadToken(
                f"{path} holds no network's secret; write the first {SECRET_LENGTH} characters of a token there, "
                "or remove that file, and start the node anew"
            ) from None

    def _read(self, name: str) -> str:
        try:
            return (self._folder / name).read_text()
        except (FileNotFoundError, UnicodeDecodeError):
            return ""

    def _write(self, name: str, text: str) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self._folder / name, text)
