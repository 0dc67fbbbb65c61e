"""Who a node is: the one spelling of an id, the keys nobody may use, and a key that is on disk before it is used."""

import base64
import os
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from peers.network.identity import BadKey, id_text, load_identity, node_id, parse_key, raw_key, strong

SMALL_ORDER = [
    bytes.fromhex(head[:-2] + f"{int(head[-2:], 16) ^ sign:02x}")
    for sign in (0, 0x80)
    for head in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
]
NOT_CANONICAL = [(2**255 - 19 + more + sign).to_bytes(32, "little") for more in range(19) for sign in (0, 2**255)]
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ID = node_id(KEY)


def test_an_id_and_a_key_are_each_others():
    assert len(ID) == 52
    assert raw_key(ID) == KEY.public_key().public_bytes_raw()
    assert parse_key(ID) == KEY.public_key()
    assert id_text(raw_key(ID)) == ID


@pytest.mark.parametrize("raw", SMALL_ORDER, ids=bytes.hex)
def test_weak_keys_are_refused_that_cryptography_takes(raw):
    Ed25519PublicKey.from_public_bytes(raw)
    for attempt in (lambda: strong(raw), lambda: raw_key(id_text(raw)), lambda: parse_key(id_text(raw))):
        with pytest.raises(BadKey):
            attempt()


def test_what_a_weak_key_is_good_for():
    """Why: the same 64 bytes, made without any secret, are a valid signature of every message."""
    identity, nothing = SMALL_ORDER[1], bytes(32)
    for message in (b"one", b"another"):
        Ed25519PublicKey.from_public_bytes(identity).verify(identity + nothing, message)


@pytest.mark.parametrize("raw", NOT_CANONICAL, ids=bytes.hex)
def test_a_key_has_one_spelling(raw):
    with pytest.raises(BadKey):
        parse_key(id_text(raw))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ID[:-1],
        ID + "a",
        ID + "=",
        ID + "====",
        ID + "\n",
        " " + ID,
        ID.upper(),
        ID[:10] + "1" + ID[11:],
        ID[:10] + "8" + ID[11:],
        ID[:10] + "а" + ID[11:],
        ID[:10] + "ſ" + ID[11:],
        ID[:-1] + chr(ord(ID[-1]) + 1),
        "\udcff" * 52,
    ],
    ids=ascii,
)
def test_an_id_has_one_spelling(text):
    with pytest.raises(BadKey):
        raw_key(text)


@given(st.one_of(st.text(), st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=52, max_size=52)))
def test_whatever_is_read_as_an_id_is_written_the_same(text):
    try:
        raw = raw_key(text)
    except BadKey:
        return
    assert id_text(raw) == text


@given(st.binary(max_size=40))
def test_bytes_are_a_key_or_refused(raw):
    try:
        assert strong(raw) is raw
    except BadKey:
        return
    assert base64.b32decode(id_text(raw).upper() + "====") == raw


def test_the_folder_is_on_disk_before_its_key_is_used(tmp_path, monkeypatch):
    """E3: without it a power cut may take the name of the key with it."""
    written = []
    monkeypatch.setattr(os, "fsync", lambda handle: written.append(stat.S_ISDIR(os.fstat(handle).st_mode)))
    load_identity(tmp_path / "masa")
    assert written == [False, True]
    load_identity(tmp_path / "masa")
    assert written == [False, True]
