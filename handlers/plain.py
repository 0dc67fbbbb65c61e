"""A plain request: one that the front door has nothing to say about, read off its first bytes. Pure.

What is not plain is not wrong: aiohttp and the middlewares read it, and refuse it if need be (docs/security.md C-22).
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import httptools
import msgspec

from handlers.chat import caller, crossing
from handlers.middlewares.door import HOST, JSON, bare, is_own
from handlers.middlewares.keys import holds_one
from peers.doors import DOORS
from peers.wire import Door

LONGEST_HEAD = 8190
LARGEST_BODY = 4 * 1024 * 1024
MOST_HEADERS = 64
"""Of a plain request. More are for aiohttp, which refuses more than 128 (docs/security.md C-19)."""
LINES = {f"POST {door.path} HTTP/1.1".encode(): door for door in DOORS}
NAMES = {
    name.encode(): name
    for name in (
        *("host", "user-agent", "accept", "accept-encoding", "accept-language", "connection", "content-type"),
        *("content-length", "authorization", "x-api-key", "x-request-id", "x-masa-ask", "traceparent"),
        *("anthropic-version", "anthropic-beta", "openai-beta"),
    )
}
"""Headers that no check but those below looks at, each of them once."""
LIBRARIES = b"x-stainless-"
"""OpenAI's and Anthropic's own: what they run on. Nothing here reads them."""
LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ?([0-9]{1,7})\r\n")
ANY_LENGTH = b"1"
REMEMBERED = 256
"""Heads whose judgement is kept."""


class Plain(msgspec.Struct):
    """A request on the short way: where its body stands."""

    start: int
    """Where the body begins in the bytes that the head was read off."""
    length: int
    """Of the body."""
    body: bytes = b""
    """Once it is whole."""


class Head(msgspec.Struct, frozen=True):
    """What a plain request's head says beside its length."""

    door: Door
    caller: str
    """Its key; empty: it has none."""
    request_id: str | None
    """As the caller gave it, whatever it is."""
    ask: str | None
    """X-Masa-Ask, whatever it is."""
    crossing: Mapping[str, str]


class PlainRequest(Plain, kw_only=True):
    head: Head


class HeadReader:
    """Collects what httptools reads."""

    __slots__ = ("_count", "_names", "headers", "odd", "whole")

    def __init__(self, names: Mapping[bytes, str]) -> None:
        self._names = names
        self._count = 0
        self.headers: dict[str, str] = {}
        self.odd = False
        self.whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        known = self._names.get(lower)
        self._count += 1
        if known is None:
            self.odd = self.odd or not lower.startswith(LIBRARIES) or self._count > MOST_HEADERS
        elif known in self.headers:
            self.odd = True
        else:
            self.headers[known] = value.decode().strip(" \t")

    def on_headers_complete(self) -> None:
        self.whole = True

    def on_body(self, _: bytes) -> None:
        self.odd = True  # the head ended before its empty line


class Judge:
    """Tells plain requests from others, by the rules of the front door."""

    def __init__(self, hosts: frozenset[str], known: Sequence[bytes], most_body: int) -> None:
        """`hosts`: the names of this node. `known`: its API keys, with which any Host is answered."""
        self._hosts = hosts
        self._known = known
        self._most_body = min(most_body, LARGEST_BODY)
        # Most callers' requests differ in their length, and in nothing else of their heads.
        self._head = lru_cache(REMEMBERED)(self._judge)

    def read(self, data: bytes) -> PlainRequest | None:
        """What stands at the start of `data`, if its head is whole and plain."""
        if data[: data.find(b"\r\n", 0, 64)] not in LINES:
            return None
        end = data.find(b"\r\n\r\n", 0, LONGEST_HEAD) + 4
        told = LENGTH.search(data, 0, end) if end >= 4 else None
        length = int(told[1]) if told is not None else 0
        if told is None or not 0 < length <= self._most_body:
            return None
        head = self._head(data[: told.start(1)] + ANY_LENGTH + data[told.end(1) : end])
        return PlainRequest(end, length, head=head) if head is not None else None

    def _judge(self, data: bytes) -> Head | None:
        """`data`: a whole head, with ANY_LENGTH in the place of its own."""
        door, read = LINES[data[: data.find(b"\r\n")]], read_head(data, NAMES)
        if read is None or not self._passes(read[0]):
            return None
        headers = read[0]
        if headers.get("content-length") != ANY_LENGTH.decode():
            return None  # what was found is not what the parser finds
        return Head(
            door, caller(headers, ""), headers.get("x-request-id"), headers.get("x-masa-ask"), crossing(headers)
        )

    def _passes(self, headers: dict[str, str]) -> bool:
        kind, host, connection = headers.get("content-type", ""), headers.get("host", ""), headers.get("connection")
        if kind != JSON and bare(kind) != JSON:
            return False
        if connection is not None and connection.lower() != "keep-alive":
            return False
        if self._known:
            return HOST.fullmatch(host) is not None and holds_one(headers, self._known)
        return is_own(host, self._hosts)


def read_head(data: bytes, names: Mapping[bytes, str]) -> tuple[dict[str, str], int] | None:
    """The headers at the start of `data`, by `names`, and where they end. None: they are not whole or not HTTP, or they
    are more than these, each of them once."""
    end, read = data.find(b"\r\n\r\n", 0, LONGEST_HEAD) + 4, HeadReader(names)
    head = data[:end]
    try:
        if end < 4 or not head.isascii():
            return None
        httptools.HttpRequestParser(read).feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    return None if read.odd or not read.whole else (read.headers, end)
