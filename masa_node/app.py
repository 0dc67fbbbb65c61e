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
from handlers.handed import Serving
from handlers.keys import ASKING, BODIES, LIFE, METRICS, NETWORK, OWN, ROUTER, SETTINGS, TURNS, WHO, Life, Who
from handlers.middlewares.access import access, add_base_headers
from handlers.middlewares.door import door, own_hosts
from handlers.middlewares.errors import errors
from handlers.middlewares.keys import accepted_keys, keys
from handlers.plain import Judge
from handlers.quick import Quick
from handlers.routes import client_routes
from masa_node import __version__
from masa_node.control import controlled
from masa_node.fast_path import FastPathServer
from masa_node.joined import Joined
from masa_node.loops import Step, loops
from masa_node.pausing import Pause
from masa_node.renewal import Renewal
from masa_node.surroundings import possible_ollamas
from peers.asking import Asking, Limits
from peers.errors import MasaError
from peers.guests import Guests
from peers.metrics import Metrics
from peers.network.catalogue import Catalogue
from peers.network.figures import NetworkFigures
from peers.network.identity import load_identity, locked, node_id
from peers.network.policy import Shares
from peers.network.reach import Reach
from peers.network.store import Store
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
    asking: Asking
    metrics: Metrics
    life: Life
    guests: Guests
    bodies: BodyMemory
    joined: Joined


@asynccontextmanager
async def node(
    settings: Settings,
    *,
    certificate_file: Path | None = None,
    eliza: Eliza | None = None,
    rng: random.Random | None = None,
) -> AsyncIterator[Node]:
    """Everything but the listeners, in order of need. Raises IdentityError.

    `certificate_file`: where `settings.stake_certificate` was read, to be read again. `eliza`: in the place of the
    built-in one.
    """
    async with AsyncExitStack() as stack:
        key = await asyncio.to_thread(load_identity, settings.masa_dir)
        await asyncio.to_thread(stack.enter_context, locked(settings.masa_dir))
        who = Who(node_id(key), settings.node_name, __version__, time.time())
        link = await stack.enter_async_context(open_link(settings.llm_timeout))
        own = await asyncio.to_thread(own_upstreams, settings, link, eliza)
        rng, metrics = rng or random.SystemRandom(), Metrics()
        reach, bodies = Reach(Catalogue(), time.time), BodyMemory(settings.max_body_memory)
        asking = Asking(reach, race_limits(settings), metrics, rng, own_build=own.build)
        router = Router(own, asking, lambda: settings.peer_ask or reach.usual_ask())
        life, guests = Life(), Guests(most_guests(settings))
        pause = await asyncio.to_thread(Pause, Store(settings.masa_dir), time.time)
        metrics.guests.set_function(lambda: len(guests))
        # Apart from those of own callers, whom no member's uploads are to shut out.
        theirs = BodyMemory(settings.max_body_memory // 4)
        serving = Serving(router, own, guests, theirs, settings.max_body_bytes, lambda: closed(life, pause))
        joined = Joined(settings, who, key, metrics, own, reach, asking, serving, rng=rng)
        metrics.registry.register(NetworkFigures(lambda: reach.outlook()))
        steps = [(f"refresh:{upstream.name}", _refresh(upstream, own)) for upstream in own.upstreams]
        steps.append(("network", joined.step))
        if settings.network_id:
            steps.append(("stake_certificate", Renewal(joined, certificate_file).step))
        own.looked()
        await stack.enter_async_context(loops(steps, rng))
        await stack.enter_async_context(controlled(joined, pause, guests, settings.masa_dir))
        yield Node(settings, who, own, router, asking, metrics, life, guests, bodies, joined)


def most_guests(settings: Settings) -> int:
    """Calls of peers that one upstream does at once."""
    return settings.peer_max_inflight or settings.llm_parallel


def closed(life: Life, pause: Pause) -> MasaError | None:
    """Why no peer is served now."""
    return MasaError(503, "draining", "this node is stopping", retry_after=60) if life.draining else pause.refusal()


def race_limits(settings: Settings) -> Limits:
    return Limits(
        width=None if settings.race_width == "all" else settings.race_width,
        delay=settings.race_delay,
        timeout=settings.race_timeout,
        patience=settings.race_patience,
    )


def own_upstreams(settings: Settings, link: Link, eliza: Eliza | None = None) -> Own:
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
    for upstream in upstreams:
        upstream.places.most_guests = most_guests(settings)
    named = "eliza" in settings.llm_chat_url
    built_in = BuiltIn(eliza or Eliza()) if named or not settings.llm_chat_url else None
    shares = Shares(settings.peer_serve)
    return Own(upstreams, built_in, eliza_named=named, shares=shares, clock=time.monotonic)


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
    app = web.Application(middlewares=[access, errors, door(settings), keys(accepted_keys(settings))])
    app[SETTINGS], app[WHO], app[LIFE], app[OWN] = settings, node.who, node.life, node.own
    app[ROUTER], app[METRICS], app[NETWORK] = node.router, node.metrics, node.joined.reach
    app[ASKING] = node.asking
    app[BODIES] = node.bodies
    app[TURNS] = Turns(settings.max_inflight, settings.queue_size, settings.queue_timeout)
    app.on_response_prepare.append(add_base_headers(node.who))
    client_routes(app)
    return app


def client_server(node: Node, app: web.Application) -> FastPathServer:
    settings = node.settings
    judge = Judge(own_hosts(settings), accepted_keys(settings), settings.max_body_bytes)
    quick = Quick(judge, node.router, app[TURNS], node.bodies, node.metrics, node.life, node.who)
    most, each = settings.max_connections, settings.max_connections_per_ip
    server = FastPathServer(app, quick, most=most, most_per_address=each)
    node.metrics.connections.set_function(lambda: server.open)
    return server


def _refresh(upstream: Upstream, own: Own) -> Step:
    async def refresh() -> float:
        pause = await upstream.refresh()
        own.looked()
        return pause

    return refresh
