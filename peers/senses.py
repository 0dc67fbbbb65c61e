"""What one unit of an answer says in its dialect: something of the answer, its end, an error, or nothing. Pure."""

import json
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from peers.wire import Call

Sense = Literal["begun", "meaningful", "end", "error", "wrong_model"]
"""`begun`: of this dialect, and nothing of the answer yet; `end`: an end mark that makes a begun answer whole."""

Fields = dict[str, object]
"""A JSON object."""
Reader = Callable[[Fields], Sense | None]
"""None: not of this dialect, or a kind of unit that is not known and says nothing."""

_OLLAMA = ("content", "response", "thinking", "tool_calls", "images", "image")
_DELTA = (
    *("content", "refusal", "reasoning_content", "reasoning", "reasoning_details", "thinking"),
    *("tool_calls", "function_call", "audio", "images"),
)
_EVENT = ("delta", "text", "refusal", "arguments", "input", "code", "transcript")
_BLOCK = ("text", "thinking", "partial_json", "signature", "citation")
_VECTORS = ("data", "embeddings", "embedding")
_SHOWN = ("model_info", "details")
_DECODER = msgspec.json.Decoder()


def read(text: bytes) -> Fields | None:
    """A JSON object; None: it is none."""
    try:
        value = _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = _lenient(text)
    return value if isinstance(value, dict) else None


def sense_of_event(call: Call, unit: Fields) -> Sense | None:
    """What a line or an event of a stream says."""
    return _error(unit) or _wrong_model(call, unit) or _first(_stream_readers(call), unit)


def sense_of_whole(call: Call, answer: Fields) -> Sense | None:
    """What an answer in one piece says: `meaningful`, when it has something in the field its path answers in."""
    return _error(answer) or _wrong_model(call, answer) or _first(_whole_readers(call), answer)


def names_an_answer(call: Call, begin: bytes | bytearray) -> bool:
    """Whether the begin of an answer in one piece has the field its path answers in, whatever is in it."""
    # Within a JSON string the quotes are escaped, so that no text looks like a name.
    return any(b'"%b"' % name.encode() in begin for reader in _whole_readers(call) for name in _FIELDS[reader])


def _lenient(text: bytes) -> object:
    """What msgspec is too strict for and servers write: half of a surrogate pair, NaN."""
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError):
        return None


def _first(readers: tuple[Reader, ...], unit: Fields) -> Sense | None:
    senses = [sense for reader in readers if (sense := reader(unit)) is not None]
    return "meaningful" if "meaningful" in senses else next(iter(senses), None)


def _stream_readers(call: Call) -> tuple[Reader, ...]:
    match call.door.dialect:
        case "ollama":
            return (_said if call.door.operation == "chat" else _generated,)
        case "openai":
            return (_response_event if call.door.path == "/v1/responses" else _choices,)
        case "anthropic":
            return (_message_event,)
    return (_said, _generated, _choices, _response_event, _message_event)


def _whole_readers(call: Call) -> tuple[Reader, ...]:
    if reader := _OF_OPERATION.get(call.door.operation):
        return (reader,)
    match call.door.dialect:
        case "ollama":
            return _stream_readers(call)
        case "openai":
            return (_response if call.door.path == "/v1/responses" else _completion,)
        case "anthropic":
            return (_message,)
    return (_said, _generated, _completion, _response, _message, _envelope)


def _error(unit: Fields) -> Sense | None:
    """As any of the dialects tells it; where there is none some say `null`."""
    told = unit.get("error") or unit.get("errors") or unit.get("success") is False
    return "error" if told or "error" in (unit.get("type"), unit.get("object")) else None


def _wrong_model(call: Call, unit: Fields) -> Sense | None:
    """Only Ollama answers with the name it was asked for: the others' carry dates."""
    model = unit.get("model")
    ollama = call.door.dialect == "ollama" or (call.door.dialect == "any" and "done" in unit)
    return "wrong_model" if ollama and isinstance(model, str) and _plain(model) != _plain(call.model) else None


def _plain(model: str) -> str:
    return model.casefold().removesuffix(":latest")


def _said(unit: Fields) -> Sense | None:
    """Ollama's chat."""
    message = unit.get("message")
    return _ollama(unit, message) if isinstance(message, dict) else None


def _generated(unit: Fields) -> Sense | None:
    """Ollama's generate, and Cloudflare's native door."""
    return _ollama(unit, unit) if isinstance(unit.get("response"), str) or "tool_calls" in unit else None


def _ollama(unit: Fields, said: Fields) -> Sense:
    """A `done` without a word is an answer too: a model may have none, and to load or unload one was the question."""
    return "meaningful" if unit.get("done") is True or _has(said, _OLLAMA) else "begun"


def _choices(unit: Fields) -> Sense | None:
    """OpenAI's chat and completions."""
    choices = _objects(unit.get("choices"))
    if choices is None:
        return None
    pieces = [choice.get(key) for choice in choices for key in ("delta", "message")]
    texts = any(_has(choice, ("text",)) for choice in choices)
    return "meaningful" if texts or any(_has(piece, _DELTA) for piece in pieces) else "begun"


def _completion(answer: Fields) -> Sense | None:
    """… in one piece: one that has finished may be empty."""
    finished = any(_has(choice, ("finish_reason",)) for choice in _objects(answer.get("choices")) or ())
    return "meaningful" if finished else _choices(answer)


def _response_event(unit: Fields) -> Sense | None:
    """OpenAI's Responses."""
    kind = unit.get("type")
    if not isinstance(kind, str) or not kind.startswith("response."):
        return None
    if kind == "response.failed":
        return "error"
    if kind in ("response.completed", "response.incomplete"):
        return "meaningful" if _has(unit, ("response",)) else None
    said = _has(unit, _EVENT) or _has(unit.get("part"), _EVENT) or _item(unit.get("item"))
    return "meaningful" if said else "begun"


def _item(item: object) -> bool:
    """Whether an item of a response says something: any but a message or a thought is a call of a tool."""
    if not isinstance(item, dict) or not isinstance(item.get("type"), str):
        return False
    if item["type"] not in ("message", "reasoning"):
        return True
    parts = (_objects(item.get("content")) or []) + (_objects(item.get("summary")) or [])
    return any(_has(part, _EVENT) for part in parts)


def _response(answer: Fields) -> Sense | None:
    """… in one piece."""
    if answer.get("status") == "failed":
        return "error"
    output = _objects(answer.get("output"))
    over = answer.get("status") in ("completed", "incomplete")
    return None if output is None else "meaningful" if output or over else "begun"


def _message_event(unit: Fields) -> Sense | None:
    """Anthropic's Messages."""
    match unit.get("type"):
        case "message_start":
            return "begun"
        case "message_stop":
            return "end"
        case "content_block_start":
            return "meaningful" if _block(unit.get("content_block")) else "begun"
        case "content_block_delta":
            return "meaningful" if _has(unit.get("delta"), _BLOCK) else "begun"
    return None


def _block(block: object) -> bool:
    """Whether a block of content says something as it starts: any but text and thinking is a call of a tool, or so."""
    kind = block.get("type") if isinstance(block, dict) else None
    return _has(block, _BLOCK) if kind in ("text", "thinking", None) else True


def _message(answer: Fields) -> Sense | None:
    """… in one piece."""
    content = _objects(answer.get("content"))
    return None if content is None else "meaningful" if content or _has(answer, ("stop_reason",)) else "begun"


def _envelope(answer: Fields) -> Sense | None:
    """Cloudflare's native door."""
    return "meaningful" if _has(answer, ("result",)) else None


def _vectors(answer: Fields) -> Sense | None:
    found = [answer.get(name) for name in _VECTORS]
    return "meaningful" if any(isinstance(vectors, list | str) and vectors for vectors in found) else None


def _shown(answer: Fields) -> Sense | None:
    return "meaningful" if _has(answer, _SHOWN) else None


def _counted(answer: Fields) -> Sense | None:
    return "meaningful" if type(answer.get("input_tokens")) is int else None


_OF_OPERATION: Mapping[str, Reader] = {"embeddings": _vectors, "show": _shown, "count_tokens": _counted}
_FIELDS: Mapping[Reader, tuple[str, ...]] = {
    _said: ("message",),
    _generated: ("response",),
    _completion: ("choices",),
    _response: ("output",),
    _message: ("content",),
    _envelope: ("result",),
    _vectors: _VECTORS,
    _shown: _SHOWN,
    _counted: ("input_tokens",),
}
"""Where each finds the answer."""


def _has(piece: object, names: tuple[str, ...]) -> bool:
    """Whether an object has something under one of these names."""
    return isinstance(piece, dict) and any(_some(piece.get(name)) for name in names)


def _some(value: object) -> bool:
    return any(value) if isinstance(value, list) else isinstance(value, str | dict) and bool(value)


def _objects(value: object) -> list[Fields] | None:
    """The objects of a list; None: there is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else None
