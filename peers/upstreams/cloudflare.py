"""Cloudflare Workers AI: its native door, the OpenAI face beside it, or an own Worker."""

import re
from collections.abc import Mapping

import aiohttp
import msgspec
from yarl import URL

from peers.upstreams.link import Link, Place
from peers.upstreams.upstream import Upstream
from peers.wire import Call, Dialect, Model

MODEL = re.compile(r"@(cf|hf)/[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_-][A-Za-z0-9_.-]*")
OPENAI_FACE = ("/v1/chat/completions", "/v1/embeddings")
LOOK_WHEN_UP = 3600.0
LOOK_WHEN_DOWN = 30.0
LIST_SECONDS = 5.0
REMEDY = "See LLM_CF_URL and LLM_CF_TOKEN, and `masa-node doctor`."


class Cloudflare(Upstream):
    """Models named `@cf/…` and `@hf/…`: any of them is handed on, those in the list are also shown."""

    def __init__(
        self, link: Link, url: str, *, token: str | None, gateway_token: str | None, models: tuple[str, ...]
    ) -> None:
        super().__init__(link, Place("cloudflare", "local:cloudflare", "cloudflare", REMEDY))
        base = url.rstrip("/") + "/"
        self.native = base if base.endswith(("/workers-ai/", "/ai/run/")) else None
        """The base a model is appended to; None: `worker` is an own Worker's URL."""
        self.worker = url if URL(url).path not in ("", "/") else url.rstrip("/") + "/api/v1/chat"
        self._own = {"authorization": f"Bearer {token}"} if token else {}
        if gateway_token:
            self._own["cf-aig-authorization"] = f"Bearer {gateway_token}"
        self._configured = models
        self.models = self._listed(models)

    def model(self, name: str) -> Model | None:
        return self._model(name) if MODEL.fullmatch(name) else None

    def serves(self, call: Call) -> bool:
        if not MODEL.fullmatch(call.model):
            return False
        return call.door.dialect == "any" or (self.native is not None and call.door.path in OPENAI_FACE)

    def target(self, call: Call) -> str:
        """Joined as text: yarl's `/` would resolve dots, and model names stay unescaped."""
        query = f"?{call.query}" if call.query else ""
        if self.native is None:
            return self.worker + query
        if call.door.dialect == "any":
            return self.native + call.model + query
        return self.native.removesuffix("run/") + call.door.path.removeprefix("/") + query

    def credentials(self, call: Call) -> Mapping[str, str]:
        return self._own

    def address(self) -> str:
        return self.native or self.worker

    async def refresh(self) -> float:
        """Only Cloudflare's own API lists models; a gateway and an own Worker are taken at the operator's word."""
        if self.native is None or not self.native.endswith("/ai/run/") or self._configured:
            self.rose()
            return LOOK_WHEN_UP
        url = self.native.removesuffix("run/") + "models/search?per_page=100"
        try:
            fetched = await self.link.fetch("GET", url, headers=self._own, within=LIST_SECONDS)
        except (TimeoutError, OSError, aiohttp.ClientError):
            self.fell(f"cloudflare could not be reached. {REMEDY}")
            return LOOK_WHEN_DOWN
        if fetched.status in (401, 403):
            self.fell(f"cloudflare refused the token ({fetched.status}). {REMEDY}")
            return LOOK_WHEN_DOWN
        self.models = self._listed(_names(fetched.body)) or self.models
        self.rose()
        return LOOK_WHEN_UP

    def _listed(self, names: tuple[str, ...]) -> dict[str, Model]:
        return {name: self._model(name) for name in names if MODEL.fullmatch(name)}

    def _model(self, name: str) -> Model:
        dialects: frozenset[Dialect] = frozenset({"openai"} if self.native else ())
        return Model(name, dialects)


class _Named(msgspec.Struct):
    """The `id` beside it is a UUID that no door takes."""

    name: str


class _Search(msgspec.Struct):
    result: list[_Named]


def _names(body: bytes) -> tuple[str, ...]:
    try:
        return tuple(model.name for model in msgspec.json.decode(body, type=_Search).result)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
