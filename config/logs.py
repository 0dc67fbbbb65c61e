"""set_up(): the log. One line per fact, pretty or JSON; only allowed fields, never a secret, prompt or answer."""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TextIO

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

LIBRARIES = ("aiohttp.server", "aiohttp.client", "aiohttp.web", "aiohttp.internal", "aiohttp.websocket", "asyncio")
LONGEST = 300
DEEPEST = 10
_NOT_CONSTANT = re.compile(r"[%<({\[\"'`\r\n]")


def set_up(level: str, format: str | None, stream: TextIO | None = None) -> None:
    """Log to `stream`, by default standard error; `format` None: pretty on a terminal, else JSON. Later calls win."""
    out = sys.stderr if stream is None else stream
    pretty = format == "pretty" or (format is None and out.isatty())
    lines = Lines(out)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            crashes_located,
            allowed_only,
            _pretty(out) if pretty else as_json,
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


def crashes_located(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """An exception as its type and where it was raised: its text may hold what a caller sent."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event.setdefault("error", type(error).__name__)
        event["trace"] = trace(error)
    return event


def allowed_only(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drops what nobody allowed and what is not known; values that are not plain become their type."""
    kept = {key: plain(value) for key, value in event.items() if key in FIELDS and value is not None}
    if isinstance(address := kept.get("url"), str):
        kept["url"] = masked_url(address)
    return {"ts": event["ts"], "level": event["level"], "event": plain(event["event"]), **kept}


def plain(value: object) -> object:
    """What JSON and a terminal can show as it is; of anything else, bytes and exceptions too, only the type."""
    match value:
        case None | bool() | float():
            return value
        case int() if value.bit_length() < 64:
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
