"""Secrets, prompts and answers: in no log, and in no answer but their own.

docs/security.md C-33; docs/promises.md D4.
"""

import asyncio
import json
import traceback

import pytest

from tests.asking import ask, code
from tests.fakes import DIE, HANG, NDJSON, Script
from tests.nodes import running
from tests.processes import running_node
from tests.raw import Wire, exchange, get, post
from tests.told import events, logged

CANARY = "c4nary"
"""A part of every secret below."""

BODY = b'{"model":"llama3","messages":[{"role":"user","content":"c4nary-prompt"}],"stream":false}'
SECRETS = {
    "Authorization": "Bearer c4nary-key",
    "X-Api-Key": "c4nary-key",
    "Cookie": "session=c4nary",
    "Proxy-Authorization": "Basic c4nary",
    "User-Agent": "c4nary/1.0",
    "Referer": "http://localhost/c4nary",
    "X-Request-Id": "c4nary with blanks",
    "X-Forwarded-For": "c4nary",
}


def requests(port: int) -> list[bytes]:
    """With a canary in the body, in headers good and bad, in the path and in the query."""
    good = post(port, "/api/chat?key=c4nary-query", BODY, SECRETS)
    return [
        good,
        good.replace(b"/api/chat", b"/v1/chat/completions"),
        good.replace(b"/api/chat", b"/v1/messages"),
        good.replace(b"/api/chat", b"/c4nary/path"),
        good.replace(b"/api/chat", b"/api/pull"),
        good.replace(b"POST", b"PATCH"),
        good.replace(b"POST", b"C4NARY"),
        good.replace(b"llama3", b"../c4nary"),
        good.replace(b'"model":', b'"c4nary":'),
        good.replace(b"{", b"c4nary{", 1),
        good.replace(b"application/json", b"text/c4nary"),
        good.replace(b"Authorization:", b"Authorization :"),
        good.replace(b"Bearer c4nary-key", b"Bearer c4nary\xff-key"),
        good.replace(b"Bearer c4nary-key", b"Bearer c4nary\0key"),
        good.replace(b"Bearer c4nary-key", b"Bearer c4nary" + b"y" * 9000),
        good.replace(b"Host: 127", b"Host: c4nary.127"),
        good.replace(b"Host: 127", b"Host: c4nary@127"),
        good.replace(b"HTTP/1.1", b"HTTP/c4nary"),
        post(port, "/api/chat", BODY, {"Origin": "http://c4nary.example"}),
        post(port, "/api/chat", BODY, {"Expect": "c4nary"}),
        post(port, "/api/chat", BODY, {"Content-Encoding": "c4nary"}),
        post(port, "/api/chat", BODY, {"Content-Encoding": "gzip"}),
        post(port, "/api/chat", BODY, {"Transfer-Encoding": "c4nary"}),
        post(port, "/api/chat", b"c4nary\r\n", {"Transfer-Encoding": "chunked"}),
        post(port, "/api/chat", BODY, {"Content-Length": "c4nary"}),
        get(port, "/v1/models/c4nary?c4nary"),
        get(port, "http://c4nary.example/"),
        b"c4nary\r\n\r\n",
    ]


def shows(answers: list[bytes]) -> list[bytes]:
    return [answer for answer in answers if CANARY.encode() in answer.lower()]


async def whole_answers(port: int, data: list[bytes]) -> list[bytes]:
    """Each with `Connection: close`, so that all that comes is read."""
    closing = [one.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) for one in data]
    return await asyncio.gather(*(exchange(port, one) for one in closing))


async def test_a_real_process_shows_none(model_server, tmp_path):
    """Neither in the log at its loudest, nor in an answer, an upstream's name for the model excepted."""
    env = {"LLM_CHAT_URL": model_server.url, "LOG_LEVEL": "debug", "LLM_CF_TOKEN": "c4nary", "OPENAI_API_KEY": "c4nary"}
    async with running_node(tmp_path, env) as node:
        answers = await whole_answers(node.port, requests(node.port))
        assert all(answer.startswith(b"HTTP/1.") for answer in answers)
        assert {answer[9:10] for answer in answers} == {b"2", b"4"}
        assert shows(answers) == []
        assert len(node.events("request")) == len(answers)
    assert CANARY not in node.output.lower()


@pytest.mark.parametrize("keys", [{}, {"API_KEYS": "c4nary-key-2,c4nary-key"}])
async def test_a_node_with_and_without_keys_shows_none(model_server, tmp_path, keys):
    log = logged()
    async with running(tmp_path, LLM_CHAT_URL=model_server.url, **keys) as node:
        assert shows(await whole_answers(node.port, requests(node.port))) == []
        told = await ask(node.port, get(node.port, "/metrics", {"X-Api-Key": "c4nary-key"}))
        assert (told.status, shows([told.body])) == (200, [])
    assert CANARY not in log.getvalue().lower()


class TestFaults:
    """An exception's text may hold anything."""

    @pytest.mark.parametrize("error", [RuntimeError, KeyError, ValueError, UnicodeError, TimeoutError])
    async def test_a_crash_says_where_and_no_more(self, node, monkeypatch, error):
        async def crash(call):
            secret = call.body.decode() + SECRETS["Authorization"]
            try:
                raise LookupError(secret)
            except LookupError as behind:
                raise error(secret) from behind

        log = logged()
        monkeypatch.setattr(node.node.router, "open", crash)
        answer = await ask(node.port, post(node.port, "/api/chat?c4nary", BODY, SECRETS))
        assert (answer.status, code(answer)) == (500, "internal")
        assert shows([answer.body, str(answer.headers).encode()]) == []
        assert CANARY not in log.getvalue()
        (fault,) = events(log, "fault")
        assert "test_secrets.py" in json.dumps(fault["trace"])
        assert fault["request_id"] == answer.headers.get("X-Request-Id")

    async def test_a_crash_is_one_request_that_failed(self, node, monkeypatch):
        log = logged()
        monkeypatch.setattr(node.node.router, "open", None)
        await ask(node.port, post(node.port, "/api/chat", BODY))
        (told,) = events(log, "request")
        assert (told["status"], told["outcome"], told["path"]) == (500, "failed", "/api/chat")

    async def test_a_crash_after_the_first_byte(self, node, model_server, monkeypatch):
        async def crash(*_):
            raise RuntimeError(CANARY)

        log = logged()
        model_server.next(Script(headers=NDJSON, chunks=[b"{}\n", HANG]))
        monkeypatch.setattr("peers.upstreams.link.Body.__anext__", crash)
        monkeypatch.setattr("peers.upstreams.link.Body.pour", crash)
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", BODY))
            assert (await wire.read_head()).status == 200
            ending = await wire.read_to_end()
        assert not ending.clean
        assert shows([ending.body]) == []
        assert CANARY not in log.getvalue()
        assert events(log, "fault")

    async def test_a_broken_upstream_is_named_and_not_quoted(self, node, model_server):
        log = logged()
        for raw in (b"c4nary\r\n\r\n", b"HTTP/1.1 200 OK\r\nX c4nary: c4nary\r\n\r\n", b"HTTP/1.1 c4nary\r\n\r\n"):
            model_server.next(Script(before_head=[raw, DIE]))
            answer = await ask(node.port, post(node.port, "/api/chat", BODY))
            assert (answer.status, code(answer)) == (502, "upstream_broken")
            assert shows([answer.body, str(answer.headers).encode()]) == []
        assert CANARY not in log.getvalue()


async def test_answers_are_not_logged(model_server, tmp_path):
    log = logged()
    model_server.next(Script(headers=NDJSON, chunks=[b'{"c4nary":"c4nary"}\n', b'{"done":true}\n']))
    async with running(tmp_path, LLM_CHAT_URL=model_server.url) as node:
        assert CANARY.encode() in (await ask(node.port, post(node.port, "/api/chat", BODY))).body
    assert CANARY not in log.getvalue()


def test_a_traceback_would_show_it():
    """What the tests above look for is what Python prints by itself."""
    assert CANARY in "".join(traceback.format_exception(RuntimeError(CANARY)))
