"""Calls for upstreams, and requests for nodes, written in one line each."""

import json
from collections.abc import Mapping
from contextlib import closing
from typing import Any, NamedTuple

import aiohttp
from yarl import URL

from peers.doors import BY_PATH
from peers.upstreams.upstream import Upstream
from peers.wire import Call

HELLO = {"messages": [{"role": "user", "content": "why is the sky blue?"}]}


class Answered(NamedTuple):
    """An answer that was read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def route(self) -> str:
        return self.headers["X-Masa-Route"]


def call(path: str = "/api/chat", model: str = "llama3", **more: Any) -> Call:
    """A call as the node makes it of a request to `path`."""
    body = json.dumps({"model": model, **HELLO}).encode()
    given = {"id": "r1", "door": BY_PATH[path], "model": model, "stream": False, "body": body}
    return Call(**(given | {"headers": {"content-type": "application/json"}} | more))


async def opened(upstream: Upstream, asked: Call) -> tuple[int, bytes]:
    """Status and body of an upstream's answer."""
    reply = await upstream.open(asked)
    with closing(reply):
        return reply.status, b"".join([chunk async for chunk in reply.chunks])


async def ask(
    url: str, path: str, model: str | None = "llama3", *, headers: Mapping[str, str] | None = None, **fields: Any
) -> Answered:
    """POST a chat with `model` and `fields` to `path`."""
    body = {**HELLO, "stream": False, **fields} | ({} if model is None else {"model": model})
    return await exchange("POST", url, path, headers, json.dumps(body).encode())


async def get(url: str, path: str, *, headers: Mapping[str, str] | None = None, method: str = "GET") -> Answered:
    return await exchange(method, url, path, headers, None)


async def exchange(method: str, url: str, path: str, headers: Mapping[str, str] | None, body: bytes | None) -> Answered:
    sent = {"Content-Type": "application/json"} if body is not None else {}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
        session.request(method, URL(url + path, encoded=True), data=body, headers={**sent, **(headers or {})}) as got,
    ):
        return Answered(got.status, got.headers, await got.read())
