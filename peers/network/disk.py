"""Files for their owner alone, each written whole or not at all, and on disk before it counts. All of it blocks."""

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """In a folder that is there. Raises OSError, and what stood there is left as it was."""
    # A name of its own: a thread whose task was cancelled goes on writing, while the next one begins.
    handle, draft = tempfile.mkstemp(".new", f"{path.name}.", path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
    sync_folder(path.parent)


def not_written(error: OSError) -> str:
    """For people."""
    return f"MASA_DIR cannot be written ({error.strerror})"


def sync_folder(folder: Path) -> None:
    """The names in a folder are on disk only when the folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
