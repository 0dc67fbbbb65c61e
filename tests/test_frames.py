"""Frames: read or refused in words, and never over their limits."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from peers.network.frames import LARGEST, MOST_RECORDS, Frame, decode, encode, fill
from tests.members import refusal

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"[" * LARGEST)
@example(b'{"x":' * 13000)
@example(b'{"digest":"AAAA"}')
@example(b'{"buckets":"AAAAAAAAAAA="}')
@example(b'{"want":"AAAA"}')
@example(b'{"clock":1e400}')
@example(b'{"within":[256]}')
@example(b'{"records":[null]}')
@example(b'{"denials":1}')
def test_a_frame_is_read_or_refused_in_words(body: bytes) -> None:
    assert refusal(lambda: decode(body)) in (None, "400 malformed", "413 too_large")


def test_a_frame_has_limits() -> None:
    assert len(decode(encode(Frame(records=["x"] * MOST_RECORDS))).records) == MOST_RECORDS
    assert refusal(lambda: decode(encode(Frame(records=["x"] * (MOST_RECORDS + 1))))) == "413 too_large"
    assert refusal(lambda: decode(b" " * (LARGEST + 1))) == "413 too_large"


@pytest.mark.parametrize("length", [1, 700, 1453])
def test_a_frame_is_filled_up_to_its_limits(length: int) -> None:
    frame = fill(Frame(clock=1e9, denials="f" * 32), ["x" * length] * 200)
    assert len(frame.records) == min(MOST_RECORDS, 65_000 // length)
    assert len(encode(frame)) <= LARGEST
    assert decode(encode(frame)) == frame
