"""Script: one answer of a fake model server; and the usual answers of each dialect."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from http.client import responses
from typing import Any, Literal

from tests.raw import Pairs, pairs

NDJSON = {"Content-Type": "application/x-ndjson"}
SSE = {"Content-Type": "text/event-stream"}
JSON = {"Content-Type": "application/json"}
TIME, CREATED = "2026-01-02T03:04:05.1Z", 1767323045
DETAILS = {"format": "gguf", "family": "llama", "parameter_size": "8.0B", "quantization_level": "Q4_0"}
VECTOR = [0.25, -0.5, 0.75]
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
COUNTS = {"prompt_eval_count": 3, "prompt_eval_duration": 60000000, "eval_count": 2, "eval_duration": 300000000}
END = {"done_reason": "stop", "total_duration": 812000000, "load_duration": 9000000, **COUNTS}

Asked = dict[str, Any]
"""A JSON object."""


class Move(Enum):
    DIE = "close the socket"
    HANG = "never go on"
    RESET = "send RST"


DIE, HANG, RESET = Move.DIE, Move.HANG, Move.RESET

Item = bytes | float | asyncio.Event | Move
"""Bytes to write (a chunk each, when chunked), seconds to wait, an event to wait for, or a way to break."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One answer. To write one wholly by hand: all its bytes in `before_head`, then DIE."""

    status: int = 200
    headers: Pairs = field(default_factory=NDJSON.copy)
    chunks: Sequence[Item] = ()
    framing: Literal["chunked", "length", "close"] = "chunked"
    length: int | None = None
    """With framing `length`: what Content-Length says instead of the truth. The connection closes after it."""
    before_head: Sequence[Item] = ()

    def __post_init__(self) -> None:
        for item in (*self.before_head, *self.chunks):
            if not isinstance(item, bytes | int | float | asyncio.Event | Move):
                raise TypeError(f"no part of a script: {item!r}")

    def head(self, framing: str, more: Pairs) -> bytes:
        length = (
            sum(len(item) for item in self.chunks if isinstance(item, bytes)) if self.length is None else self.length
        )
        framed = {
            "chunked": "Transfer-Encoding: chunked",
            "length": f"Content-Length: {length}",
            "close": "Connection: close",
        }[framing]
        given = [f"{name}: {value}" for name, value in pairs(self.headers) + pairs(more)]
        lines = [f"HTTP/1.1 {self.status} {responses.get(self.status, '')}", *given, framed, "", ""]
        return "\r\n".join(lines).encode("latin-1")


@dataclass(slots=True)
class Speaks:
    """What a model server has to say of itself."""

    models: Sequence[str]
    loaded: Sequence[str]
    """What /api/ps lists."""
    dialects: Sequence[str]
    words: Sequence[str]
    """The text of every answer, a chunk each."""


def answer(body: object, status: int = 200, headers: Pairs = ()) -> Script:
    """A JSON answer in one piece."""
    return Script(status=status, headers=pairs(JSON) + pairs(headers), chunks=[_json(body)], framing="length")


def plain(text: str, status: int = 200) -> Script:
    return Script(status=status, headers={"Content-Type": "text/plain"}, chunks=[text.encode()], framing="length")


def refusal(dialect: str, status: int, text: str, headers: Pairs = ()) -> Script:
    """An error as the dialect spells it."""
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
    body: dict[str, object] = {"error": text}
    if dialect == "openai":
        body = {"error": {"message": text, "type": kind, "param": None, "code": None}}
    if dialect == "anthropic":
        body = {"type": "error", "error": {"type": kind, "message": text}}
    return answer(body, status, headers)


def busy(status: int = 503, retry_after: int | None = None) -> Script:
    """An Ollama whose queue is full."""
    text = "server busy, please try again.  maximum pending requests exceeded"
    return refusal("ollama", status, text, {} if retry_after is None else {"Retry-After": str(retry_after)})


def model_entry(name: str, **more: object) -> dict[str, object]:
    """A model as /api/tags lists it."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    entry = {"name": name, "model": name, "modified_at": TIME, "size": 4661224676, "digest": digest}
    return entry | {"details": DETAILS} | more


def usual(speaks: Speaks, method: str, path: str, asked: Asked) -> Script:
    """What a server answers that no script has told otherwise."""
    dialect, lists = _dialect(path), _lists(speaks)
    if dialect not in speaks.dialects or path not in {*lists, *POSTS}:
        return plain("404 page not found", 404)
    if (method == "POST") != (path in POSTS):
        return refusal(dialect, 405, "method not allowed")
    if path in lists:
        return lists[path]
    model = asked.get("model")
    if not isinstance(model, str) or not model:
        return refusal(dialect, 400, "model is required")
    if not {model, f"{model}:latest"} & set(speaks.models):
        return refusal(dialect, 404, f"model '{model}' not found")
    return POSTS[path](asked, speaks.words)


def _dialect(path: str) -> str:
    if path.startswith("/v1/messages"):
        return "anthropic"
    return "openai" if path.startswith("/v1/") else "ollama"


def _lists(speaks: Speaks) -> dict[str, Script]:
    """The answers to GET, by path."""
    listed = [{"id": name, "object": "model", "created": CREATED, "owned_by": "library"} for name in speaks.models]
    loaded = {"expires_at": TIME, "size_vram": 4661224676, "context_length": 8192}
    return {
        "/": plain("Ollama is running"),
        "/api/version": answer({"version": "0.20.0"}),
        "/api/tags": answer({"models": [model_entry(name) for name in speaks.models]}),
        "/api/ps": answer({"models": [model_entry(name, **loaded) for name in speaks.loaded]}),
        "/v1/models": answer({"object": "list", "data": listed}),
        **{f"/v1/models/{model['id']}": answer(model) for model in listed},
    }


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _named(events: Iterable[dict[str, Any]]) -> Script:
    """SSE whose events carry their names."""
    return Script(headers=SSE, chunks=[b"event: %b\ndata: %b\n\n" % (e["type"].encode(), _json(e)) for e in events])


def _ollama(asked: Asked, words: Sequence[str], said: Callable[[str], Asked]) -> Script:
    def line(text: str, **end: object) -> Asked:
        return {"model": asked["model"], "created_at": TIME, **said(text), "done": bool(end), **end}

    if not asked.get("stream", True):
        return answer(line("".join(words), **END))
    return Script(chunks=[_json(each) + b"\n" for each in (*map(line, words), line("", **END))])


def _chat(asked: Asked, words: Sequence[str]) -> Script:
    return _ollama(asked, words, lambda text: {"message": {"role": "assistant", "content": text}})


def _generate(asked: Asked, words: Sequence[str]) -> Script:
    return _ollama(asked, words, lambda text: {"response": text})


def _show(asked: Asked, _: Sequence[str]) -> Script:
    info = {"general.architecture": "llama", "llama.context_length": 8192}
    spelt = {"license": "", "modelfile": "", "parameters": "", "template": "{{ .Prompt }}", "modified_at": TIME}
    return answer({**spelt, "details": DETAILS, "model_info": info, "capabilities": ["completion"]})


def _inputs(asked: Asked) -> range:
    """One embedding for each input."""
    return range(len(asked["input"]) if isinstance(asked.get("input"), list) else 1)


def _embed(asked: Asked, _: Sequence[str]) -> Script:
    vectors = [VECTOR for _ in _inputs(asked)]
    counts = {"total_duration": 812000000, "load_duration": 9000000, "prompt_eval_count": 3}
    return answer({"model": asked["model"], "embeddings": vectors, **counts})


def _openai_embeddings(asked: Asked, _: Sequence[str]) -> Script:
    data = [{"object": "embedding", "index": index, "embedding": VECTOR} for index in _inputs(asked)]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return answer({"object": "list", "data": data, "model": asked["model"], "usage": usage})


def _openai(asked: Asked, kinds: tuple[str, str], whole: Asked, parts: Iterable[Asked]) -> Script:
    """`whole`, or `parts` with the usual end, as the only choice of objects of these kinds."""

    def of(kind: str, choice: Asked) -> Asked:
        made = {"id": "cmpl-1", "object": kind, "created": CREATED, "model": asked["model"]}
        return {**made, "choices": [{"index": 0, **choice}]}

    if not asked.get("stream"):
        return answer(of(kinds[0], {**whole, "finish_reason": "stop"}) | {"usage": USAGE})
    events = [b"data: %b\n\n" % _json(of(kinds[1], part)) for part in parts]
    return Script(headers=SSE, chunks=[*events, b"data: [DONE]\n\n"])


def _chat_completions(asked: Asked, words: Sequence[str]) -> Script:
    begin = {"delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    middle = [{"delta": {"content": word}, "finish_reason": None} for word in words]
    message = {"message": {"role": "assistant", "content": "".join(words)}}
    kinds = ("chat.completion", "chat.completion.chunk")
    return _openai(asked, kinds, message, [begin, *middle, {"delta": {}, "finish_reason": "stop"}])


def _completions(asked: Asked, words: Sequence[str]) -> Script:
    middle = [{"text": word, "finish_reason": None} for word in words]
    kinds = ("text_completion", "text_completion")
    return _openai(asked, kinds, {"text": "".join(words)}, [*middle, {"text": "", "finish_reason": "stop"}])


def _responses(asked: Asked, words: Sequence[str]) -> Script:
    part = {"type": "output_text", "text": "".join(words), "annotations": []}
    item = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]}
    made = {"id": "resp_1", "object": "response", "created_at": CREATED, "model": asked["model"]}
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    choices = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
    response = {**made, **choices, "status": "completed", "output": [item], "usage": usage}
    if not asked.get("stream"):
        return answer(response)
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[Asked] = [
        {"type": "response.created", "response": response | {"status": "in_progress", "output": [], "usage": None}},
        {"type": "response.output_item.added", "output_index": 0, "item": item | {"content": []}},
        {"type": "response.content_part.added", **at, "part": part | {"text": ""}},
        *({"type": "response.output_text.delta", **at, "delta": word} for word in words),
        {"type": "response.output_text.done", **at, "text": part["text"]},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response},
    ]
    return _named(event | {"sequence_number": number} for number, event in enumerate(events))


def _messages(asked: Asked, words: Sequence[str]) -> Script:
    usage = {"input_tokens": 3, "output_tokens": 2}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "usage": usage}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    if not asked.get("stream"):
        return answer({**message, "content": [{"type": "text", "text": "".join(words)}], **end})
    begun = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    deltas = [{"type": "text_delta", "text": word} for word in words]
    return _named(
        [
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": end, "usage": {"output_tokens": 2}},
            {"type": "message_stop"},
        ]
    )


POSTS: Mapping[str, Callable[[Asked, Sequence[str]], Script]] = {
    "/api/chat": _chat,
    "/api/generate": _generate,
    "/api/embed": _embed,
    "/api/embeddings": lambda asked, words: answer({"embedding": VECTOR}),
    "/api/show": _show,
    "/v1/chat/completions": _chat_completions,
    "/v1/completions": _completions,
    "/v1/embeddings": _openai_embeddings,
    "/v1/responses": _responses,
    "/v1/messages": _messages,
    "/v1/messages/count_tokens": lambda asked, words: answer({"input_tokens": 3}),
}
