"""The units of an answer as its bytes arrive: lines of JSON, server-sent events; and its end mark. Pure."""

import re
from collections.abc import Iterator
from typing import NamedTuple

BOM = b"\xef\xbb\xbf"
LONGEST = 1024 * 1024
"""Bytes of a line, and of the data of an event."""
MOST = 4 * 1024 * 1024
"""Bytes that are cut into units at all, a line taken for LINE more: those without meaning must not cost time either."""
LINE = 512
EDGE = 256
"""Bytes kept of either end of the last line: what marks an end stands first in it, or last, by server."""

_DONE = re.compile(rb'"done"\s*:\s*(true|false)')
# Within a JSON string the quotes are escaped, so that what a model writes cannot match.
_LAST_TYPE = re.compile(rb'"type"\s*:\s*"(?:message_stop|response\.(?:completed|failed|incomplete))"')


class TooLong(Exception):
    """A unit over LONGEST bytes, or a stream that has not been judged within MOST of them."""


class Unit(NamedTuple):
    """A line of JSON, or an event; `name` is what its `event:` says."""

    data: bytes
    name: bytes = b""


class Lines:
    """Lines of JSON. A line ends with LF, CR or CR LF, wherever chunks cut it; a byte-order mark may come first."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._after_cr = False
        self._taken = 0
        """Of MOST, by the lines so far."""

    def feed(self, chunk: bytes) -> Iterator[Unit]:
        """The units that `chunk` completes, blank ones too. Raises TooLong."""
        return map(Unit, self.lines(chunk))

    def rest(self) -> Iterator[Unit]:
        """What the end of the answer completes: the last line may have none of its own."""
        return self.feed(b"\n")

    def lines(self, chunk: bytes) -> Iterator[bytes]:
        """Raises TooLong."""
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        for piece in chunk.splitlines(keepends=True):
            text = piece.rstrip(b"\r\n")
            self._line += text
            whole = len(text) < len(piece)
            if len(self._line) > LONGEST or self._taken + len(self._line) + whole * LINE > MOST:
                raise TooLong
            if whole:
                yield self._take()
        self._after_cr = chunk.endswith(b"\r") if chunk else self._after_cr

    def _take(self) -> bytes:
        line = bytes(self._line)
        self._line.clear()
        first, self._taken = not self._taken, self._taken + len(line) + LINE
        return line.removeprefix(BOM) if first else line


class Events:
    """Server-sent events, read as the WHATWG's HTML standard says: an event without its empty line is none."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Unit]:
        """The events with data that `chunk` completes. Raises TooLong."""
        for line in self._lines.lines(chunk):
            if line:
                self._field(line)
                continue
            if self._data:
                yield Unit(b"\n".join(self._data), self._name)
            self._name, self._data, self._size = b"", [], 0

    def rest(self) -> Iterator[Unit]:
        return iter(())

    def _field(self, line: bytes) -> None:
        """A comment is a field without a name."""
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._name = value
        elif name == b"data":
            self._data.append(value)
            self._size += len(value) + 1
            if self._size > LONGEST:
                raise TooLong


class Ending:
    """The last line of a stream, by its two ends, and whether it marks the stream's end. Costs little per chunk."""

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""
        self._over = True
        """The last line has had its end: what comes is another one."""

    def feed(self, chunk: bytes) -> None:
        body = chunk.rstrip(b"\r\n")
        if not body:
            self._over = self._over or bool(chunk)
            return
        start = max(body.rfind(b"\n"), body.rfind(b"\r")) + 1
        if start or self._over:
            self._head = self._tail = b""
        self._head += body[start : start + EDGE - len(self._head)]
        self._tail = (self._tail + body[max(start, len(body) - EDGE) :])[-EDGE:]
        self._over = len(body) < len(chunk)

    def marked(self) -> bool:
        """Whether it does, and is not cut short itself: Ollama's `done`, `[DONE]`, or a typed event."""
        event = self._head.startswith(b"data:")
        head = self._head.removeprefix(b"data:").lstrip()
        if head.startswith(b"[DONE]"):
            return True
        if not self._tail.rstrip().endswith(b"}"):
            return False
        if event:
            return self._over and any(_LAST_TYPE.search(end) for end in (head, self._tail))
        said = _DONE.findall(head) + _DONE.findall(self._tail)
        return bool(said) and said[-1] == b"true"
