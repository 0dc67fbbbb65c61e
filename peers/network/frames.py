"""Frames: what two nodes say to each other in gossip, and its limits. Pure.

An exchange is one frame there and one back. Whatever it holds, the answer is made by the same rules: the records that
the other lacks, the keys of those that I lack, and entries of the buckets in which we differ.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from peers.errors import BadRequest

LARGEST = 65536
MOST_RECORDS = 64
MOST_WANTED = 64
MOST_ENTRIES = 1024
MOST_BUCKETS = 8
BUCKETS = 256
KEY_BYTES = 8
"""A key is the first 8 bytes of a node's public key."""
LONGEST_DENY_LIST = 6144
"""Characters: 4 KiB and what base64 adds."""

_ENTRY = struct.Struct(">8sQ")
_SUMS = struct.Struct(f">{BUCKETS}Q")

Entry = tuple[bytes, int]
"""A key and a version."""


class Frame(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Every field may be missing. Bytes are base64 in the JSON."""

    clock: float = 0.0
    """The sender's own clock, uncorrected: Unix seconds."""
    digest: Annotated[bytes, msgspec.Meta(max_length=MOST_ENTRIES * _ENTRY.size)] = b""
    """Entries: 8 bytes of key, 8 of version (big-endian)."""
    all: bool = False
    """The digest names every record that the sender holds."""
    within: Annotated[list[Annotated[int, msgspec.Meta(ge=0, lt=BUCKETS)]], msgspec.Meta(max_length=MOST_BUCKETS)] = []
    """Buckets of which the digest names every record that the sender holds. A bucket is the first byte of a key."""
    buckets: Annotated[bytes, msgspec.Meta(max_length=_SUMS.size)] = b""
    """All 256 sums, 8 bytes each."""
    want: Annotated[bytes, msgspec.Meta(max_length=MOST_WANTED * KEY_BYTES)] = b""
    """Keys of records to be sent."""
    records: list[str] = []
    denials: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """Which deny-list the sender has: its number in 16 hexadecimal digits, then those of its first 8 bytes."""
    deny_list: Annotated[str, msgspec.Meta(max_length=LONGEST_DENY_LIST)] = ""

    @property
    def asks_or_tells(self) -> bool:
        """Worth a message of its own."""
        return bool(self.records or self.want or self.deny_list)


_DECODER = msgspec.json.Decoder(Frame)


def encode(frame: Frame) -> bytes:
    return msgspec.json.encode(frame)


def decode(body: bytes) -> Frame:
    """Raises BadRequest: 413 over a limit, 400 for anything else."""
    if len(body) > LARGEST:
        raise BadRequest("too_large", f"a gossip message is at most {LARGEST} bytes", status=413)
    try:
        frame = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("malformed", "not a gossip message") from None
    if len(frame.records) > MOST_RECORDS:
        raise BadRequest("too_large", f"a gossip message holds at most {MOST_RECORDS} records", status=413)
    if len(frame.digest) % _ENTRY.size or len(frame.want) % KEY_BYTES or len(frame.buckets) not in (0, _SUMS.size):
        raise BadRequest("malformed", "not a gossip message")
    return frame


def fill(frame: Frame, texts: Iterable[str]) -> Frame:
    """Add records while they fit, those that come first before the others."""
    room = LARGEST - len(encode(frame)) - len(',"records":[]')
    for text in texts:
        room -= len(text) + 3
        if room < 0 or len(frame.records) == MOST_RECORDS:
            break
        frame.records.append(text)
    return frame


def pack(entries: Iterable[Entry]) -> bytes:
    return b"".join(_ENTRY.pack(key, version) for key, version in entries)


def unpack(digest: bytes) -> Iterator[Entry]:
    return _ENTRY.iter_unpack(digest)


def pack_sums(sums: Iterable[int]) -> bytes:
    return _SUMS.pack(*sums)


def unpack_sums(buckets: bytes) -> tuple[int, ...]:
    return _SUMS.unpack(buckets)


def keys(want: bytes) -> Iterator[bytes]:
    return (want[at : at + KEY_BYTES] for at in range(0, len(want), KEY_BYTES))
