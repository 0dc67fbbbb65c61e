"""The message by which a secret is rotated: what it lets in, how strictly it is read, what is kept of it on disk."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peers.errors import MasaError
from peers.network.certificates import DAY
from peers.network.rotation import (
    LARGEST,
    MOST_MEMBERS,
    Rotation,
    UnknownName,
    named,
    prove,
    read_rotation,
    rotate,
)
from peers.network.seal import DENY, ROTATION, payload_of, seal
from peers.network.stake import SharedSecret
from peers.network.store import Store
from peers.network.tokens import Secret
from peers.wire import NodeId
from tests.members import refusal
from tests.simnet import an_id
from tests.test_certificates import NODE, NOW, OTHER, reason

OLD, NEW, NEXT = Secret(b"o" * 32), Secret(b"n" * 32), Secret(b"x" * 32)
EVERYBODY, ONLY, NOBODY = (rotate(OLD, NEW, NOW, members) for members in (None, (NODE,), ()))


def by_old(node: NodeId) -> bytes:
    return SharedSecret([OLD], node).proof(OLD.network(), NOW)


def after(rotation: Rotation) -> SharedSecret:
    return SharedSecret(rotation.leaves(OLD), OTHER, rotation)


def sealed(**changes: Any) -> bytes:
    told = json.loads(payload_of(ONLY.sealed)) | changes
    payload = json.dumps({name: value for name, value in told.items() if value != "absent"}).encode()
    return seal(ROTATION, payload, OLD.network_key())


@pytest.mark.parametrize("rotation", [EVERYBODY, ONLY, NOBODY])
def test_it_is_read_as_it_was_written(rotation: Rotation) -> None:
    assert read_rotation(rotation.sealed) == rotation
    prove(rotation, OLD.network_key().public_key())
    assert NEW.text not in repr(rotation)


def test_the_largest_fits() -> None:
    rng = Random(1)
    rotation = rotate(OLD, NEW, NOW, [an_id(rng) for _ in range(MOST_MEMBERS + 3)])
    assert rotation.members is not None
    assert len(rotation.members) == MOST_MEMBERS
    assert len(rotation.sealed) <= LARGEST
    assert read_rotation(rotation.sealed) == rotation


def test_only_the_old_networks_key_seals_it() -> None:
    for key, prefix in ((NEW.network_key(), ROTATION), (OLD.network_key(), DENY)):
        other = read_rotation(seal(prefix, payload_of(ONLY.sealed), key))
        assert refusal(lambda other=other: prove(other, OLD.network_key().public_key())) == "403 bad_signature"


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"v": "absent"},
        {"net": NEW.network()},
        {"net": "a" * 51},
        {"secret": OLD.text[:-1] + "A"},
        {"secret": " " + NEW.text},
        {"secret": NEW.text + "," + OLD.text},
        {"at": -1},
        {"at": 2**60},
        {"at": 1.5},
        {"members": "absent"},
        {"members": base64.b64encode(b"m" * 15).decode()},
        {"members": base64.b64encode(b"m" * 32).decode()},
        {"members": base64.b64encode(b"n" * 16 + b"m" * 16).decode()},
        {"members": base64.b64encode(bytes(16 * MOST_MEMBERS + 16)).decode()},
        {"more": 1},
    ],
)
def test_anything_else_is_malformed(changes: dict[str, Any]) -> None:
    assert read_rotation(sealed()) == Rotation(ONLY.net, NEW, ONLY.at, ONLY.members, sealed())
    assert refusal(lambda: read_rotation(sealed(**changes))) == "400 malformed"


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda data: ONLY.sealed[:64] + data))
@settings(deadline=None)
def test_bytes_are_read_or_refused_and_nothing_else(data: bytes) -> None:
    assert refusal(lambda: read_rotation(data)) == "400 malformed"


@given(st.integers(0, len(ONLY.sealed) - 1), st.integers(1, 255))
@settings(deadline=None)
def test_no_bit_of_it_can_be_changed(at: int, flip: int) -> None:
    changed = ONLY.sealed[:at] + bytes([ONLY.sealed[at] ^ flip]) + ONLY.sealed[at + 1 :]
    with pytest.raises(MasaError):
        prove(read_rotation(changed), OLD.network_key().public_key())


def test_for_a_day_the_old_secret_counts_for_whom_it_says() -> None:
    assert after(EVERYBODY).proven(NODE, by_old(NODE), NOW + DAY - 1).network == OLD.network()
    assert reason(after(EVERYBODY).proven, NODE, by_old(NODE), NOW + DAY + 2) == "rotated"
    assert after(ONLY).proven(NODE, by_old(NODE), NOW).network == OLD.network()
    assert reason(after(ONLY).proven, OTHER, by_old(OTHER), NOW) == "rotated"
    assert after(NOBODY).networks == (NEW.network(),)
    assert reason(after(NOBODY).proven, NODE, by_old(NODE), NOW) == "wrong_network"


def test_the_new_secret_counts_for_ever_and_for_all() -> None:
    proof = SharedSecret([NEW], NODE).proof(NEW.network(), NOW + 2 * DAY)
    for rotation in (EVERYBODY, rotate(OLD, NEW, NOW, (OTHER,)), NOBODY):
        assert after(rotation).proven(NODE, proof, NOW + 2 * DAY).network == NEW.network()


def test_it_begins_neither_late_nor_early() -> None:
    EVERYBODY.check_time(NOW + DAY - 1)
    EVERYBODY.check_time(NOW - 599)
    assert refusal(lambda: EVERYBODY.check_time(NOW + DAY + 2)) == "403 stale"
    assert refusal(lambda: EVERYBODY.check_time(NOW - 602)) == "403 early"


# Names


KNOWN = {NodeId("abcdef" + "q" * 46): "attic-abcdef", NodeId("abcdee" + "q" * 46): "attic-abcdee", NODE: "lap-top-xyz"}
FIRST, SECOND, _ = KNOWN


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("attic-abcdef", FIRST),
        ("abcdee", SECOND),
        (SECOND, SECOND),
        ("lap-top", NODE),
        (OTHER, OTHER),
    ],
)
def test_a_member_is_named_by_id_or_name(name: str, meant: NodeId) -> None:
    assert named([name], an_id(Random(1)), "attic-me", KNOWN) == {meant}


@pytest.mark.parametrize("name", ["attic", "abcde", "nobody", "", NODE])
def test_a_name_that_is_unclear_is_told_with_the_candidates(name: str) -> None:
    with pytest.raises(UnknownName) as told:
        named([FIRST, name], NODE, "lap-top-xyz", KNOWN)
    assert name == NODE or (FIRST in str(told.value) and SECOND in str(told.value))


@pytest.mark.parametrize("name", ["n2", "n2-tuvwxy", "tuvwxyz", "tuvwxyz" + "q" * 45])
def test_this_node_is_told_apart_from_nobody(name: str) -> None:
    me = NodeId("tuvwxyz" + "q" * 45)
    with pytest.raises(UnknownName, match=f"^{name} is this node itself; run this on a node that stays$"):
        named([name], me, "n2-tuvwxy", KNOWN)


# On disk


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    store.keep_secrets((OLD,))
    yield store
    found = [path.stat().st_mode & 0o777 for path in (tmp_path / "network").iterdir()]
    assert set(found) == {0o600}


def test_a_rotation_outlasts_a_restart(store: Store) -> None:
    assert (store.secrets(), store.rotation()) == ((OLD,), None)
    store.keep_secrets((NEW, OLD), ONLY)
    assert (store.secrets(), store.rotation()) == ((NEW, OLD), ONLY)
    store.keep_secrets((NEW,))
    assert (store.secrets(), store.rotation()) == ((NEW,), None)


def test_an_old_secret_never_counts_without_its_limits(store: Store, tmp_path: Path) -> None:
    """Whatever the disk lost: at worst those who are away must join anew."""
    store.keep_secrets((NEW, OLD), ONLY)
    kept = tmp_path / "network/rotation"
    for text in ("", "?", base64.b64encode(rotate(NEW, NEXT, NOW, None).sealed).decode()):
        kept.write_text(text)
        assert (store.secrets(), store.rotation()) == ((NEW,), None)
    kept.unlink()
    assert (store.secrets(), store.rotation()) == ((NEW,), None)
    kept.touch(0o600)


def test_what_is_not_finished_is_not_begun(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power fails between the two files."""
    write = store._write

    def fail(name: str, text: str) -> None:
        if name == "secret":
            raise OSError
        write(name, text)

    monkeypatch.setattr(store, "_write", fail)
    with pytest.raises(OSError):
        store.keep_secrets((NEW, OLD), EVERYBODY)
    assert (store.secrets(), store.rotation()) == ((OLD,), None)
