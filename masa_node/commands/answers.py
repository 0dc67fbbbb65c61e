"""The units of a chat's answer, in whatever dialect it comes: each dialect's can be told by its shape."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

from masa_node.commands.node_api import NodeError, error_text, pieces


@dataclass(frozen=True, slots=True)
class Said:
    """One unit of an answer, whatever its dialect."""

    text: str = ""
    thinking: str = ""
    end: bool = False


def units(response: HTTPResponse) -> Iterator[Said]:
    """An answer's units as they come. Raises NodeError when it tells an error, or stops before its end."""
    whole = _in_one_piece(response)
    for line in _lines(response):
        said = read_unit(line)
        whole = whole or said.end
        yield said
    if not whole:
        raise NodeError("the answer stopped without its end mark: it was cut off")


def _lines(response: HTTPResponse) -> Iterator[bytes]:
    if _in_one_piece(response):
        yield b"".join(pieces(response))
        return
    rest = b""
    for piece in pieces(response):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    yield rest


def _in_one_piece(response: HTTPResponse) -> bool:
    """It does not stream: its framing alone tells its end."""
    return response.headers.get_content_type() == "application/json"


def read_unit(line: bytes) -> Said:
    """A line of NDJSON or of server-sent events, or a whole answer that did not stream. Raises NodeError."""
    line = line.strip().removeprefix(b"data:").strip()
    if line == b"[DONE]":
        return Said(end=True)
    try:
        unit = json.loads(line)
    except (ValueError, RecursionError):
        return Said()
    if not isinstance(unit, dict):
        return Said()
    if "error" in unit and (text := error_text(line)):
        raise NodeError(f"the answer broke off: {text}")
    return (
        _anthropic(unit) if isinstance(unit.get("type"), str) else _openai(unit) if "choices" in unit else _ollama(unit)
    )


def _ollama(unit: dict[str, Any]) -> Said:
    """Cloudflare's native `{"response": …}` too, whose stream ends as OpenAI's does."""
    message = _part(unit.get("message"))
    result = _part(unit.get("result"))
    text = _text(message.get("content")) or _text(unit.get("response")) or _text(result.get("response"))
    return Said(text, _text(message.get("thinking")), unit.get("done") is True)


def _openai(unit: dict[str, Any]) -> Said:
    choices = unit["choices"] if isinstance(unit["choices"], list) else []
    choice = _part(choices[0]) if choices else {}
    said = _part(choice.get("delta")) or _part(choice.get("message"))
    thinking = _text(said.get("reasoning_content")) or _text(said.get("reasoning"))
    return Said(_text(said.get("content")), thinking, choice.get("finish_reason") is not None)


def _anthropic(unit: dict[str, Any]) -> Said:
    if unit["type"] == "message":
        parts = [_part(part) for part in unit.get("content") or ()]
        text, thinking = ("".join(_text(part.get(key)) for part in parts) for key in ("text", "thinking"))
        return Said(text, thinking, end=True)
    delta = _part(unit.get("delta")) if unit["type"] == "content_block_delta" else {}
    return Said(_text(delta.get("text")), _text(delta.get("thinking")), unit["type"] == "message_stop")


def _part(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
