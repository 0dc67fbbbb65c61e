"""What eliza reads of a question, in whichever dialect it is asked. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from peers.errors import BadRequest

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
