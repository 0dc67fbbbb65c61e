"""Hosted providers by key: OpenAI, Groq, DeepSeek, Anthropic."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from config.kinds import masked_url
from peers.peek import askable
from peers.upstreams.link import Link, Place
from peers.upstreams.upstream import Hosted, with_query
from peers.wire import Call, Dialect, Model

KEEP_LIST_SECONDS = 600.0
ANTHROPIC_VERSION = "2023-06-01"


@dataclass(frozen=True, slots=True)
class Provider:
    """What sets one provider apart."""

    name: str
    base: str
    dialect: Dialect = "openai"
    chat: str = "/v1/chat/completions"
    """Where the mission's doors lead."""
    models: str = "/v1/models"


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("openai", "https://api.openai.com"),
        Provider("groq", "https://api.groq.com/openai"),
        Provider("deepseek", "https://api.deepseek.com"),
        # Its list has pages of 20 unless more are asked for.
        Provider("anthropic", "https://api.anthropic.com", "anthropic", "/v1/messages", "/v1/models?limit=1000"),
    )
}


class HostedProvider(Hosted):
    """One provider of PROVIDERS. Its models are those the operator names, else those it lists for this key."""

    def __init__(self, link: Link, provider: Provider, *, key: str, url: str | None, models: tuple[str, ...]) -> None:
        upper = provider.name.upper()
        remedy = f"See {upper}_API_KEY and LLM_{upper}_URL, and `masa-node doctor`."
        self.provider = provider
        self.base = (url or provider.base).rstrip("/").removesuffix("/v1")
        self._key = key
        place = Place(provider.name, f"local:{provider.name}", provider.name, remedy)
        list_url = None if models else self.base + provider.models
        super().__init__(link, place, list_url=list_url, keep=KEEP_LIST_SECONDS)
        self.no_node = url is None
        self.models = self._models({"id": name} for name in models)

    def target(self, call: Call) -> str:
        path = self.provider.chat if call.door.dialect == "any" else call.door.path
        return with_query(self.base + path, call)

    def credentials(self, call: Call) -> Mapping[str, str]:
        return self._keyed(call.headers.get("anthropic-version", ANTHROPIC_VERSION))

    def address(self) -> str:
        return masked_url(self.base)

    def list_headers(self) -> Mapping[str, str]:
        return self._keyed(ANTHROPIC_VERSION)

    def listed(self, body: bytes) -> Mapping[str, Model] | None:
        try:
            return self._models(msgspec.json.decode(body, type=_Listed).data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _keyed(self, version: str) -> Mapping[str, str]:
        if self.provider.dialect == "anthropic":
            return {"x-api-key": self._key, "anthropic-version": version}
        return {"authorization": f"Bearer {self._key}"}

    def _models(self, entries: Iterable[dict[str, object]]) -> dict[str, Model]:
        dialects: frozenset[Dialect] = frozenset({self.provider.dialect})
        named = [
            (entry["id"], entry) for entry in entries if isinstance(entry.get("id"), str) and askable(str(entry["id"]))
        ]
        return {str(name): Model(str(name), dialects, entries={"models": entry}) for name, entry in named}


class _Listed(msgspec.Struct):
    data: list[dict[str, object]]
