"""How eliza's answers are written in each dialect: whole, or word by word. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Protocol

import msgspec

NDJSON, SSE = "application/x-ndjson", "text/event-stream"

encode = msgspec.json.encode
Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Said:
    """The whole answer, as words that are said one by one."""

    id: str
    model: str
    words: tuple[str, ...]
    """Each but the first with the blank before it; none: there was nothing to answer (Ollama's load)."""
    cut: bool
    asked: int
    """Words of the question."""
    usage: bool
    started: float
    now: Callable[[], float]

    @property
    def text(self) -> str:
        return "".join(self.words)


class Voice(Protocol):
    """One dialect's way to write an answer: whole, or as what comes before the words, each word, and the end."""

    def whole(self) -> Json: ...
    def opening(self) -> bytes: ...
    def word(self, at: int) -> bytes: ...
    def closing(self) -> bytes: ...


@dataclass(frozen=True)
class OllamaChat:
    """Lines of JSON; the last one says `done` and the counts."""

    said: Said

    def whole(self) -> Json:
        return self.last(self.said.text)

    def opening(self) -> bytes:
        return b""

    def word(self, at: int) -> bytes:
        return encode(self.line(self.said.words[at]) | {"done": False}) + b"\n"

    def closing(self) -> bytes:
        return encode(self.last("")) + b"\n"

    def line(self, text: str) -> Json:
        at = datetime.fromtimestamp(self.said.now(), UTC).isoformat().replace("+00:00", "Z")
        return {"model": self.said.model, "created_at": at} | self.content(text)

    def content(self, text: str) -> Json:
        return {"message": {"role": "assistant", "content": text}}

    def last(self, text: str) -> Json:
        said = self.said
        reason = "load" if not said.words else "length" if said.cut else "stop"
        took = max(0, int((said.now() - said.started) * 1e9))
        reading = {"load_duration": 0, "prompt_eval_count": said.asked, "prompt_eval_duration": 0}
        counts = {"total_duration": took} | reading | {"eval_count": len(said.words), "eval_duration": took}
        return self.line(text) | {"done": True, "done_reason": reason} | counts


class OllamaGenerate(OllamaChat):
    """The same with a bare text."""

    def content(self, text: str) -> Json:
        return {"response": text}


@dataclass(frozen=True)
class OpenAIChat:
    """Events without names; [DONE] ends them."""

    said: Said
    prefix: ClassVar = "chatcmpl-"
    kinds: ClassVar = ("chat.completion", "chat.completion.chunk")
    """Of a whole answer, and of a piece."""

    def whole(self) -> Json:
        choice = {"index": 0} | self.full(self.said.text) | {"logprobs": None, "finish_reason": self.reason()}
        return self.head(self.kinds[0]) | {"choices": [choice], "usage": self.usage()}

    def full(self, text: str) -> Json:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def piece(self, text: str) -> Json:
        return {"delta": {"content": text} if text else {}}

    def opening(self) -> bytes:
        return self.chunk({"delta": {"role": "assistant", "content": ""}})

    def word(self, at: int) -> bytes:
        return self.chunk(self.piece(self.said.words[at]))

    def closing(self) -> bytes:
        counts = data(self.head(self.kinds[1]) | {"choices": [], "usage": self.usage()}) if self.said.usage else b""
        return self.chunk(self.piece(""), self.reason()) + counts + b"data: [DONE]\n\n"

    def chunk(self, piece: Json, reason: str | None = None) -> bytes:
        choice = {"index": 0} | piece | {"logprobs": None, "finish_reason": reason}
        return data(self.head(self.kinds[1]) | {"choices": [choice]})

    def head(self, kind: str) -> Json:
        said = self.said
        return {"id": self.prefix + said.id, "object": kind, "created": int(said.started), "model": said.model}

    def reason(self) -> str:
        return "length" if self.said.cut else "stop"

    def usage(self) -> Json:
        asked, said = self.said.asked, len(self.said.words)
        return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


class OpenAICompletion(OpenAIChat):
    """The same with a bare text."""

    prefix = "cmpl-"
    kinds = ("text_completion", "text_completion")

    def full(self, text: str) -> Json:
        return {"text": text}

    piece = full

    def opening(self) -> bytes:
        return b""


@dataclass(frozen=True)
class OpenAIResponses:
    """Numbered events with names; the last one repeats the whole answer."""

    said: Said

    def whole(self) -> Json:
        return self.response(self.status())

    def opening(self) -> bytes:
        begun = self.response("in_progress")
        return self.events(
            0,
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
            {"type": "response.output_item.added", "output_index": 0, "item": self.item("in_progress")},
            {"type": "response.content_part.added"} | self.place() | {"part": self.part("")},
        )

    def word(self, at: int) -> bytes:
        delta = {"delta": self.said.words[at], "logprobs": []}
        return self.events(4 + at, {"type": "response.output_text.delta"} | self.place() | delta)

    def closing(self) -> bytes:
        text, status = self.said.text, self.status()
        return self.events(
            4 + len(self.said.words),
            {"type": "response.output_text.done"} | self.place() | {"text": text, "logprobs": []},
            {"type": "response.content_part.done"} | self.place() | {"part": self.part(text)},
            {"type": "response.output_item.done", "output_index": 0, "item": self.item(status)},
            {"type": f"response.{status}", "response": self.whole()},
        )

    def events(self, first: int, *events: Json) -> bytes:
        return b"".join(event(each | {"sequence_number": nth}) for nth, each in enumerate(events, first))

    def status(self) -> str:
        return "incomplete" if self.said.cut else "completed"

    def place(self) -> Json:
        return {"item_id": f"msg_{self.said.id}", "output_index": 0, "content_index": 0}

    def part(self, text: str) -> Json:
        return {"type": "output_text", "text": text, "annotations": []}

    def item(self, status: str) -> Json:
        content = [] if status == "in_progress" else [self.part(self.said.text)]
        return {
            "id": f"msg_{self.said.id}",
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def response(self, status: str) -> Json:
        said, begun = self.said, status == "in_progress"
        head = {"id": f"resp_{said.id}", "object": "response", "created_at": int(said.started), "status": status}
        return head | {
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": None,
            "metadata": {},
            "model": said.model,
            "output": [] if begun else [self.item(status)],
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": None,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": None,
            "usage": None if begun else self.usage(),
        }

    def usage(self) -> Json:
        asked, said = self.said.asked, len(self.said.words)
        read, thought = {"cached_tokens": 0, "cache_write_tokens": 0}, {"reasoning_tokens": 0}
        counts = {"input_tokens": asked, "output_tokens": said, "total_tokens": asked + said}
        return counts | {"input_tokens_details": read, "output_tokens_details": thought}


@dataclass(frozen=True)
class AnthropicMessage:
    """Events with names, around one block of text."""

    said: Said

    def whole(self) -> Json:
        content = [{"type": "text", "text": self.said.text}]
        return self.message(content, len(self.said.words)) | self.stop()

    def opening(self) -> bytes:
        begun = self.message([], 0) | {"stop_reason": None, "stop_sequence": None}
        block = {"index": 0, "content_block": {"type": "text", "text": ""}}
        return event({"type": "message_start", "message": begun}) + event({"type": "content_block_start"} | block)

    def word(self, at: int) -> bytes:
        delta = {"type": "text_delta", "text": self.said.words[at]}
        return event({"type": "content_block_delta", "index": 0, "delta": delta})

    def closing(self) -> bytes:
        usage = {"output_tokens": len(self.said.words)}
        end = event({"type": "message_delta", "delta": self.stop(), "usage": usage})
        return event({"type": "content_block_stop", "index": 0}) + end + event({"type": "message_stop"})

    def message(self, content: list[dict[str, str]], words: int) -> Json:
        usage = {"input_tokens": self.said.asked, "output_tokens": words}
        head = {"id": f"msg_{self.said.id}", "type": "message", "role": "assistant", "model": self.said.model}
        return head | {"content": content, "usage": usage}

    def stop(self) -> Json:
        return {"stop_reason": "max_tokens" if self.said.cut else "end_turn", "stop_sequence": None}


def data(body: Json) -> bytes:
    return b"data: " + encode(body) + b"\n\n"


def event(body: Json) -> bytes:
    return f"event: {body['type']}\n".encode() + data(body)


VOICES: Mapping[str, tuple[Callable[[Said], Voice], str]] = {
    "/api/chat": (OllamaChat, NDJSON),
    "/api/generate": (OllamaGenerate, NDJSON),
    "/v1/chat/completions": (OpenAIChat, SSE),
    "/v1/completions": (OpenAICompletion, SSE),
    "/v1/responses": (OpenAIResponses, SSE),
    "/v1/messages": (AnthropicMessage, SSE),
}
"""By path, with the content type of a stream."""
