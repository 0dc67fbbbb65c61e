"""The official clients, sync and async, pointed at a base URL and nothing else; what they return, as plain data."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anthropic
import httpx
import ollama
import openai
from langchain_core.messages import BaseMessage
from langchain_ollama import ChatOllama, OllamaEmbeddings
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

KEY = "a-key-of-no-one"

Make = Callable[[str, str], Any]
"""A client of this base URL and key. No retries: what is to be seen is the first answer."""

SYNC: dict[str, Make] = {
    "ollama": lambda url, key: ollama.Client(host=url, headers={"Authorization": f"Bearer {key}"}),
    "openai": lambda url, key: openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0),
    "anthropic": lambda url, key: anthropic.Anthropic(base_url=url, api_key=key, max_retries=0),
}
ASYNC: dict[str, Make] = {
    "ollama": lambda url, key: ollama.AsyncClient(host=url, headers={"Authorization": f"Bearer {key}"}),
    "openai": lambda url, key: openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0),
    "anthropic": lambda url, key: anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0),
}

Use = Callable[[Any], Any]
"""What is done with a client; the sync and the async one take the same words."""


async def used(how: dict[str, Make], package: str, url: str, use: Use, *, key: str = KEY) -> Any:
    """What `use` of the package's client returns."""
    if how is SYNC:
        return await asyncio.to_thread(_used_here, SYNC[package], url, key, use)
    # Made and first touched in a thread: what it imports on first use is read from the disk.
    client = await asyncio.to_thread(ASYNC[package], url, key)
    async with client:
        return await plain_of(await asyncio.to_thread(use, client))


def _used_here(make: Make, url: str, key: str, use: Use) -> Any:
    with make(url, key) as client:
        return plain(use(client))


async def plain_of(value: Any) -> Any:
    """The same of what an async client returns: to be awaited, a stream, or both."""
    if inspect.isawaitable(value):
        value = await value
    if isinstance(value, AsyncIterator) or (hasattr(value, "__aiter__") and not isinstance(value, BaseModel)):
        return [plain(part) async for part in value]
    return plain(value)


def plain(value: Any) -> Any:
    """A stream becomes a list, and an object what it holds; ids that langchain invents are left out."""
    if isinstance(value, BaseMessage):
        return value.model_dump(exclude={"id"})
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Iterator) or (hasattr(value, "__iter__") and hasattr(value, "response")):
        return [plain(part) for part in value]
    return value


@contextmanager
def langchain(url: str) -> Iterator[dict[str, Any]]:
    """Its models and embeddings, by the package behind them; closed at the end."""
    common = {"base_url": f"{url}/v1", "api_key": KEY, "max_retries": 0}
    with httpx.Client() as http:
        made = {
            "ollama": ChatOllama(model="llama3", base_url=url),
            "openai": ChatOpenAI(model="llama3", http_client=http, **common),
            "ollama embeddings": OllamaEmbeddings(model="llama3", base_url=url),
            # Its check of lengths would fetch a tokenizer.
            "openai embeddings": OpenAIEmbeddings(
                model="llama3", http_client=http, check_embedding_ctx_length=False, **common
            ),
        }
        try:
            yield made
        finally:
            for one in (made["ollama"], made["ollama embeddings"]):
                one._client.close()


@asynccontextmanager
async def async_langchain(url: str) -> AsyncIterator[dict[str, Any]]:
    common = {"base_url": f"{url}/v1", "api_key": KEY, "max_retries": 0}
    http = await asyncio.to_thread(httpx.AsyncClient)
    async with http:
        chat = await asyncio.to_thread(ChatOllama, model="llama3", base_url=url)
        made = {
            "ollama": chat,
            "openai": await asyncio.to_thread(ChatOpenAI, model="llama3", http_async_client=http, **common),
        }
        try:
            yield made
        finally:
            await chat._async_client.close()
