"""Files are written whole or not at all, for their owner alone, also by several threads at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from peers.network.disk import write_whole


def test_writers_at_once_each_write_a_whole(tmp_path: Path) -> None:
    """A node that stops while it writes begins the same file again, in another thread."""
    path = tmp_path / "file"
    texts = [str(number) * 10_000 for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda text: write_whole(path, text), texts * 5))
    assert path.read_text() in texts
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, "before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "after")
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
