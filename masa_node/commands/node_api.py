"""The commands' own HTTP client to a running node: where it is, one exchange with it, and what went wrong in words."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

from config.kinds import is_loopback
from config.settings import ConfigError, Settings, load
from masa_node.commands.screen import printable

CONNECT_SECONDS = 5.0
LIST_SECONDS = 10.0
PIECE = 65536


class NodeError(Exception):
    """No answer, or not the one that was asked for: in words, for the person at the terminal."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code
        """The command's exit code."""


class Refused(NodeError):
    """A node answered, but not with status 200; the text is its own."""


@dataclass(frozen=True, slots=True)
class NodeApi:
    """A node's client API at `url`, which has no final slash."""

    url: str
    key: str | None = None

    def get(self, path: str, *, within: float = LIST_SECONDS) -> bytes:
        """The body of an answer with status 200. Raises NodeError."""
        with self.asked("GET", path, within=within) as response:
            return b"".join(pieces(response))

    @contextmanager
    def asked(self, method: str, path: str, body: object = None, *, within: float | None) -> Iterator[HTTPResponse]:
        """An open answer with status 200; leaving the block closes the connection, and the node stops its work.

        `within`: seconds the node may be silent. Raises NodeError, with the node's own text where it says one.
        """
        with closing(self._connected()) as connection:
            connection.sock.settimeout(within)
            with closing(self._response(connection, method, path, body)) as response:
                if response.headers.get("X-Masa-Node") is None:
                    raise NodeError(f"what answers at {self.url} is not a masa-node; say where yours is with --url")
                if response.status != 200:
                    raise Refused(self._refusal(response))
                yield response

    def _connected(self) -> HTTPConnection:
        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=CONNECT_SECONDS)
        try:
            connection.connect()
        except (OSError, UnicodeError) as error:
            if parts.scheme == "https":
                plain = "a node itself speaks plain http, as in --url http://127.0.0.1:8080"
                raise NodeError(f"no TLS with a node at {self.url} ({error}); {plain}") from None
            raise NodeError(f"no node answers at {self.url}; start one with `masa-node run`") from None
        return connection

    def _response(self, connection: HTTPConnection, method: str, path: str, body: object) -> HTTPResponse:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        content = None
        if body is not None:
            content, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        try:
            connection.request(method, urlsplit(self.url).path + path, content, headers)
            return connection.getresponse()
        except TimeoutError:
            raise NodeError(f"the node at {self.url} took the connection and did not answer") from None
        except OSError:
            raise NodeError(f"{self.url} took the connection and dropped it before an answer") from None
        except HTTPException:
            raise NodeError(
                f"what answers at {self.url} does not speak HTTP; say where your node is with --url"
            ) from None

    def _refusal(self, response: HTTPResponse) -> str:
        text = error_text(b"".join(pieces(response))) or f"the node at {self.url} answered {response.status}"
        hint = " (the commands take it from --key, or from API_KEYS for a node of this machine)"
        return text + (hint if response.status == 401 else "")


def with_node(arguments: argparse.Namespace, command: Callable[[NodeApi], None]) -> int:
    """Run `command` on the node that the arguments and settings name. Returns the exit code."""
    try:
        command(find_node(arguments.url, arguments.key))
    except ConfigError as error:
        print(error.report(), file=sys.stderr)
        return 2
    except NodeError as error:
        print(f"masa-node: {printable(str(error))}", file=sys.stderr)
        return error.code
    return 0


def find_node(url: str | None, key: str | None) -> NodeApi:
    """Raises ConfigError, or NodeError for a URL or key that cannot be used."""
    if url is not None and key is not None:
        return NodeApi(_base(url), _checked(key))
    settings = load(os.environ).settings
    at = _base(url) if url is not None else address(settings)
    # Our keys are for nodes of this machine: another one that --url names must not learn them.
    ours = url is None or (host := urlsplit(at).hostname or "") == settings.host or is_loopback(host)
    if key is None and ours and settings.api_keys:
        key = settings.api_keys[0].get_secret_value()
    return NodeApi(at, _checked(key) if key else None)


def address(settings: Settings) -> str:
    """Where the node with these settings answers callers on its own machine. Raises NodeError."""
    if not settings.port:
        raise NodeError("PORT=0 picks a port at each start: say where the node is with --url", code=2)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - read, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def pieces(response: HTTPResponse) -> Iterator[bytes]:
    """The body as it arrives. Raises NodeError when it is cut."""
    try:
        while piece := response.read1(PIECE):
            yield piece
    except (HTTPException, OSError):
        raise NodeError("the answer was cut off before its end") from None
    if response.length:
        raise NodeError("the answer was cut off before its end")


def error_text(body: bytes) -> str | None:
    """What an error body says, in any dialect."""
    told = _object(body).get("error")
    if isinstance(told, dict):
        told = told.get("message")
    return told if isinstance(told, str) and told else None


def read_object(body: bytes) -> dict[str, Any]:
    """Raises NodeError when it is no JSON object."""
    told = _object(body)
    if not told:
        raise NodeError("the node's answer is not understood; are the node and this command of one version?")
    return told


def _object(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _base(text: str) -> str:
    """`host:port` will do; an OpenAI client's base URL too."""
    text = (text if "://" in text else f"http://{text}").rstrip("/").removesuffix("/v1")
    parts = _split(text)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise NodeError("--url is not the URL of a node: write it as in http://127.0.0.1:8080", code=2)
    return text


def _split(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        return parts if parts.port != 0 and text.isascii() and text.isprintable() and " " not in text else None
    except ValueError:
        return None


def _checked(key: str) -> str:
    if not (key.isascii() and key.isprintable() and key):
        raise NodeError("--key is not a word of printable ASCII", code=2)
    return key
