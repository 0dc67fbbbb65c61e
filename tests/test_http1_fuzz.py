"""Nothing that an upstream sends breaks our HTTP client, and how it was cut on its way makes no difference."""

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.http1 import ANSWER, read_alike
from tests.spoiling import spoiled
from tests.test_http1_answers import ANSWERS, LATE, OK, REFUSED

ROOT = Path(__file__).parent.parent
SECONDS = 20
CUTS = st.lists(st.integers(0, 2**20), min_size=1, max_size=8)
KNOWN = [*(data for data, _ in ANSWERS.values()), *REFUSED.values(), *(OK + data for data in LATE.values()), ANSWER]
many = settings(max_examples=100, deadline=None)


def test_what_is_spoiled_is_whole_at_first() -> None:
    assert read_alike(ANSWER)


@many
@given(data=st.binary(max_size=300), cuts=CUTS)
@example(data=b"HTTP/1.1 200", cuts=[3])
def test_any_bytes(data: bytes, cuts: list[int]) -> None:
    assert not read_alike(data, cuts)


@many
@given(data=st.binary(max_size=300), cuts=CUTS)
def test_any_bytes_behind_a_head(data: bytes, cuts: list[int]) -> None:
    read_alike(OK + b"Transfer-Encoding: chunked\r\n\r\n" + data, cuts)
    assert read_alike(OK + b"\r\n" + data, cuts)


@many
@given(known=st.sampled_from(KNOWN), seed=st.integers(0, 2**32), cuts=CUTS)
def test_spoiled(known: bytes, seed: int, cuts: list[int]) -> None:
    read_alike(spoiled(known[:5000], Random(seed)), cuts)


@pytest.mark.reliability
def test_guided_by_coverage(tmp_path: Path) -> None:
    """libFuzzer looks for answers that reach new code; it stops at the first that breaks something."""
    pytest.importorskip("atheris")
    command = [sys.executable, "-m", "tests.coverage_guided", "an HTTP answer", str(SECONDS), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10 * SECONDS, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "DONE" in done.stderr
