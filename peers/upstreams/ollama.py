"""An own model server: Ollama, llama.cpp, vLLM, LM Studio … It is asked its dialects, and gets only those."""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import msgspec
from yarl import URL

from peers.upstreams.link import Fetched, Link, Place
from peers.upstreams.upstream import Upstream
from peers.wire import Call, Dialect, Model

PROBE_SECONDS = 3.0
LOOK_WHEN_UP = 15.0
LOOK_WHEN_DOWN = 3.0
CHAT_ENDS = {"/api/chat": "ollama", "/v1/chat/completions": "openai", "/v1/messages": "anthropic"}
OTHER_CHAT_ENDS = ("/v1/api/chat", "/api/v1/chat", "/chat", "/chat/completions", "/completions", "/api/generate")
Entry = dict[str, object]


@dataclass(frozen=True, slots=True)
class Address:
    """What LLM_CHAT_URL says of one server."""

    base: str
    """Without a final slash; dialect paths are appended."""
    chat: str | None = None
    """A full chat URL, used as written: by the mission's doors, and by the dialect path it ends in."""
    authorization: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Address":
        """A base (`http://host:11434`, also with `/v1` or `/api` at its end) or a full chat URL."""
        url = URL(text.rstrip("/") if not URL(text).query_string else text, encoded=True)
        authorization = None
        if url.raw_user is not None:
            pair = f"{url.user or ''}:{url.password or ''}".encode()
            authorization = "Basic " + base64.b64encode(pair).decode()
            url = url.with_user(None)
        whole = str(url).rstrip("/")
        path = url.raw_path
        for end in sorted((*CHAT_ENDS, *OTHER_CHAT_ENDS), key=len, reverse=True):
            if path.endswith(end):
                base = str(url.with_path(path.removesuffix(end), encoded=True).with_query(None)).rstrip("/")
                return cls(base, whole, authorization)
        for end in ("/v1", "/api"):
            whole = whole.removesuffix(end)
        return cls(whole, None, authorization)


class ModelServer(Upstream):
    """One own model server."""

    def __init__(self, link: Link, address: Address, *, name: str, parallel: int, found: bool = False) -> None:
        remedy = (
            "Start it (`ollama serve`), or see `masa-node doctor`."
            if found
            else ("Is it running where LLM_CHAT_URL says? `masa-node doctor` looks.")
        )
        super().__init__(link, Place(name, "local:ollama", "ollama", remedy), parallel=parallel, found=found)
        self.at = address
        self.dialects: frozenset[Dialect] = frozenset()
        self.version: str | None = None
        """Of Ollama, where it is one."""

    def model(self, name: str) -> Model | None:
        known = self.models.get(name)
        if known is None and self.version is not None and ":" not in name.rpartition("/")[2]:
            return self.models.get(name + ":latest")
        return known

    def speaks(self, call: Call) -> bool:
        return call.door.dialect == "any" or call.door.dialect in self.dialects

    def target(self, call: Call) -> str:
        query = f"?{call.query}" if call.query else ""
        if call.door.dialect != "any":
            if self.at.chat and self.at.chat.partition("?")[0].endswith(call.door.path) and call.door.path in CHAT_ENDS:
                return self.at.chat
            return self.at.base + call.door.path + query
        return self.at.chat or self.at.base + self._chat_path()

    def credentials(self, call: Call) -> Mapping[str, str]:
        return {"authorization": self.at.authorization} if self.at.authorization else {}

    def address(self) -> str:
        return self.at.chat or self.at.base

    async def refresh(self) -> float:
        try:
            await self._look()
        except (TimeoutError, OSError, aiohttp.ClientError) as error:
            slow = isinstance(error, TimeoutError)
            self.fell(
                f"{self.name} {'did not answer in time' if slow else 'refused the connection'}. {self.place.remedy}"
            )
            return LOOK_WHEN_DOWN
        return LOOK_WHEN_UP

    async def _look(self) -> None:
        version, listed = await asyncio.gather(self._get("/api/version"), self._get("/v1/models"))
        if "x-masa-node" in version.headers or "x-masa-node" in listed.headers:
            self.models = {}
            self.fell(
                f"{self.name} is a masa-node, and a node is never an upstream: point LLM_CHAT_URL at a model server",
                "refused",
            )
            return
        self.version = _version(version)
        openai_entries = _list(listed, "data")
        if self.status != "up":
            self.dialects = await self._dialects(openai_entries is not None)
        if self.version is not None:
            tags, loaded = await asyncio.gather(self._get("/api/tags"), self._get("/api/ps"))
            self.models = _ollama_models(
                _list(tags, "models") or [], _list(loaded, "models"), openai_entries or [], self.dialects
            )
        else:
            self.models = _openai_models(openai_entries or [], self.dialects)
        self.rose()

    async def _dialects(self, openai: bool) -> frozenset[Dialect]:
        spoken: set[Dialect] = set()
        if self.version is not None:
            spoken.add("ollama")
        if openai:
            spoken.add("openai")
        # An empty object starts no work anywhere, and only a server that has the route finds fault with it.
        messages = await self._get("/v1/messages", body=b"{}")
        if messages.status in (400, 401, 403, 422) or (
            messages.status >= 500 and b'"error"' in messages.body and openai
        ):
            spoken.add("anthropic")
        if self.at.chat is not None:
            spoken |= {dialect for end, dialect in CHAT_ENDS.items() if self.at.chat.endswith(end)}  # type: ignore[misc]
        return frozenset(spoken)

    async def _get(self, path: str, body: bytes | None = None) -> Fetched:
        own = {"authorization": self.at.authorization} if self.at.authorization else {}
        headers = own if body is None else {**own, "content-type": "application/json"}
        return await self.link.fetch(
            "GET" if body is None else "POST", self.at.base + path, headers=headers, body=body, within=PROBE_SECONDS
        )

    def _chat_path(self) -> str:
        if "ollama" in self.dialects or not self.dialects:
            return "/api/chat"
        return "/v1/chat/completions" if "openai" in self.dialects else "/v1/messages"


def _json(fetched: Fetched) -> Entry:
    """What is not a JSON object with status 200 tells us nothing: LM Studio answers 200 to every path."""
    if fetched.status != 200:
        return {}
    try:
        return msgspec.json.decode(fetched.body, type=dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _version(fetched: Fetched) -> str | None:
    version = _json(fetched).get("version")
    return version if isinstance(version, str) else None


def _list(fetched: Fetched, key: str) -> list[Entry] | None:
    listed = _json(fetched).get(key)
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else None


def _ollama_models(
    tags: list[Entry], loaded: list[Entry] | None, listed: list[Entry], dialects: frozenset[Dialect]
) -> dict[str, Model]:
    running = {entry.get("name"): entry for entry in loaded or []}
    by_id = {entry.get("id"): entry for entry in listed}
    models = {}
    for entry in tags:
        name = entry.get("name")
        if not isinstance(name, str):
            continue
        entries = {"tags": entry}
        entries |= {"ps": running[name]} if name in running else {}
        entries |= {"models": by_id[name]} if name in by_id else {}
        details = entry.get("details")
        context = details.get("context_length") if isinstance(details, dict) else None
        models[name] = Model(
            name,
            dialects,
            digest=_text(entry.get("digest")),
            context=_count(context) or _count(running.get(name, {}).get("context_length")),
            capabilities=_words(entry.get("capabilities")),
            loaded=None if loaded is None else name in running,
            entries=entries,
        )
    return models


def _openai_models(listed: list[Entry], dialects: frozenset[Dialect]) -> dict[str, Model]:
    """Any server with a `/v1/models`; vLLM and llama.cpp tell the context there."""
    models = {}
    for entry in listed:
        name, meta = entry.get("id"), entry.get("meta")
        if isinstance(name, str):
            context = _count(entry.get("max_model_len")) or _count(
                meta.get("n_ctx") if isinstance(meta, dict) else None
            )
            models[name] = Model(name, dialects, context=context, entries={"models": entry})
    return models


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _words(value: object) -> tuple[str, ...]:
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()
