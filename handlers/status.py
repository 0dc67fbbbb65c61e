"""How this node is: health, readiness, itself, its metrics, its documents."""

import time
from importlib.resources import files

import msgspec
from aiohttp import web

from handlers.keys import BODIES, LIFE, METRICS, NETWORK, OWN, TURNS, WHO
from peers.errors import MasaError
from peers.network.reach import Reach
from peers.upstreams.upstream import Upstream

DOCS_FILES = {"docs.js": "text/javascript", "docs.css": "text/css"}
PAGES = {
    name: (files("handlers") / "pages" / name).read_bytes()
    for name in ("index.html", "docs.html", "openapi.json", *DOCS_FILES)
}
"""Read once, when the program is loaded: nothing is read from disk while requests are answered."""
POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'"
NOT_PROXIED = (
    "models are managed where they live: this node never proxies pull, push, create, copy, delete or blobs; "
    "run `ollama pull` and the like on the model server's own machine"
)


async def root(request: web.Request) -> web.Response:
    """What Ollama's clients look for; a page for people."""
    if "text/html" in request.headers.get("Accept", ""):
        return _page("index.html")
    return web.Response(text="Ollama is running")


async def health(request: web.Request) -> web.Response:
    """Alive: true for as long as anything is answered."""
    return _json({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """Can answer: some model is in reach, and the node is not stopping."""
    if request.app[LIFE].draining:
        raise MasaError(503, "draining", "this node is stopping")
    await request.app[OWN].first_look()
    if not request.app[OWN].ready() and not any(models for *_, models in request.app[NETWORK].lists()):
        why = "no upstream answers, and no peer offers a model; GET /api/v1/node and `masa-node doctor` say why"
        raise MasaError(503, "no_upstream", why)
    return _json({"status": "ready"})


async def node(request: web.Request) -> web.Response:
    app, who = request.app, request.app[WHO]
    await app[OWN].first_look()
    return _json({
        "id": who.id, "name": who.shown, "version": who.version, "uptime": round(time.time() - who.started, 1),
        "upstreams": [_upstream(upstream) for upstream in app[OWN].in_use()] + _built_in(request),
        "in_flight": app[TURNS].taken, "queued": app[TURNS].waiting, "body_memory": app[BODIES].held,
        "network": _network(app[NETWORK]),
    })  # fmt: skip


async def metrics(request: web.Request) -> web.Response:
    app = request.app
    told = app[METRICS]
    told.in_flight.set(app[TURNS].taken)
    told.queued.set(app[TURNS].waiting)
    told.body_bytes.set(app[BODIES].held)
    for upstream in app[OWN].upstreams:
        told.upstream_up.labels(upstream.name).set(upstream.status == "up")
    return web.Response(body=told.exposition(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def openapi(request: web.Request) -> web.Response:
    return web.Response(body=PAGES["openapi.json"], content_type="application/json")


async def docs(request: web.Request) -> web.Response:
    return _page("docs.html")


async def docs_file(request: web.Request) -> web.Response:
    kind = DOCS_FILES.get(request.match_info["file"])
    if kind is None:
        raise web.HTTPNotFound
    return web.Response(body=PAGES[request.match_info["file"]], content_type=kind, charset="utf-8")


async def not_proxied(request: web.Request) -> web.Response:
    raise MasaError(403, "forbidden", NOT_PROXIED)


def _network(reach: Reach) -> object:
    """How it stands in its network; or why it is in none."""
    return reach.outlook() or {"why": reach.why}


def _upstream(upstream: Upstream) -> dict[str, object]:
    told: dict[str, object] = {
        "name": upstream.name, "address": upstream.address(), "status": upstream.status, "models": len(upstream.models),
        "in_flight": upstream.places.taken, "places": upstream.places.total,
    }  # fmt: skip
    return told if upstream.status == "up" else told | {"why": upstream.why}


def _built_in(request: web.Request) -> list[dict[str, object]]:
    eliza = request.app[OWN].eliza()
    return (
        [{"name": "eliza", "address": "built in", "status": "up", "models": 1, "in_flight": 0, "places": None}]
        if eliza
        else []
    )


def _page(name: str) -> web.Response:
    return web.Response(
        body=PAGES[name],
        content_type="text/html",
        charset="utf-8",
        headers={"Content-Security-Policy": POLICY},
    )


def _json(body: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")
