"""The log: only allowed fields, JSON that parses, and no secret by way of aiohttp, asyncio or an exception."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from pydantic import SecretStr

from config.logs import FIELDS, REQUEST_ID, Retold, set_up

MARK = "canary-7f3a"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Logging is the process's: what a test sets up is taken down."""
    root = logging.getLogger()
    level = root.level
    yield
    structlog.reset_defaults()
    root.setLevel(level)
    for handler in [one for one in root.handlers if isinstance(one, Retold)]:
        root.removeHandler(handler)


def logged(level: str = "debug") -> io.StringIO:
    out = io.StringIO()
    set_up(level, "json", out)
    return out


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_and_event_first() -> None:
    out = logged()
    structlog.get_logger().info("race_won", ms=1.5, status=200, stream=True, code=None)
    (line,) = lines(out)
    assert list(line) == ["ts", "level", "event", "ms", "status", "stream"]
    assert line.pop("ts").endswith("Z")
    assert line == {"level": "info", "event": "race_won", "ms": 1.5, "status": 200, "stream": True}


def test_fields_that_nobody_allowed_are_dropped() -> None:
    out = logged()
    log = structlog.get_logger().bind(prompt=MARK)
    log.info("asked", body=MARK, headers={"x": MARK}, query=MARK, model="m", stack_info=MARK)
    assert MARK not in out.getvalue()
    assert {key for line in lines(out) for key in line} == {"ts", "level", "event", "model"}


def test_a_line_says_for_which_request_it_is() -> None:
    out = logged()
    token = REQUEST_ID.set("r1")
    structlog.get_logger().info("asked")
    REQUEST_ID.reset(token)
    structlog.get_logger().info("idle")
    assert [line.get("request_id") for line in lines(out)] == ["r1", None]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (SecretStr(MARK), "SecretStr"),
        (MARK.encode(), "bytes"),
        ({"a": MARK}, "dict"),
        (ValueError(MARK), "ValueError"),
        (ValueError, "ValueError"),
        ((1, ValueError(MARK)), [1, "ValueError"]),
        (Path("a") / "b", str(Path("a") / "b")),
        (2**70, "int"),
        (float("nan"), None),
        ("a\x1b[2J\nb", "a\\x1b[2J\\nb"),
        ("\ud800", "\\ud800"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_values_that_are_not_plain_become_their_type(value: object, shown: object) -> None:
    out = logged()
    structlog.get_logger().info("fact", reason=value)
    assert lines(out)[0]["reason"] == shown


def test_a_url_is_masked() -> None:
    out = logged()
    structlog.get_logger().info("fact", url=f"http://me:{MARK}@box:1/v1?key={MARK}")
    assert lines(out)[0]["url"] == "http://***@box:1/v1?***"


def fail() -> None:
    try:
        raise KeyError(MARK)
    except KeyError as error:
        raise ValueError(MARK) from error


@pytest.mark.parametrize("format", ["json", "pretty"])
def test_an_exception_is_its_type_and_its_place(format: str) -> None:
    out = io.StringIO()
    set_up("debug", format, out)
    log = structlog.get_logger()
    try:
        fail()
    except ValueError as error:
        log.exception("failed")
        log.warning("failed", exc_info=error, error=error)
        log.warning("failed", exc_info=(ValueError, error, error.__traceback__))
    assert MARK not in out.getvalue()
    assert out.getvalue().count("ValueError: test_logs.py:") == 3
    if format == "json":
        first, second, third = lines(out)
        assert first["level"] == "error"
        assert {first["error"], second["error"], third["error"]} == {"ValueError"}
        assert [place.rpartition(" ")[2] for place in first["trace"]] == ["fail", "fail"]
        assert first["trace"][1].startswith("KeyError: ")


def test_an_exception_of_a_group_is_told() -> None:
    out = logged()
    structlog.get_logger().error("failed", exc_info=ExceptionGroup(MARK, [ValueError(MARK), OSError(MARK)]))
    assert lines(out)[0]["trace"] == ["ExceptionGroup: ", "ValueError: ", "OSError: "]
    assert MARK not in out.getvalue()


def test_no_exception_at_hand_is_no_error() -> None:
    out = logged()
    structlog.get_logger().info("fact", exc_info=True)
    assert set(lines(out)[0]) == {"ts", "level", "event"}


async def test_a_malformed_header_stays_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    out = logged()
    runner = web.AppRunner(web.Application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    for request in (
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-%s secret\xff: 1\r\n\r\n",
        b"GET /%s HTTP/9.9.9\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(request % MARK.encode())
        assert b" 400 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
    await runner.cleanup()
    told = [line for line in lines(out) if line.get("logger") == "aiohttp.server"]
    assert [line["event"] for line in told] == ["Error handling request from"] * 3
    assert all(line["level"] in ("info", "debug") and line["error"] and "trace" not in line for line in told)
    assert MARK not in out.getvalue() + caplog.text


async def test_a_fault_in_a_handler_is_told_by_type_and_place(caplog: pytest.LogCaptureFixture) -> None:
    out = logged()

    async def faulty(request: web.Request) -> web.Response:
        raise LookupError(MARK)

    app = web.Application()
    app.router.add_get("/", faulty)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0])
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await reader.read()
    writer.close()
    await writer.wait_closed()
    await runner.cleanup()
    (told,) = [line for line in lines(out) if line.get("logger") == "aiohttp.server"]
    assert (told["level"], told["error"]) == ("error", "LookupError")
    assert told["trace"][0].endswith(" faulty")
    assert MARK not in out.getvalue() + caplog.text


async def test_what_asyncio_reports_loses_its_values(caplog: pytest.LogCaptureFixture) -> None:
    out = logged()
    loop = asyncio.get_running_loop()
    handled = asyncio.Event()

    def falls(words: str) -> None:
        loop.call_soon(handled.set)
        raise ValueError(words)

    loop.call_soon(falls, MARK)
    await handled.wait()
    loop.call_exception_handler({"message": "Lost", "future": MARK, "exception": OSError(MARK)})
    told = [line for line in lines(out) if line.get("error")]
    assert [(line["event"].split()[0], line["error"]) for line in told] == [
        ("Exception", "ValueError"),
        ("Lost", "OSError"),
    ]
    assert MARK not in out.getvalue() + caplog.text


@pytest.mark.parametrize(
    ("message", "args", "event"),
    [
        ("Executing %s took %.3f seconds", (MARK, 1.0), "Executing"),
        (f"got <Response {MARK}>", (), "got"),
        (f"line\n{MARK}", (), "line"),
        (ValueError(MARK), (), "ValueError"),
        (f"'{MARK}'", (), "any.library"),
    ],
)
def test_of_a_library_s_words_the_constant_part_stays(message: object, args: tuple[object, ...], event: str) -> None:
    out = logged()
    logging.getLogger("any.library").log(35, message, *args)
    (line,) = lines(out)
    assert (line["event"], line["level"], line["logger"]) == (event, "warning", "any.library")
    assert MARK not in out.getvalue()


def test_a_malformed_message_hides_from_other_handlers_too() -> None:
    logged()
    seen: list[logging.LogRecord] = []
    other = logging.Handler()
    other.emit = seen.append  # type: ignore[method-assign]
    logging.getLogger("aiohttp.server").addHandler(other)
    error = BadHttpMessage(MARK)
    logging.getLogger("aiohttp.server").error("Error from %s", MARK, exc_info=error)
    logging.getLogger("aiohttp.server").removeHandler(other)
    assert [(record.getMessage(), record.exc_info) for record in seen] == [("Error from", None)]


def test_the_access_log_of_aiohttp_is_off() -> None:
    out = logged()
    logging.getLogger("aiohttp.access").error(MARK)
    assert out.getvalue() == ""


def test_several_nodes_of_one_process_set_it_up_in_turn() -> None:
    log = structlog.get_logger()
    first = logged("info")
    log.info("one")
    log.debug("hidden")
    second = logged("debug")
    log.debug("two")
    logging.getLogger("asyncio").warning("three")
    assert [line["event"] for line in lines(first)] == ["one"]
    assert [line["event"] for line in lines(second)] == ["two", "three"]
    assert len([one for one in logging.getLogger().handlers if isinstance(one, Retold)]) == 1


@pytest.mark.parametrize(
    ("format", "stream", "pretty", "colors"),
    [
        (None, Terminal(), True, True),
        (None, io.StringIO(), False, False),
        ("pretty", io.StringIO(), True, False),
        ("json", Terminal(), False, False),
    ],
)
def test_pretty_is_for_terminals(format: str | None, stream: io.StringIO, pretty: bool, colors: bool) -> None:
    set_up("info", format, stream)
    structlog.get_logger().info("race_won", model="m")
    assert (not stream.getvalue().startswith("{"), "\x1b" in stream.getvalue()) == (pretty, colors)
    assert "race_won" in stream.getvalue()


def test_standard_error_is_meant_when_no_stream_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info", "json")
    structlog.get_logger().info("fact")
    assert json.loads(capsys.readouterr().err)["event"] == "fact"


def test_a_stream_that_is_gone_fails_nobody() -> None:
    out = logged()
    out.close()
    structlog.get_logger().info("fact")
    logging.getLogger("asyncio").error("fact")


def test_no_field_is_allowed_that_could_hold_words() -> None:
    assert not FIELDS & {"body", "headers", "query", "prompt", "answer", "message", "authorization", "token", "key"}
