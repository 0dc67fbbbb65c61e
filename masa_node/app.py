"""Where objects meet: node(settings) opens everything a node needs, client_app(…) is its client API."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from aiohttp import web

from config.settings import Settings
from handlers.admission import BodyMemory, Turns
from handlers.keys import BODIES, LIFE, METRICS, NETWORK, OWN, ROUTER, SETTINGS, TURNS, WHO, Life, Who
from handlers.middlewares.access import access, add_base_headers
from handlers.middlewares.door import door
from handlers.middlewares.errors import errors
from handlers.middlewares.keys import keys
from handlers.routes import client_routes
from masa_node import __version__
from masa_node.control import controlled
from masa_node.joined import Joined
from masa_node.loops import Step, loops
from masa_node.server import NodeServer
from masa_node.surroundings import possible_ollamas
from peers.metrics import Metrics
from peers.network.identity import load_identity, locked, node_id
from peers.router import Router
from peers.upstreams.cloudflare import Cloudflare
from peers.upstreams.eliza import Eliza
from peers.upstreams.link import Link, open_link
from peers.upstreams.ollama import Address, ModelServer
from peers.upstreams.own import BuiltIn, Own
from peers.upstreams.providers import PROVIDERS, HostedProvider
from peers.upstreams.upstream import Upstream

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Node:
    """A running node's parts, as its listeners share them."""

    settings: Settings
    who: Who
    own: Own
    router: Router
    metrics: Metrics
    life: Life
    joined: Joined


@asynccontextmanager
async def node(settings: Settings, *, rng: random.Random | None = None) -> AsyncIterator[Node]:
    """Everything but the listeners, in order of need. Raises IdentityError."""
    async with AsyncExitStack() as stack:
        key = await asyncio.to_thread(load_identity, settings.masa_dir)
        await asyncio.to_thread(stack.enter_context, locked(settings.masa_dir))
        who = Who(node_id(key), settings.node_name, __version__, time.time())
        link = await stack.enter_async_context(open_link(settings.llm_timeout))
        own = await asyncio.to_thread(own_upstreams, settings, link)
        rng, metrics = rng or random.SystemRandom(), Metrics()
        joined = Joined(settings, who, key, metrics, own, rng=rng)
        steps = [(f"refresh:{upstream.name}", _refresh(upstream, own)) for upstream in own.upstreams]
        own.looked()
        await stack.enter_async_context(loops([*steps, ("network", joined.step)], rng))
        await stack.enter_async_context(controlled(joined, settings.masa_dir))
        yield Node(settings, who, own, Router(own), metrics, Life(), joined)


def own_upstreams(settings: Settings, link: Link) -> Own:
    """The upstreams the settings name, and the places where an Ollama is looked for when they name none."""
    upstreams: list[Upstream] = [*model_servers(settings, link)]
    if settings.llm_cf_url:
        token, gateway = settings.llm_cf_token, settings.llm_cf_gateway_token
        upstreams.append(
            Cloudflare(
                link,
                settings.llm_cf_url,
                token=token.get_secret_value() if token else None,
                gateway_token=gateway.get_secret_value() if gateway else None,
                models=settings.llm_cf_models,
            )
        )
    upstreams += [hosted(settings, name, link) for name in settings.providers]
    named = "eliza" in settings.llm_chat_url
    eliza = BuiltIn(Eliza()) if named or not settings.llm_chat_url else None
    return Own(upstreams, eliza, eliza_named=named, clock=time.monotonic)


def model_servers(settings: Settings, link: Link) -> list[ModelServer]:
    if settings.llm_chat_url:
        urls = [url for url in settings.llm_chat_url if url not in ("off", "eliza")]
        found = False
    else:
        urls, found = possible_ollamas(Path("/")), True
    names = ("ollama" if number == 1 else f"ollama{number}" for number in itertools.count(1))
    return [
        ModelServer(link, Address.parse(url), name=name, parallel=settings.llm_parallel, found=found)
        for name, url in zip(names, urls, strict=False)
    ]


def hosted(settings: Settings, name: str, link: Link) -> HostedProvider:
    key = getattr(settings, f"{name}_api_key")
    url, models = getattr(settings, f"llm_{name}_url"), getattr(settings, f"llm_{name}_models")
    return HostedProvider(link, PROVIDERS[name], key=key.get_secret_value(), url=url, models=models)


def client_app(node: Node) -> web.Application:
    """The client API. Middlewares from the outside in: access, errors, door, keys."""
    settings = node.settings
    accepted = [key.get_secret_value() for key in settings.api_keys]
    app = web.Application(middlewares=[access, errors, door(settings), keys(accepted)])
    app[SETTINGS], app[WHO], app[LIFE], app[OWN] = settings, node.who, node.life, node.own
    app[ROUTER], app[METRICS], app[NETWORK] = node.router, node.metrics, node.joined.reach
    app[BODIES] = BodyMemory(settings.max_body_memory)
    app[TURNS] = Turns(settings.max_inflight, settings.queue_size, settings.queue_timeout)
    app.on_response_prepare.append(add_base_headers(node.who))
    client_routes(app)
    return app


def client_server(node: Node, app: web.Application) -> NodeServer:
    server = NodeServer(app, most=node.settings.max_connections, most_per_address=node.settings.max_connections_per_ip)
    node.metrics.connections.set_function(lambda: server.open)
    return server


def _refresh(upstream: Upstream, own: Own) -> Step:
    async def refresh() -> float:
        pause = await upstream.refresh()
        own.looked()
        return pause

    return refresh
