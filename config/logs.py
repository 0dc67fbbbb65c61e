"""set_up(): the log. One line per fact, pretty or JSON; only allowed fields, never a secret, prompt or answer."""

import asyncio
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import BinaryIO, TextIO

import msgspec
import structlog
from aiohttp.http_exceptions import HttpProcessingError
from structlog.typing import EventDict, Processor, WrappedLogger

from config.kinds import masked_url

FIELDS = frozenset(
    {
        *("request_id", "route", "path", "method", "status", "code", "outcome", "reason", "client"),
        *("bytes_in", "bytes_out", "ms", "first_ms", "tokens_in", "tokens_out"),
        *("model", "stream", "upstream", "url", "peer", "node", "name", "version"),
        *("host", "port", "setting", "source", "signal", "seconds", "count", "until"),
        *("error", "trace", "logger"),
    }
)
"""What may stand beside `ts`, `level` and `event`. `path` is a route's pattern, `client` is cut to its network."""

LIBRARIES = ("aiohttp.server", "aiohttp.web", "aiohttp.internal", "aiohttp.websocket", "asyncio")
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being answered: every line has it until then."""
MOST_GATHERED = 64
"""Lines."""
LONGEST = 300
LARGEST = 2**63
"""Of numbers: no reader of JSON takes more."""
DEEPEST = 10
_NOT_CONSTANT = re.compile(r"[%<({\[\"'`\r\n]")


def set_up(level: str, format: str | None, stream: TextIO | None = None) -> None:
    """Log to `stream`, by default standard error; `format` None: pretty on a terminal, else JSON. Later calls win."""
    out = sys.stderr if stream is None else stream
    pretty = format == "pretty" or (format is None and out.isatty())
    buffer = None if pretty or out.isatty() else getattr(out, "buffer", None)
    lines = Lines(out) if buffer is None else Gathered(buffer)
    structlog.configure(
        processors=[
            Facts(),
            _pretty(out) if pretty else as_json if buffer is None else as_bytes,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: lines,
        # A cached logger would keep the stream and level of its first use; not caching costs 0.8 µs a line.
        cache_logger_on_first_use=False,
    )
    _take_standard_logging(level)


class Lines:
    """Where the lines go. When the stream is gone they are lost: a closed terminal must not fail requests."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self.stream.write(line + "\n")
            self.stream.flush()

    debug = info = warning = error = critical = msg


class Gathered:
    """As Lines, into a file or a pipe: one write for all lines of a turn of the loop, or for MOST_GATHERED of them."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self._lines: list[bytes] = []
        self._due: asyncio.AbstractEventLoop | None = None
        """The loop that will flush."""

    def msg(self, line: bytes) -> None:
        self._lines.append(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._flush()
            return
        if len(self._lines) >= MOST_GATHERED:
            self._flush()
        elif loop is not self._due:
            self._due = loop
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._due = None
        count = len(self._lines)  # another thread may add one meanwhile
        rest = memoryview(b"".join(self._lines[:count]))
        with suppress(OSError, ValueError):
            while rest:
                rest = rest[self.stream.write(rest) :]
            self.stream.flush()
        del self._lines[:count]

    debug = info = warning = error = critical = msg


class Facts:
    """What becomes of a line's fields, as one step since it is taken for every request: when it was, for which request,
    and of the rest only what is allowed, known and plain."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""
        """Day and time of this second."""

    def __call__(self, _logger: WrappedLogger, level: str, event: EventDict) -> EventDict:
        if "exc_info" in event:
            locate_crash(event)
        kept: EventDict = {"ts": self._stamp(), "level": level, "event": plain(event["event"])}
        if (request_id := REQUEST_ID.get()) is not None:
            kept["request_id"] = request_id
        for key, value in event.items():
            if value is not None and key in FIELDS:
                kind = type(value)
                if kind is str:
                    simple = len(value) <= LONGEST and value.isprintable()
                else:
                    simple = kind is float or kind is bool or (kind is int and -LARGEST < value < LARGEST)
                kept[key] = value if simple else plain(value)
        if isinstance(address := kept.get("url"), str):
            kept["url"] = masked_url(address)
        return kept

    def _stamp(self) -> str:
        """In UTC, to the microsecond."""
        second, rest = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{rest // 1000:06d}Z"


def locate_crash(event: EventDict) -> None:
    """An exception as its type and where it was raised: its text may hold what a caller sent."""
    error = event.pop("exc_info")
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event.setdefault("error", type(error).__name__)
        event["trace"] = trace(error)


def plain(value: object) -> object:
    """What JSON and a terminal can show as it is; of anything else, bytes and exceptions too, only the type."""
    match value:
        case None | bool() | float():
            return value
        case int() if -LARGEST < value < LARGEST:
            return value
        case str():
            cut = value[:LONGEST]
            return cut if cut.isprintable() else cut.encode("unicode_escape").decode()
        case list() | tuple():
            return [plain(part) for part in value[:DEEPEST]]
        case os.PathLike():
            return plain(str(value))
        case type():
            return value.__name__
        case _:
            return type(value).__name__


def as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return msgspec.json.encode(event).decode()


def as_bytes(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    return msgspec.json.encode(event) + b"\n"


def trace(error: BaseException) -> list[str]:
    """`ValueError: cli.py:12 main > link.py:7 post`, of the exception and of those behind it; sources are not read."""
    return [f"{type(one).__name__}: {_place(one)}" for one in _behind(error)]


def _behind(error: BaseException) -> Iterator[BaseException]:
    waiting, seen = [error], 0
    while waiting and seen < DEEPEST:
        one = waiting.pop(0)
        seen += 1
        yield one
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        cause = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
        waiting += [cause] if cause else []


def _place(error: BaseException) -> str:
    frames, step = [], error.__traceback__
    while step:
        code = step.tb_frame.f_code
        frames.append(f"{os.path.basename(code.co_filename)}:{step.tb_lineno} {code.co_name}")
        step = step.tb_next
    return " > ".join(frames[-DEEPEST:])


class Retold(logging.Handler):
    """Standard logging, told by structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        level = max(logging.DEBUG, min(logging.CRITICAL, record.levelno // 10 * 10))
        crash = record.__dict__.get("crash", {})
        structlog.get_logger().log(level, record.msg, logger=record.name, **crash)


def scrub(record: logging.LogRecord) -> bool:
    """A logging filter. aiohttp logs the bytes of malformed headers, asyncio the arguments of callbacks: of a record
    stays the text up to where it stops being constant, the exception's type and where it was raised.
    """
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        record.__dict__["crash"] = {"error": type(error).__name__}
        if isinstance(error, HttpProcessingError):
            record.levelno = min(record.levelno, logging.INFO)  # a caller's mistake
        else:
            record.__dict__["crash"]["trace"] = trace(error)
    text = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
    record.msg = _NOT_CONSTANT.split(text, maxsplit=1)[0].strip() or record.name
    record.args = record.exc_info = record.exc_text = record.stack_info = None
    return True


def _take_standard_logging(level: str) -> None:
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, Retold)]:
        root.removeHandler(handler)
    retold = Retold()
    retold.addFilter(scrub)
    root.addHandler(retold)
    root.setLevel(level.upper())
    for name in LIBRARIES:
        logging.getLogger(name).addFilter(scrub)  # so that no other handler sees more; twice adds once
    logging.getLogger("aiohttp.access").disabled = True


def _pretty(stream: TextIO) -> Processor:
    colors = stream.isatty() and sys.platform != "win32"
    return structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="ts", pad_event_to=24)
