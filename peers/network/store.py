"""Store: what a node keeps of its network in MASA_DIR/network: the secret, where members were, its epoch, its port."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import msgspec

from peers.network.dialing import Address, BadAddress
from peers.network.tokens import Secret, parse_secrets
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

    def secrets(self) -> tuple[Secret, ...]:
        """The network's secret, behind it while rotating the old one; empty: in no network. Raises BadToken."""
        text = self._read("secret")
        return parse_secrets(text) if text else ()

    def keep_secrets(self, secrets: tuple[Secret, ...]) -> None:
        self._write("secret", ",".join(secret.text for secret in secrets))

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

    def port(self) -> int:
        """The port that PEER_PORT=0 picked; 0: none yet."""
        text = self._read("port")
        return int(text) if text.isdigit() and len(text) < 6 and int(text) < 65536 else 0

    def keep_port(self, port: int) -> None:
        self._write("port", str(port))

    def forget(self) -> None:
        """Leave the network behind."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self, name: str) -> str:
        try:
            return (self._folder / name).read_text()
        except (FileNotFoundError, UnicodeDecodeError):
            return ""

    def _write(self, name: str, text: str) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._folder / f"{name}.{os.getpid()}.new"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._folder / name)
