"""Cloudflare Workers AI: its native door, the OpenAI face beside it, or an own Worker."""

import re
from collections.abc import Iterable, Mapping

import msgspec
from yarl import URL

from config.kinds import masked_url
from peers.upstreams.link import Link, Place
from peers.upstreams.upstream import Hosted, with_query
from peers.wire import Call, Dialect, Model

MODEL = re.compile(r"@(cf|hf)/[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_-][A-Za-z0-9_.-]*")
OPENAI_FACE = ("/v1/chat/completions", "/v1/embeddings")
KEEP_LIST_SECONDS = 3600.0
REMEDY = "See LLM_CF_URL and LLM_CF_TOKEN, and `masa-node doctor`."


class Cloudflare(Hosted):
    """Models named `@cf/…` and `@hf/…`: any of them is handed on, those in the list are also shown.

    Only Cloudflare's own API lists models; a gateway and an own Worker are taken at the operator's word.
    """

    def __init__(
        self, link: Link, url: str, *, token: str | None, gateway_token: str | None, models: tuple[str, ...]
    ) -> None:
        base = url.rstrip("/") + "/"
        self.native = base if base.endswith(("/workers-ai/", "/ai/run/")) else None
        """The base a model is appended to; None: `worker` is an own Worker's URL."""
        self.worker = worker(url)
        self._own = {"authorization": f"Bearer {token}"} if token else {}
        if gateway_token:
            self._own["cf-aig-authorization"] = f"Bearer {gateway_token}"
        lists = base.endswith("/ai/run/") and not models
        list_url = base.removesuffix("run/") + "models/search?per_page=100" if lists else None
        place = Place("cloudflare", "local:cloudflare", "cloudflare", REMEDY)
        super().__init__(link, place, list_url=list_url, keep=KEEP_LIST_SECONDS)
        self.no_node = (URL(url).host or "").endswith(".cloudflare.com")
        self.models = self._models(models)

    def model(self, name: str) -> Model | None:
        return self._model(name) if MODEL.fullmatch(name) else None

    def serves(self, call: Call) -> bool:
        if not MODEL.fullmatch(call.model):
            return False
        return call.door.dialect == "any" or (self.native is not None and call.door.path in OPENAI_FACE)

    def target(self, call: Call) -> str:
        """Joined as text: yarl's `/` would resolve dots, and model names stay unescaped."""
        if self.native is None:
            return self.worker
        if call.door.dialect == "any":
            return self.native + call.model
        return with_query(self.native.removesuffix("run/") + call.door.path.removeprefix("/"), call)

    def credentials(self, call: Call) -> Mapping[str, str]:
        return self._own

    def address(self) -> str:
        return masked_url(self.native or self.worker)

    def list_headers(self) -> Mapping[str, str]:
        return self._own

    def listed(self, body: bytes) -> Mapping[str, Model] | None:
        try:
            return self._models(model.name for model in msgspec.json.decode(body, type=_Search).result)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _models(self, names: Iterable[str]) -> dict[str, Model]:
        return {name: self._model(name) for name in names if MODEL.fullmatch(name)}

    def _model(self, name: str) -> Model:
        dialects: frozenset[Dialect] = frozenset({"openai"} if self.native else ())
        return Model(name, dialects)


class _Named(msgspec.Struct):
    """The `id` beside it is a UUID that no door takes."""

    name: str


class _Search(msgspec.Struct):
    result: list[_Named]


def worker(url: str) -> str:
    """An own Worker's URL, as it is POSTed to."""
    parts = URL(url, encoded=True)
    return url if parts.raw_path not in ("", "/") else str(parts.with_path("/api/v1/chat", keep_query=True))
