"""The built-in `eliza`: a pattern program that answers where a model would. For a first try, for tests and the demo.

In this order: what is read of a question, how an answer is written in each dialect, and the Answerer.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Protocol

import msgspec

from peers.errors import BadRequest, MasaError, ModelNotFound
from peers.peek import inflate
from peers.upstreams.doctor_script import INTRODUCTION, SCRIPT, answer
from peers.wire import Call, Model, Reply

SLICE = 64 * 1024

MESSAGES = "`messages`, a list of objects with `role` and `content`"
NEEDS: Mapping[str, str] = {
    "/api/chat": MESSAGES,
    "/api/generate": "`prompt`, a text",
    "/v1/chat/completions": MESSAGES,
    "/v1/completions": "`prompt`, a text",
    "/v1/responses": "`input`, a text or a list of messages",
    "/v1/messages": f"`max_tokens`, a number of at least 1, and {MESSAGES}",
    "/v1/messages/count_tokens": MESSAGES,
}


class Part(msgspec.Struct):
    """A piece of a message; what is not text says nothing to eliza."""

    type: str = ""
    text: str | None = None


Content = str | list[Part] | None


class Turn(msgspec.Struct):
    """A message."""

    role: str = ""
    content: Content = None


class Options(msgspec.Struct):
    """Ollama's."""

    num_predict: float | None = None


class StreamOptions(msgspec.Struct):
    """OpenAI's."""

    include_usage: bool | None = None


class Body(msgspec.Struct):
    """All that is read of a body, by the names of every dialect; the rest of it is skipped."""

    messages: list[Turn] | None = None
    prompt: str | list[str] | None = None
    input: str | list[Turn] | None = None
    system: Content = None
    instructions: str | None = None
    options: Options | None = None
    max_tokens: float | None = None
    max_completion_tokens: float | None = None
    max_output_tokens: float | None = None
    stream_options: StreamOptions | None = None

    def turns(self, path: str) -> list[Turn] | None:
        """The conversation, from where the dialect keeps it; None: it is not there."""
        if path in ("/api/generate", "/v1/completions"):
            text = "\n".join(self.prompt) if isinstance(self.prompt, list) else self.prompt
            return None if text is None else [Turn("user", text)]
        if path == "/v1/responses":
            return [Turn("user", self.input)] if isinstance(self.input, str) else self.input
        return self.messages

    def limit(self) -> int | None:
        """Words of the answer; what is below one sets no limit (Ollama's `num_predict: -1`)."""
        told = (self.max_tokens, self.max_completion_tokens, self.max_output_tokens)
        limits = (*told, self.options.num_predict if self.options else None)
        return min((int(limit) for limit in limits if limit and limit >= 1), default=None)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, whatever its dialect."""

    turns: Sequence[Turn]
    """None of them: eliza is only to be loaded (Ollama's empty question)."""
    words: int
    limit: int | None
    """Words of the answer."""
    usage: bool
    """A stream is to end by telling its counts."""

    def said(self) -> list[str]:
        """The caller's part of the conversation."""
        return [text_of(turn.content) for turn in self.turns if turn.role == "user"] or [""]

    def first(self) -> bool:
        return all(turn.role != "assistant" for turn in self.turns)


def understood(text: bytes, path: str) -> Asked:
    """Raises BadRequest: not JSON, or without what the path needs; what was sent is not repeated."""
    try:
        body = msgspec.json.decode(text, type=Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise unreadable(path) from error
    turns = body.turns(path)
    if path.startswith("/api/"):
        turns = [] if turns is None or body.prompt == "" else turns
    elif not turns or (path == "/v1/messages" and (body.max_tokens or 0) < 1):
        raise unreadable(path)
    contents = (body.system, body.instructions, *(turn.content for turn in turns))
    usage = bool(body.stream_options and body.stream_options.include_usage)
    return Asked(turns, sum(words_in(text_of(content)) for content in contents), body.limit(), usage)


def unreadable(path: str) -> BadRequest:
    return BadRequest("invalid_body", f"the body cannot be read: eliza needs a JSON object with {NEEDS[path]}")


def text_of(content: Content) -> str:
    if isinstance(content, list):
        return "\n".join(part.text for part in content if part.type.endswith("text") and part.text)
    return content or ""


def words_in(text: str) -> int:
    """How many words: counted in slices, since a list of all words can be many times as large as the text."""
    starts = range(0, len(text), SLICE)
    halved = sum(not text[at - 1].isspace() and not text[at].isspace() for at in starts[1:])
    return sum(len(text[at : at + SLICE].split()) for at in starts) - halved


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


MAX_BODY = 32 * 1024 * 1024
CONTEXT = 4096
DIGEST = hashlib.sha256(SCRIPT.encode()).hexdigest()
SINCE = "2026-01-01T00:00:00Z"
DETAILS: Json = {
    "parent_model": "",
    "format": "script",
    "family": "eliza",
    "families": ["eliza"],
    "parameter_size": "0",
    "quantization_level": "",
}
LISTED: Json = {
    "name": "eliza:latest",
    "model": "eliza:latest",
    "size": len(SCRIPT.encode()),
    "digest": DIGEST,
    "details": DETAILS,
}
ENTRIES: Mapping[str, Json] = {
    "tags": LISTED | {"modified_at": SINCE, "capabilities": ["completion"]},
    "ps": LISTED | {"expires_at": "2300-01-01T00:00:00Z", "size_vram": 0, "context_length": CONTEXT},
    "models": {"id": "eliza", "object": "model", "created": 1767225600, "owned_by": "masa-node"},
}
SHOWN: Json = {
    "license": "MIT",
    "modelfile": "# ELIZA is a pattern program built into masa-node, not a language model\nFROM eliza\n",
    "parameters": "",
    "template": "{{ .Prompt }}",
    "details": DETAILS,
    "model_info": {"general.architecture": "eliza", "general.parameter_count": 0, "eliza.context_length": CONTEXT},
    "capabilities": ["completion"],
    "modified_at": SINCE,
}


class Eliza:
    """An Answerer that needs nothing and nobody. `pace`: seconds between the words of a stream; 0: none."""

    provider = "eliza"
    route = "local:eliza"
    model = Model(
        name="eliza",
        dialects=frozenset(("ollama", "openai", "anthropic")),
        digest=DIGEST,
        context=CONTEXT,
        capabilities=("completion",),
        loaded=True,
        entries=ENTRIES,
    )

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        pace: float = 0.02,
    ) -> None:
        self._now = now
        self._sleep = sleep
        self._pace = pace

    async def open(self, call: Call) -> Reply:
        try:
            return self._reply(call)
        except (BadRequest, ModelNotFound) as refused:
            return self._whole(refused.status, refusal(call, refused))

    def _reply(self, call: Call) -> Reply:
        ollama = call.door.dialect in ("ollama", "any")
        if call.model != "eliza" and not (ollama and call.model == "eliza:latest"):
            raise ModelNotFound("there is one model here: eliza")
        match call.door.operation:
            case "embeddings":
                raise BadRequest("invalid_body", "eliza has no embeddings: it is a pattern program, no language model")
            case "show":
                return self._whole(200, SHOWN)
        path = "/api/chat" if call.door.dialect == "any" else call.door.path
        asked = understood(inflate(call.body, call.headers.get("content-encoding", ""), MAX_BODY), path)
        if call.door.operation == "count_tokens":
            return self._whole(200, {"input_tokens": asked.words})
        return self._answered(call, asked, *VOICES[path])

    def _answered(self, call: Call, asked: Asked, voice: Callable[[Said], Voice], media: str) -> Reply:
        said = self._said(call, asked)
        if call.stream and said.words:
            return self._sent(200, media, self._spoken(voice(said), len(said.words)))
        return self._whole(200, voice(said).whole())

    def _said(self, call: Call, asked: Asked) -> Said:
        words = words_of(asked)
        return Said(
            id=call.id,
            model=call.model,
            words=words[: asked.limit],
            cut=asked.limit is not None and asked.limit < len(words),
            asked=asked.words,
            usage=asked.usage,
            started=self._now(),
            now=self._now,
        )

    async def _spoken(self, voice: Voice, words: int) -> AsyncIterator[bytes]:
        if opening := voice.opening():
            yield opening
        for at in range(words):
            if at and self._pace:
                await self._sleep(self._pace)
            yield voice.word(at)
        yield voice.closing()

    def _whole(self, status: int, body: Json) -> Reply:
        return self._sent(status, "application/json", once(encode(body)))

    def _sent(self, status: int, media: str, chunks: AsyncIterator[bytes]) -> Reply:
        return Reply(status, {"content-type": media}, chunks, self.route, self.provider)


async def once(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk


def words_of(asked: Asked) -> tuple[str, ...]:
    """The answer, each word but the first with the blank before it; empty when nothing was asked."""
    if not asked.turns:
        return ()
    text = answer(asked.said())
    return tuple(re.findall(r"\s*\S+", f"{INTRODUCTION} {text}" if asked.first() else text))


def refusal(call: Call, refused: MasaError) -> Json:
    """The error body of the call's dialect."""
    text = refused.text
    match call.door.dialect:
        case "openai":
            return {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": refused.code}}
        case "anthropic":
            kind = {404: "not_found_error", 413: "request_too_large"}.get(refused.status, "invalid_request_error")
            return {"type": "error", "error": {"type": kind, "message": text}, "request_id": call.id}
    return {"error": text}
