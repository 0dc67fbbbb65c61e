"""Model servers for bench/soak: every answer follows from the server's name and the question, also the broken ones."""

import asyncio
import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from aiohttp import web

MODEL = "soak:latest"
CHUNK_S = 0.02
LONGEST_HANG_S = 120.0
WELL_S, ILL_S = (20.0, 60.0), (5.0, 15.0)
ILLS = ("refuses", "hangs", "cuts", "fails", "is busy", "lies")
NDJSON, SSE, JSON = "application/x-ndjson", "text/event-stream", "application/json"


@dataclass(frozen=True)
class Said:
    """An answer, as a server that is well gives it."""

    kind: str
    chunks: list[bytes]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


def said(name: str, path: str, body: bytes) -> Said:
    """What the server of this name answers to this question."""
    asked = json.loads(body)
    digest = hashlib.sha256(body).hexdigest()
    words = [f"{name} {digest} {number};" for number in range(3 + int(digest[:2], 16) % 30)]
    ollama = path == "/api/chat"
    if not asked.get("stream"):
        return Said(JSON, [_json(_whole("".join(words), ollama=ollama))])
    if ollama:
        end = {"model": MODEL, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
        return Said(NDJSON, [_json(one) + b"\n" for one in (*(_line(word) for word in words), end)])
    return Said(SSE, [b"data: " + one + b"\n\n" for one in (*(_json(_event(word)) for word in words), b"[DONE]")])


BUSY = b'{"error":"server busy, please try again"}'


def failure(body: bytes) -> bytes:
    return _json({"error": "the model runner has stopped", "of": hashlib.sha256(body).hexdigest()})


def lie(body: bytes) -> bytes:
    """Well-formed, with status 200, and no answer in any dialect."""
    return _json({"sorry": hashlib.sha256(body).hexdigest()})


def _line(word: str) -> dict[str, Any]:
    return {"model": MODEL, "message": {"role": "assistant", "content": word}, "done": False}


def _event(word: str) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
    return {"id": "soak", "object": "chat.completion.chunk", "created": 0, "model": MODEL, "choices": [choice]}


def _whole(text: str, *, ollama: bool) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    if ollama:
        return {"model": MODEL, "message": message, "done": True, "done_reason": "stop"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "soak", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice]}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


@dataclass(slots=True)
class Model:
    """One server on a port of its own. Its mood changes while it runs."""

    name: str
    port: int
    rng: Random
    mood: str = "is well"
    _runner: web.AppRunner | None = None
    _open: set[asyncio.Transport] = field(default_factory=set)

    async def live(self) -> None:
        """Well for a while, ill for a while, until cancelled."""
        await self._listen()
        try:
            while True:
                self.mood = "is well"
                await asyncio.sleep(self.rng.uniform(*WELL_S))
                self.mood = self.rng.choice(ILLS)
                if self.mood == "refuses":
                    await self._deafen()
                await asyncio.sleep(self.rng.uniform(*ILL_S))
                if self.mood == "refuses":
                    await self._listen()
        finally:
            await self._deafen()

    async def _listen(self) -> None:
        app = web.Application()
        app.router.add_get("/api/version", lambda _: _answered({"version": "0.20.0"}))
        app.router.add_get("/api/tags", lambda _: _answered({"models": [{"name": MODEL, "model": MODEL}]}))
        app.router.add_get("/api/ps", lambda _: _answered({"models": [{"name": MODEL, "model": MODEL}]}))
        app.router.add_get("/v1/models", lambda _: _answered({"object": "list", "data": [{"id": MODEL}]}))
        for path in ("/api/chat", "/v1/chat/completions"):
            app.router.add_post(path, self._chat)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def _deafen(self) -> None:
        if self._runner:
            for transport in [*self._open]:
                transport.abort()
            await self._runner.cleanup()
            self._runner = None

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if json.loads(body).get("model") not in (MODEL, MODEL.removesuffix(":latest")):
            return web.json_response({"error": "model is required"}, status=400)
        mood = self.mood
        if mood == "hangs":
            await asyncio.sleep(LONGEST_HANG_S)
        if mood == "fails":
            return web.Response(status=500, body=failure(body), content_type=JSON)
        if mood == "is busy":
            return web.Response(status=503, body=BUSY, content_type=JSON)
        if mood == "lies":
            return web.Response(body=lie(body), content_type=JSON)
        return await self._say(request, said(self.name, request.path, body), cuts=mood == "cuts")

    async def _say(self, request: web.Request, answer: Said, *, cuts: bool) -> web.StreamResponse:
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        self._open.add(transport)
        try:
            out = web.StreamResponse(headers={"Content-Type": answer.kind})
            with suppress(ConnectionError):
                await out.prepare(request)
            last = self.rng.randrange(len(answer.chunks)) if cuts else None
            for number, chunk in enumerate(answer.chunks):
                await asyncio.sleep(CHUNK_S)
                if number == last:
                    transport.abort()
                with suppress(ConnectionError):
                    await out.write(chunk)
            with suppress(ConnectionError):
                await out.write_eof()
            return out
        finally:
            self._open.discard(transport)


async def _answered(value: object) -> web.Response:
    return web.json_response(value)
