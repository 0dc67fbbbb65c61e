"""The model lists of every dialect, from what the upstreams and the peers last said: they never wait for a slow one."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from aiohttp import web

from handlers.keys import NETWORK, OWN, WHO
from peers.errors import ModelNotFound
from peers.wire import Dialect, Model

OLLAMA_VERSION = "0.13.3"
"""The Ollama API spoken here, told when there is no Ollama whose own version could be."""

UNKNOWN_TIME = "1970-01-01T00:00:00Z"
UNKNOWN_END = "2300-01-01T00:00:00Z"
"""Until when a peer keeps a model loaded; in the past it would say that it is being unloaded."""
YEAR_10000 = 253402300800
"""Unix seconds; no date can be written from here on."""

Entry = dict[str, object]
UNKNOWN_DETAILS: Entry = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": [],
    "parameter_size": "",
    "quantization_level": "",
}
Served = tuple[Entry, Model]
"""A model, and the node that serves it."""


async def tags(request: web.Request) -> web.Response:
    return _json({"models": [_tag(model) for model in await _served(request, "ollama")]})


async def ps(request: web.Request) -> web.Response:
    """What is loaded, as each server tells it."""
    return _json({"models": [_loaded(model) for model in await _served(request, "ollama", loaded=True)]})


async def version(request: web.Request) -> web.Response:
    """The oldest of the Ollamas behind this node: what it can do, all can."""
    await request.app[OWN].first_look()
    told = [server.version for server in request.app[OWN].model_servers() if server.version and server.status == "up"]
    return _json({"version": min(told, key=_numbers, default=OLLAMA_VERSION)})


async def openai_models(request: web.Request) -> web.Response:
    if "anthropic-version" in request.headers:
        return _json(_anthropic_page(await _served(request, "anthropic")))
    return _json({"object": "list", "data": [_openai(model) for model in await _served(request, "openai")]})


async def one_model(request: web.Request) -> web.Response:
    anthropic = "anthropic-version" in request.headers
    wanted = request.match_info["id"]
    for model in await _served(request, "anthropic" if anthropic else "openai"):
        if model.name in (wanted, wanted + ":latest"):
            return _json(_anthropic(model) if anthropic else _openai(model))
    raise ModelNotFound("no model of this name is served here; GET /v1/models lists those that are")


async def all_models(request: web.Request) -> web.Response:
    """Every model in reach, with who serves it; what is unknown is left out."""
    own = request.app[OWN]
    await own.first_look()
    here: Entry = {"id": request.app[WHO].id, "name": request.app[WHO].shown}
    theirs, ours = _of_peers(request), own.models()
    told = [_told(model, [(here, model), *theirs.get(model.name, ())], upstream) for upstream, model in ours]
    elsewhere = theirs.keys() - {model.name for _, model in ours}
    told += [_told(_commonest(served), served) for name, served in theirs.items() if name in elsewhere]
    return _json({"models": told})


async def _served(request: web.Request, dialect: Dialect, *, loaded: bool = False) -> list[Model]:
    """The models of one dialect, or those of them that are loaded, each name once.

    The first upstream's word counts; of what only peers serve, that of most of them.
    """
    own = request.app[OWN]
    await own.first_look()
    listed: dict[str, Model] = {}
    for _, model in own.models():
        if dialect in model.dialects and (not loaded or "ps" in model.entries):
            listed.setdefault(model.name, model)
    for name, served in _of_peers(request).items():
        fitting = [one for one in served if dialect in one[1].dialects and (not loaded or one[1].loaded)]
        if fitting and name not in listed:
            listed[name] = _commonest(fitting)
    return list(listed.values())


def _of_peers(request: web.Request) -> dict[str, list[Served]]:
    """What other nodes serve, by name."""
    reach = request.app.get(NETWORK)
    found: dict[str, list[Served]] = {}
    for node, name, models in reach.lists() if reach else ():
        for model in models:
            found.setdefault(model.name, []).append(({"id": node, "name": name}, model))
    return found


def _commonest(served: list[Served]) -> Model:
    """One race runs one build: where there are several, that which most have."""
    digest = Counter(model.digest for _, model in served).most_common(1)[0][0]
    return next(model for _, model in served if model.digest == digest)


def _told(model: Model, served: list[Served], upstream: str | None = None) -> Entry:
    """`upstream`: ours that has it."""
    dialects = frozenset[Dialect]().union(*(one.dialects for _, one in served))
    told: Entry = {"name": model.name, "dialects": sorted(dialects), "nodes": [node for node, _ in served]}
    known = {
        "upstream": upstream,
        "digest": model.digest,
        "context": model.context,
        "capabilities": list(model.capabilities) or None,
        "loaded": True if any(one.loaded for _, one in served) else model.loaded,
    }
    return told | {name: value for name, value in known.items() if value is not None}


def _tag(model: Model) -> Entry:
    """As its server lists it, or the least that Ollama's clients expect."""
    if "tags" in model.entries:
        return dict(model.entries["tags"])
    return _least(model) | {"modified_at": UNKNOWN_TIME}


def _loaded(model: Model) -> Entry:
    if "ps" in model.entries:
        return dict(model.entries["ps"])
    return _least(model) | {"expires_at": UNKNOWN_END, "size_vram": model.size or 0} | _context(model)


def _least(model: Model) -> Entry:
    """What is known of a peer's model."""
    least: Entry = {"name": model.name, "model": model.name, "size": model.size or 0, "digest": model.digest or ""}
    least["details"] = UNKNOWN_DETAILS | _context(model)
    return least | ({"capabilities": list(model.capabilities)} if model.capabilities else {})


def _context(model: Model) -> Entry:
    return {"context_length": model.context} if model.context else {}


def _openai(model: Model) -> Entry:
    if "models" in model.entries:
        return dict(model.entries["models"])
    return {"id": model.name, "object": "model", "created": _created(model), "owned_by": "library"}


def _anthropic(model: Model) -> Entry:
    entry = model.entries.get("models", {})
    if entry.get("type") == "model":
        return dict(entry)
    made = datetime.fromtimestamp(_created(model), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": model.name, "display_name": model.name, "created_at": made}


def _anthropic_page(models: Iterable[Model]) -> Entry:
    data = [_anthropic(model) for model in models]
    return {
        "data": data,
        "has_more": False,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def _created(model: Model) -> int:
    """Unix seconds; 0 where its server does not tell."""
    told = model.entries.get("models", {}).get("created")
    if isinstance(told, int):
        return told if 0 <= told < YEAR_10000 else 0
    modified = model.entries.get("tags", {}).get("modified_at")
    try:
        return max(0, int(datetime.fromisoformat(modified).timestamp())) if isinstance(modified, str) else 0
    except (ValueError, OverflowError):
        return 0


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.partition("-")[0].split(".") if part.isdigit())


def _json(body: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")
