"""The URL tables: the client API, and what other nodes ask."""

from aiohttp import web

from handlers import between, calls, chat, forwarded, models, peers, status
from peers.doors import DOORS

MANAGEMENT = ("pull", "push", "create", "copy", "delete")


def client_routes(app: web.Application) -> None:
    """Everything a caller can ask for (CORS preflights are answered before routing)."""
    for door in DOORS:
        app.router.add_post(door.path, chat.chat)
    app.router.add_get("/api/tags", models.tags)
    app.router.add_get("/api/ps", models.ps)
    app.router.add_get("/api/version", models.version)
    app.router.add_get("/v1/models", models.openai_models)
    app.router.add_get("/v1/models/{id:.+}", models.one_model)
    app.router.add_get("/api/v1/llm/models", models.all_models)
    app.router.add_get("/api/v1/node", status.node)
    app.router.add_get("/api/v1/peers", peers.peers)
    app.router.add_get("/api/v1/races", peers.races)
    app.router.add_get("/", status.root)
    app.router.add_get("/health", status.health)
    app.router.add_get("/ready", status.ready)
    app.router.add_get("/metrics", status.metrics)
    app.router.add_get("/openapi.json", status.openapi)
    app.router.add_get("/docs", status.docs)
    app.router.add_get("/docs/{file}", status.docs_file)
    for name in MANAGEMENT:
        app.router.add_route("*", f"/api/{name}", status.not_proxied)
    app.router.add_route("*", "/api/blobs/{digest}", status.not_proxied)


def peer_routes(app: web.Application) -> None:
    """Everything another node can ask for; all but `ping` is signed."""
    app.router.add_get("/peer/v1/ping", between.ping, allow_head=False)
    app.router.add_post("/peer/v1/identify", between.identify)
    app.router.add_post("/peer/v1/session", between.session)
    app.router.add_post("/peer/v1/gossip", between.gossip)
    app.router.add_post("/peer/v1/secret", between.secret)
    app.router.add_post("/peer/v1/forward/{path:.+}", forwarded.forward)
    app.router.add_post("/peer/v1/calls", calls.calls)
