"""The front door: a strict request head, Host, Origin and content type, before anything else looks at a request
(docs/security.md C-2, C-17, C-22)."""

import functools
import ipaddress
import re
import socket

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler, Middleware

from config.settings import Settings
from handlers.keys import EXPECT, LIFE, ORIGIN
from peers.doors import BY_PATH
from peers.errors import BadRequest, Busy, MasaError

HOST = re.compile(r"(?=.{1,255}\Z)([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?", re.ASCII)
VALUE = re.compile(r"[\t\x20-\x7e]*", re.ASCII)
TARGET = re.compile(r"(?:https?://(?P<authority>[^/?]*))?[\x21\x22\x24-\x7e]*", re.ASCII)
"""Printable, without a fragment; in full only for HTTP."""
ORIGIN_FORM = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#@\\:\[\]]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.ASCII)
NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,1024}", re.ASCII)
BROWSER = ("Origin", "Referer", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Sec-Fetch-User")
ALWAYS = ("localhost", "host.docker.internal", "host.containers.internal")
JSON = "application/json"
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST",
    "Access-Control-Max-Age": "600",
}


def door(settings: Settings) -> Middleware:
    """The middleware for these settings."""
    hosts = own_hosts(settings)
    origins = tuple(settings.cors_origins)
    keyed = bool(settings.api_keys)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.app[LIFE].closed:
            raise Busy("this node is stopping", code="draining", close=True)
        check_head(request)
        if not keyed:
            check_host(request, hosts)
        origin = check_origin(request, origins)
        if origin is not None:
            request[ORIGIN] = origin
            if request.method == hdrs.METH_OPTIONS and "Access-Control-Request-Method" in request.headers:
                return preflight(request)
        return await handler(request)

    return check


def check_head(request: web.Request) -> None:
    """What aiohttp lets pass and RFC 9112 does not. Raises MasaError, and the connection is closed."""
    for _, value in request.raw_headers:
        if not VALUE.fullmatch(value.decode("latin-1")):
            raise MasaError(400, "bad_request", "a header has a byte outside printable ASCII", close=True)
    encoding = request.headers.get(hdrs.TRANSFER_ENCODING)
    if encoding is not None and (encoding != "chunked" or request.version == HttpVersion10):
        raise MasaError(
            400, "bad_request", "Transfer-Encoding may only be `chunked`, and only with HTTP/1.1", close=True
        )
    target = TARGET.fullmatch(request.raw_path)
    if target is None:
        raise MasaError(
            400, "bad_request", "the request target is not printable ASCII, or it has a fragment", close=True
        )
    host = request.headers.get(hdrs.HOST)
    if (host is None and request.version == HttpVersion11) or (host is not None and not HOST.fullmatch(host)):
        raise MasaError(400, "bad_request", "Host is missing or not a host name", close=True)
    if not request.raw_path.startswith(("/", "*")) and (host is None or target["authority"] != host):
        raise MasaError(400, "bad_request", "the authority of the request target and Host differ", close=True)
    if EXPECT in request and request[EXPECT].lower() != "100-continue":
        raise MasaError(417, "expectation_failed", "the only expectation met here is `100-continue`", close=True)


def own_hosts(settings: Settings) -> frozenset[str]:
    """The names this node goes by, in lower case."""
    machine = socket.gethostname().lower()
    return frozenset(
        {*ALWAYS, settings.host.lower(), machine, machine.partition(".")[0], *map(str.lower, settings.allowed_hosts)}
    )


def check_host(request: web.Request, hosts: frozenset[str]) -> None:
    """A page that rebound its name to this machine still sends its own name. Raises MasaError 403 `bad_host`."""
    host = request.headers.get(hdrs.HOST)
    if host is None:
        text = "the request has no Host; send one, as in `Host: localhost`, or ask by HTTP/1.1, which always has one"
        raise MasaError(403, "bad_host", text, close=True)
    if not is_own(host, hosts):
        text = "this Host is not one of this node's; add it to ALLOWED_HOSTS, or ask by IP address"
        raise MasaError(403, "bad_host", text, close=True)


@functools.lru_cache(maxsize=256)
def is_own(host: str, hosts: frozenset[str]) -> bool:
    """Whether it is a host name at all, and one of this node's."""
    name = host_name(host)
    return HOST.fullmatch(host) is not None and (name in hosts or name.endswith(".localhost") or _is_address(name))


def host_name(host: str) -> str:
    """Without port and brackets, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def check_origin(request: web.Request, allowed: tuple[str, ...]) -> str | None:
    """The Origin, where there is one and it may ask. Raises MasaError 403 `bad_origin`."""
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None:
        own = f"http://{request.headers.get(hdrs.HOST)}"
        if len(request.headers.getall(hdrs.ORIGIN)) == 1 and (origin == own or origin_allowed(origin, allowed)):
            return origin
        raise MasaError(
            403,
            "bad_origin",
            "this web page may not use the node; its operator can allow it by CORS_ORIGINS",
            close=True,
        )
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none") and not _follows_link(request):
        raise MasaError(403, "bad_origin", "another site may not use the node from a browser", close=True)
    return None


def _follows_link(request: web.Request) -> bool:
    """Somebody clicked on a link to one of the pages: the site it stood on learns nothing by that."""
    opened = (request.headers.get("Sec-Fetch-Mode"), request.headers.get("Sec-Fetch-Dest")) == ("navigate", "document")
    return opened and request.method == hdrs.METH_GET and request.path in ("/", "/docs")


def origin_allowed(origin: str, allowed: tuple[str, ...]) -> bool:
    """Scheme, host and port compared exactly, but for entries that end in `:*` (any port) or `://*` (any host)."""
    parts = ORIGIN_FORM.fullmatch(origin)
    if parts is None:
        return False
    return any(entry in (origin, f"{parts[1]}://{parts[2]}:*", f"{parts[1]}://*") for entry in allowed)


def check_content_type(request: web.Request) -> None:
    """Only JSON from a browser, which forces a preflight; tools may also leave the type out. Raises MasaError 415."""
    if request.method != hdrs.METH_POST or request.path not in BY_PATH:
        return
    kind = bare(request.headers.get(hdrs.CONTENT_TYPE, ""))
    if kind == JSON:
        return
    if kind in ("", "application/x-www-form-urlencoded") and not any(name in request.headers for name in BROWSER):
        return
    raise BadRequest(
        "unsupported_media_type", "send the body with Content-Type: application/json", status=415, close=True
    )


def bare(content_type: str) -> str:
    """Without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def preflight(request: web.Request) -> web.Response:
    """What an allowed page may send: any header, since clients' libraries add their own."""
    asked = request.headers.get("Access-Control-Request-Headers", "")
    names = asked if NAMES.fullmatch(asked) else "Content-Type"
    return web.Response(status=204, headers={**PREFLIGHT, "Access-Control-Allow-Headers": names})


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
