"""Nothing that a peer sends breaks a decoder: it is taken, or refused in the one way that is documented for it."""

import subprocess
import sys
import time
import tracemalloc
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from peers.errors import MasaError
from peers.network import certificates, frames, offers, records, tokens
from peers.network.certificates import NotStaked
from peers.network.records import Models, RecordError
from peers.network.signatures import Claim, Refused, parse
from peers.network.tokens import BadToken
from peers.wire import Model
from tests.hostile import TARGETS, Target
from tests.members import sealed
from tests.signing import PATH, headers
from tests.simnet import an_id
from tests.spoiling import SNIPPETS, spoiled

ROOT = Path(__file__).parent.parent
SECONDS = 20
"""Of coverage-guided fuzzing for each target."""
ROOM = 64 * 1024
"""Bytes that may be needed to refuse what is over its limit."""
each = pytest.mark.parametrize("target", [pytest.param(target, id=name) for name, target in TARGETS.items()])
many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@each
def test_what_is_valid_is_taken(target: Target) -> None:
    """Else spoiling it would show nothing."""
    assert target.run(target.valid)


@each
@many
@given(data=st.binary(max_size=300))
@example(data=b"")
@example(data=b"[" * 60_000)
@example(data=b'{"a":' * 13_000)
@example(data=b'"\\ud800"')
@example(data=b'{"a":NaN}')
@example(data=b'{"clock":' + b"9" * 5000 + b"}")
def test_any_bytes(target: Target, data: bytes) -> None:
    target.run(data)


@each
@many
@given(seed=st.integers(0, 2**32))
def test_spoiled(target: Target, seed: int) -> None:
    target.run(spoiled(target.valid, Random(seed)))


@each
def test_a_strange_value_for_each_byte(target: Target) -> None:
    """The places where a parser changes its mind are few: all of them."""
    step = max(1, len(target.valid) // 24)
    for at in range(0, len(target.valid), step):
        for snippet in SNIPPETS:
            target.run(target.valid[:at] + snippet + target.valid[at + 1 :])


def with_header(name: str, value: str) -> Claim:
    given = headers()
    given[name] = value
    return parse("POST", PATH, given)


LARGE = 8 * 1024 * 1024
OVER = {
    "a record": (records.read, str, RecordError),
    "a frame": (frames.decode, bytes, MasaError),
    "a model list": (lambda data: offers.read(data, Models(1, "")), bytes, offers.BadList),
    "a certificate": (certificates.read_certificate, bytes, NotStaked),
    "a deny-list": (lambda data: certificates.open_deny_list(data, {}), bytes, NotStaked),
    "a token": (tokens.parse_invite, str, BadToken),
    "a path": (lambda text: parse("POST", text, headers()), str, Refused),
    **{f"the header {name}": (partial(with_header, name), str, Refused) for name in headers()},
}


@pytest.mark.parametrize(("decode", "kind", "refusal"), OVER.values(), ids=OVER)
@pytest.mark.parametrize("filling", ["A", "[", '{"a":', "9", ".", " "])
def test_nothing_over_its_limit_is_worked_on(decode: Any, kind: type, refusal: type[Exception], filling: str) -> None:
    data: Any = filling * (LARGE // len(filling))
    data = data if kind is str else data.encode()
    tracemalloc.start()
    try:
        with pytest.raises(refusal):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < ROOM
    finally:
        tracemalloc.stop()


MODELS = [
    Model(f"{number:0120}", frozenset({"ollama"}), "a" * 128, 2**50, ("x" * 32,) * 5, size=2**50)
    for number in range(512)
]
WORST = {
    "a record's text": b"A" * 1366 + b"." + b"A" * 86,
    "a record's payload": b"{" + b",".join(b'"%d":[]' % number for number in range(110)) + b"}",
    "a gossip message": frames.encode(frames.Frame(records=[sealed(an_id(Random(at))) for at in range(64)])),
    "a gossip answer": frames.encode(frames.Frame(digest=bytes(range(256)) * 64, buckets=bytes(2048), want=bytes(512))),
    "a model list": offers.write(MODELS)[1],
    "an identify's answer": b'{"record":"' + b"A" * 250_000 + b'"}',
    "a signed request": TARGETS["a signed request"].valid + bytes(65_536),
    "a date": b"1" * 8190,
}


@pytest.mark.parametrize("name", WORST)
def test_the_most_that_is_read_takes_little_time(name: str) -> None:
    """CPU, the best of three."""
    target, spent = TARGETS[name], []
    for _ in range(3):
        begun = time.process_time()
        target.run(WORST[name])
        spent.append(time.process_time() - begun)
    assert min(spent) < 0.05


@pytest.mark.reliability
@pytest.mark.parametrize("name", TARGETS)
def test_guided_by_coverage(name: str, tmp_path: Path) -> None:
    """libFuzzer looks for inputs that reach new code; it stops at the first that breaks something."""
    pytest.importorskip("atheris")
    command = [sys.executable, "-m", "tests.coverage_guided", name, str(SECONDS), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10 * SECONDS, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "DONE" in done.stderr
