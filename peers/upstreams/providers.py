"""Hosted providers by key: OpenAI, Groq, DeepSeek, Anthropic."""

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import msgspec

from peers.upstreams.link import Link, Place
from peers.upstreams.upstream import Upstream
from peers.wire import Call, Dialect, Model

LOOK_WHEN_UP = 600.0
LOOK_WHEN_DOWN = 30.0
LIST_SECONDS = 5.0
ANTHROPIC_VERSION = "2023-06-01"


@dataclass(frozen=True, slots=True)
class Provider:
    """What sets one provider apart."""

    name: str
    base: str
    dialect: Dialect
    chat: str
    """Where the mission's doors lead."""


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("openai", "https://api.openai.com", "openai", "/v1/chat/completions"),
        Provider("groq", "https://api.groq.com/openai", "openai", "/v1/chat/completions"),
        Provider("deepseek", "https://api.deepseek.com", "openai", "/v1/chat/completions"),
        Provider("anthropic", "https://api.anthropic.com", "anthropic", "/v1/messages"),
    )
}


class HostedProvider(Upstream):
    """One provider of PROVIDERS. Its models are those the operator names, else those it lists for this key."""

    def __init__(self, link: Link, provider: Provider, *, key: str, url: str | None, models: tuple[str, ...]) -> None:
        upper = provider.name.upper()
        remedy = f"See {upper}_API_KEY and LLM_{upper}_URL, and `masa-node doctor`."
        super().__init__(link, Place(provider.name, f"local:{provider.name}", provider.name, remedy))
        self.provider = provider
        self.base = (url or provider.base).rstrip("/").removesuffix("/v1")
        self._key = key
        self._configured = models
        self.models = self._listed([{"id": name} for name in models])

    def target(self, call: Call) -> str:
        path = self.provider.chat if call.door.dialect == "any" else call.door.path
        return self.base + path + (f"?{call.query}" if call.query else "")

    def credentials(self, call: Call) -> Mapping[str, str]:
        return self._keyed(call.headers.get("anthropic-version", ANTHROPIC_VERSION))

    def address(self) -> str:
        return self.base

    async def refresh(self) -> float:
        if self._configured:
            self.rose()
            return LOOK_WHEN_UP
        try:
            fetched = await self.link.fetch(
                "GET", self.base + "/v1/models", headers=self._keyed(ANTHROPIC_VERSION), within=LIST_SECONDS
            )
        except (TimeoutError, OSError, aiohttp.ClientError):
            self.fell(f"{self.name} could not be reached. {self.place.remedy}")
            return LOOK_WHEN_DOWN
        if fetched.status != 200:
            self.fell(f"{self.name} answered {fetched.status} when asked for its models. {self.place.remedy}")
            return LOOK_WHEN_DOWN
        self.models = self._listed(_entries(fetched.body))
        self.rose()
        return LOOK_WHEN_UP

    def _keyed(self, version: str) -> Mapping[str, str]:
        if self.provider.dialect == "anthropic":
            return {"x-api-key": self._key, "anthropic-version": version}
        return {"authorization": f"Bearer {self._key}"}

    def _listed(self, entries: list[dict[str, object]]) -> dict[str, Model]:
        dialects: frozenset[Dialect] = frozenset({self.provider.dialect})
        named = [(entry["id"], entry) for entry in entries if isinstance(entry.get("id"), str)]
        return {str(name): Model(str(name), dialects, entries={"models": entry}) for name, entry in named}


class _Listed(msgspec.Struct):
    data: list[dict[str, object]]


def _entries(body: bytes) -> list[dict[str, object]]:
    try:
        return msgspec.json.decode(body, type=_Listed).data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
