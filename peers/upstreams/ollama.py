"""An own model server: Ollama, llama.cpp, vLLM, LM Studio … It is asked its dialects, and gets only those."""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from yarl import URL

from config.kinds import masked_url
from peers.http1.errors import NoSuchName, Unreached, UnreachedInTime
from peers.peek import askable
from peers.upstreams.link import Fetched, Link, Place
from peers.upstreams.upstream import Upstream, with_query
from peers.wire import Call, Dialect, Model

PROBE_SECONDS = 3.0
RUNNING_SECONDS = 1.0
LOOK_WHEN_UP = 15.0
LOOK_WHEN_DOWN = 3.0
CHATS: Mapping[Dialect, str] = {"ollama": "/api/chat", "openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
"""Each dialect's chat path, in the order in which the mission's doors prefer them."""
CHAT_ENDS: Mapping[str, Dialect | None] = {path: dialect for dialect, path in CHATS.items()} | {
    "/chat/completions": "openai",
    **dict.fromkeys(("/v1/api/chat", "/api/v1/chat", "/chat", "/v1/completions", "/completions", "/api/generate")),
}
"""How full chat URLs end; None: what they speak is the caller's business."""
Entry = dict[str, object]


@dataclass(frozen=True, slots=True)
class Address:
    """What LLM_CHAT_URL says of one server."""

    base: str
    """Without a final slash; dialect paths are appended."""
    chat: str | None = None
    """A full chat URL, used as written: by the mission's doors, and by the chat path of its dialect."""
    dialect: Dialect | None = None
    """Of the full chat URL."""
    authorization: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Address":
        """A base (`http://host:11434`, also with `/v1` or `/api` at its end) or a full chat URL."""
        url = URL(text, encoded=True)
        authorization = None
        if url.raw_user is not None:
            pair = f"{url.user or ''}:{url.password or ''}".encode()
            authorization = "Basic " + base64.b64encode(pair).decode()
            url = url.with_user(None)
        path = url.raw_path.rstrip("/")
        for end in sorted(CHAT_ENDS, key=len, reverse=True):
            if path.endswith(end):
                return cls(_base(url, path.removesuffix(end)), str(url), CHAT_ENDS[end], authorization)
        end = next((end for end in ("/v1", "/api") if path.endswith(end)), "")
        return cls(_base(url, path.removesuffix(end)), authorization=authorization)


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
        """None of them: it has never answered, or only its full chat URL is known."""
        self.version: str | None = None
        """Of Ollama, where it is one."""
        self._running: frozenset[str] | None = None
        self._running_at = float("-inf")
        self._asking = asyncio.Lock()

    def model(self, name: str) -> Model | None:
        known = self.models.get(name)
        if known is None and self.version is not None and ":" not in name.rpartition("/")[2]:
            return self.models.get(name + ":latest")
        return known

    def speaks(self, call: Call) -> bool:
        """It may know the call's dialect."""
        return call.door.dialect == "any" or call.door.dialect in self.dialects or not self.dialects

    def target(self, call: Call) -> str:
        mission = call.door.dialect == "any"
        if self.at.chat and (mission or (self.at.dialect and call.door.path == CHATS[self.at.dialect])):
            return with_query(self.at.chat, call)
        return with_query(self.at.base + (self._chat_path() if mission else call.door.path), call)

    def credentials(self, call: Call) -> Mapping[str, str]:
        return self._own()

    def address(self) -> str:
        return masked_url(self.at.chat or self.at.base)

    async def refresh(self) -> float:
        try:
            await self._look()
        except OSError as error:
            self.fell(f"{self.name} {_failed(error)}. {self.place.remedy}")
        return LOOK_WHEN_DOWN if self.status == "down" else LOOK_WHEN_UP

    async def loaded(self, name: str) -> bool | None:
        """Whether it has the model in memory, by what it said less than RUNNING_SECONDS ago; None: it does not tell."""
        model = self.model(name)
        if model is None or self.version is None:
            return None
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if now - self._running_at >= RUNNING_SECONDS:
                self._running_at, self._running = now, await self._ask_running()
        return None if self._running is None else model.name in self._running

    async def _ask_running(self) -> frozenset[str] | None:
        try:
            listed = _list(await self._get("/api/ps", within=RUNNING_SECONDS), "models")
        except OSError:
            return None
        return None if listed is None else frozenset(str(entry.get("name")) for entry in listed)

    async def _look(self) -> None:
        version, listed = await self._get("/api/version"), await self._get("/v1/models")
        self.no_node = "x-masa-node" not in {**version.headers, **listed.headers}
        if not self.no_node:
            self.refuse()
            return
        self.version, entries = _version(version), _list(listed, "data")
        await self._learn_dialects(openai=entries is not None)
        if not self.dialects and self.at.chat is None:
            answered = f"GET /api/version with {version.status} and GET /v1/models with {listed.status}"
            self.fell(f"{self.name} answers {answered}, but not as a model server does. {self.place.remedy}")
            return
        models = await self._models(entries)
        if models is not None:
            self.models = models
        self.rose()

    async def _learn_dialects(self, *, openai: bool) -> None:
        """Whether it speaks Anthropic's is asked only when the rest has changed: some servers log each try."""
        spoken: set[Dialect] = {self.at.dialect} if self.at.dialect else set()
        spoken |= {"ollama"} if self.version is not None else set()
        spoken |= {"openai"} if openai else set()
        if self.status == "up" and spoken == self.dialects - ({"anthropic"} - spoken):
            return
        # An empty object starts no work anywhere, and only a server that has the route finds fault with it.
        found = await self._get("/v1/messages", body=b"{}")
        locked, broken = found.status in (401, 403), found.status >= 500 and b'"error"' in found.body
        # Who answers nothing but this so, answers everything so.
        if found.status in (400, 422) or (spoken and (locked or broken)):
            spoken.add("anthropic")
        self.dialects = frozenset(spoken)

    async def _models(self, entries: list[Entry] | None) -> dict[str, Model] | None:
        """None: its lists cannot be read, and what it last said counts."""
        if self.version is None:
            return None if entries is None else _openai_models(entries, self.dialects)
        tags, loaded = _list(await self._get("/api/tags"), "models"), _list(await self._get("/api/ps"), "models")
        return None if tags is None else _ollama_models(tags, loaded, entries or [], self.dialects)

    async def _get(self, path: str, body: bytes | None = None, within: float = PROBE_SECONDS) -> Fetched:
        method, headers = "GET", self._own()
        if body is not None:
            method, headers = "POST", headers | {"content-type": "application/json"}
        return await self.link.fetch(method, self.at.base + path, headers=headers, body=body, within=within)

    def _own(self) -> dict[str, str]:
        return {"authorization": self.at.authorization} if self.at.authorization else {}

    def _chat_path(self) -> str:
        return next((path for dialect, path in CHATS.items() if dialect in self.dialects), CHATS["ollama"])


def _base(url: URL, path: str) -> str:
    return str(url.with_path(path, encoded=True)).rstrip("/")


def _failed(error: OSError) -> str:
    match error:
        case TimeoutError() | UnreachedInTime():
            return "did not answer in time"
        case NoSuchName():
            return "has a host name that leads nowhere"
        case Unreached():
            return "refused the connection"
    return "dropped the connection"


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
        if not isinstance(name, str) or not askable(name):
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
            size=_count(entry.get("size")),
            entries=entries,
        )
    return models


def _openai_models(listed: list[Entry], dialects: frozenset[Dialect]) -> dict[str, Model]:
    """Any server with a `/v1/models`; vLLM and llama.cpp tell the context there."""
    models = {}
    for entry in listed:
        name, meta = entry.get("id"), entry.get("meta")
        if isinstance(name, str) and askable(name):
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
