"""The built-in `eliza`: a pattern program that answers where a model would. For a first try, for tests and the demo."""

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from peers.errors import BadRequest, MasaError, ModelNotFound
from peers.peek import inflate
from peers.upstreams.doctor_script import INTRODUCTION, SCRIPT, answer
from peers.upstreams.eliza_bodies import Asked, understood
from peers.upstreams.eliza_voices import VOICES, Json, Said, Voice, encode
from peers.wire import Call, Model, Reply

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
    "name": "eliza",
    "model": "eliza",
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
            chunks = self._spoken(voice(said), len(said.words))
            return Reply(200, {"content-type": media}, chunks, self.route, self.provider)
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
        encoded = encode(body)
        headers = {"content-type": "application/json", "content-length": str(len(encoded))}
        return Reply(status, headers, once(encoded), self.route, self.provider)


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
