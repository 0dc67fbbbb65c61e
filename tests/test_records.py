"""Records: sealed by their owner, read strictly, and not one flipped bit accepted (docs/promises.md A12)."""

import json
from base64 import urlsafe_b64encode
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from peers.network.identity import BadKey, node_id, parse_key
from peers.network.records import PREFIX, Models, Record, RecordError, read, seal, unseal
from peers.wire import NodeId

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NODE = node_id(KEY)
NOW = 1_800_000_000


def verify(node: NodeId, data: bytes, signature: bytes) -> bool:
    try:
        parse_key(node).verify(signature, data)
    except (InvalidSignature, BadKey):
        return False
    return True


def a_record(**changes: Any) -> Record:
    """As an ordinary node issues it."""
    usual: dict[str, Any] = {
        "net": NODE,
        "id": NODE,
        "boot": "0123456789abcdef",
        "epoch": NOW * 1000,
        "seq": 7,
        "issued": NOW,
        "ttl": 60,
        "addrs": ("192.168.1.20:4001", "[2001:db8::20]:4001"),
        "models": Models(12, "00112233445566ff"),
        "name": "workshop",
    }
    return Record(**usual | changes)


def sealed_as(payload: bytes) -> str:
    """Genuine, whatever the payload is."""
    parts = (payload, KEY.sign(PREFIX + payload))
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def payload(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(msgspec.json.encode(a_record()))
    return plain | changes


def test_what_was_sealed_is_read_back() -> None:
    record = a_record()
    text = seal(record, KEY.sign)
    assert unseal(text, verify) == record
    assert text.isascii()
    assert len(text) < 700


def test_no_flipped_bit_is_accepted() -> None:
    sealed = seal(a_record(), KEY.sign).encode()
    accepted = []
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            unseal(changed.decode("latin-1"), verify)
        except RecordError:
            continue
        accepted.append(bit)
    assert len(sealed) > 500
    assert accepted == []


def test_a_signature_is_for_records_alone() -> None:
    data = msgspec.json.encode(a_record())
    bare = ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in (data, KEY.sign(data)))
    with pytest.raises(RecordError, match="bad_signature"):
        unseal(bare, verify)


def test_another_key_does_not_sign_for_it() -> None:
    with pytest.raises(RecordError, match="bad_signature"):
        unseal(seal(a_record(), Ed25519PrivateKey.generate().sign), verify)


def test_unknown_keys_are_allowed_and_stay_in_what_is_passed_on() -> None:
    text = sealed_as(json.dumps(payload(later={"deep": [1, 2]}), separators=(",", ":")).encode())
    assert unseal(text, verify) == a_record()
    assert b"later" in read(text).payload


@pytest.mark.parametrize(
    "changes",
    [
        {"id": NODE.upper()},
        {"id": NODE[:-1]},
        {"id": NODE[:-1] + "b"},
        {"id": NODE + "\n"},
        {"net": "masa"},
        {"boot": "0123456789ABCDEF"},
        {"boot": "0123456789abcdef\n"},
        {"epoch": -1},
        {"epoch": 2**44},
        {"epoch": True},
        {"epoch": "1"},
        {"seq": 2**20},
        {"seq": 1.5},
        {"seq": None},
        {"issued": 2**53 + 1},
        {"issued": 10**30},
        {"ttl": -1},
        {"ttl": float("nan")},
        {"state": "dead"},
        {"state": "UP"},
        {"addrs": "host:1"},
        {"addrs": ["a:1"] * 5},
        {"addrs": ["x" * 262]},
        {"addrs": [1]},
        {"models": {"count": 513}},
        {"models": {"count": 1, "hash": "00112233445566f"}},
        {"v": [2, 1]},
        {"v": [1]},
        {"name": "x" * 65},
        {"name": "two\nlines"},
        {"name": "\ud800"},
        {"proof": "x" * 685},
        {"later": 2**53 + 1},
        {"later": [[[[[[[[]]]]]]]]},
        {"later": float("inf")},
        {"later": {"x": "\udfff"}},
        {"later": "x" * 800},
    ],
    ids=str,
)
def test_what_is_no_record_is_refused(changes: dict[str, Any]) -> None:
    text = sealed_as(json.dumps(payload(**changes), separators=(",", ":")).encode())
    with pytest.raises(RecordError, match="malformed"):
        unseal(text, verify)


PLAIN = json.dumps(payload(), separators=(",", ":"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        PLAIN.encode("utf-16"),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.encode() + b"x",
        PLAIN[:-1].encode() + b',"seq":8}',
        PLAIN[:-1].encode() + b',"later":{"a":1,"a":1}}',
        PLAIN[:-1].encode() + b',"later":1e999}',
        PLAIN[:-1].encode() + b',"later":NaN}',
        PLAIN[:-1].encode() + b',"later":"\xed\xa0\x80"}',
        PLAIN[:-1].encode() + b',"later":' + b"9" * 600 + b"}",
        b"[" * 1024,
        b'{"a":' * 200,
    ],
    ids=lambda data: repr(data[-24:]),
)
def test_json_that_readers_could_take_differently_is_refused(data: bytes) -> None:
    with pytest.raises(RecordError, match="malformed"):
        unseal(sealed_as(data), verify)


def test_eight_levels_are_allowed() -> None:
    deep = json.dumps(payload(later=[[[[[[[1]]]]]]]), separators=(",", ":")).encode()
    assert unseal(sealed_as(deep), verify) == a_record()


def test_names_in_any_script_are_allowed() -> None:
    escaped = json.dumps(payload(name="мастерская 🛠"), separators=(",", ":")).encode()
    assert unseal(sealed_as(escaped), verify).name == "мастерская 🛠"
    assert unseal(seal(a_record(name="мастерская 🛠"), KEY.sign), verify).name == "мастерская 🛠"


@pytest.mark.parametrize(
    ("issued", "ttl", "verdict"),
    [
        (NOW, 60, None),
        (NOW - 180, 60, None),
        (NOW - 181, 60, "stale"),
        (NOW - 151, 5, "stale"),
        (NOW - 150, 5, None),
        (NOW - 1920, 10**9, None),
        (NOW - 1921, 10**9, "stale"),
        (NOW + 600, 60, None),
        (NOW + 601, 60, "early"),
    ],
)
def test_freshness(issued: int, ttl: int, verdict: str | None) -> None:
    assert a_record(issued=issued, ttl=ttl).untimely(float(NOW)) == verdict


def test_versions_are_ordered_as_epoch_and_seq_are() -> None:
    pairs = [(0, 0), (0, 2**20 - 1), (1, 0), (NOW * 1000, 5), (NOW * 1000, 6), (2**44 - 1, 2**20 - 1)]
    versions = [a_record(epoch=epoch, seq=seq).version for epoch, seq in pairs]
    assert versions == sorted(set(versions))
    assert versions[-1] == 2**64 - 1


@pytest.mark.parametrize(("low", "high", "spoken"), [(1, 1, True), (0, 3, True), (2, 3, False), (0, 0, False)])
def test_the_range_of_protocol_versions_must_meet_ours(low: int, high: int, spoken: bool) -> None:
    assert a_record(v=(low, high)).spoken is spoken


@given(st.text(st.characters(max_codepoint=0x2FF), max_size=200) | st.binary().map(sealed_as))
@example(".")
@example("é.é")
@example("=" * 100 + "." + "A" * 86)
def test_nothing_but_record_errors_come_of_garbage(text: str) -> None:
    with pytest.raises(RecordError):
        unseal(text, verify)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*payload(), "later"]), JSON, min_size=1, max_size=3))
def test_a_record_with_anything_in_any_field_is_read_or_refused(changes: dict[str, Any]) -> None:
    try:
        record = unseal(sealed_as(json.dumps(payload(**changes)).encode()), lambda *_: True)
    except RecordError:
        return
    assert record.version >= 0
    assert record.untimely(float(NOW)) in (None, "stale", "early")
    assert len(seal(record, KEY.sign)) > 300
