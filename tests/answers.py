"""Answers as peers send them, a unit or whole ones at a time, and the Meaning that judges them."""

import json

from peers.doors import BY_PATH
from peers.meaning import Meaning, Verdict
from peers.wire import Call
from tests.scripts import Speaks, usual

MODEL = "llama3"
NDJSON, SSE, JSON = "application/x-ndjson", "text/event-stream", "application/json; charset=utf-8"
STREAMING = ("/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
MISSION = "/v1/api/chat"


def call(path: str, stream: bool = True, model: str = MODEL) -> Call:
    return Call(id="r1", door=BY_PATH[path], model=model, stream=stream, body=b"")


def meaning(path: str, kind: str, stream: bool = True, status: int = 200, **headers: str) -> Meaning:
    return Meaning(call(path, stream), status, {"content-type": kind} | headers)


def streamed(path: str, body: bytes, kind: str = "") -> Verdict | None:
    """The verdict while the stream is open."""
    return meaning(path, kind or (NDJSON if path.startswith("/api") else SSE)).feed(body)


def whole(path: str, body: object, stream: bool = False) -> Verdict:
    """The verdict on an answer in one piece."""
    judge = meaning(path, JSON, stream)
    judge.feed(body if isinstance(body, bytes) else json.dumps(body).encode())
    return judge.finish()


def recorded(path: str, stream: bool, words: tuple[str, ...] = ("Hel", "lo")) -> tuple[str, list[bytes]]:
    """The content type and the chunks of a usual answer."""
    dialects = ("ollama", "openai", "anthropic")
    script = usual(Speaks([MODEL], [], dialects, words), "POST", path, {"model": MODEL, "stream": stream})
    return dict(script.headers)["Content-Type"], [chunk for chunk in script.chunks if isinstance(chunk, bytes)]


def event(body: object, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(body).encode() + b"\n\n"


def delta(**piece: object) -> bytes:
    return event({"id": "c1", "choices": [{"index": 0, "delta": piece, "finish_reason": None}]})


def line(**fields: object) -> bytes:
    return json.dumps({"model": MODEL} | fields).encode() + b"\n"


def block(kind: str, **fields: object) -> bytes:
    return event({"type": kind, "index": 0} | fields, kind)


MESSAGE = {"role": "assistant", "content": ""}
ROLE = delta(**MESSAGE)
OPEN = line(message=MESSAGE, done=False)
START = event({"type": "message_start", "message": {"role": "assistant", "content": []}}, "message_start")
CREATED = event({"type": "response.created", "response": {"status": "in_progress", "output": []}}, "response.created")
DONE = b"data: [DONE]\n\n"
HTML = b"<!doctype html><html><body>Welcome to our network</body></html>"
