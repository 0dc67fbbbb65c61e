"""The members of this node's network, as it judges them, and the races among them."""

from dataclasses import asdict

import msgspec
from aiohttp import web

from handlers.keys import ASKING, NETWORK
from peers.network.reach import MemberView
from peers.race_log import race_view


async def peers(request: web.Request) -> web.Response:
    """First those that are alive; none where this node is in no network."""
    reach = request.app.get(NETWORK)
    views = reach.members() if reach else []
    body = msgspec.json.encode({"peers": [_told(view) for view in views]})
    return web.Response(body=body, content_type="application/json")


async def races(request: web.Request) -> web.Response:
    """The last ones, the newest first; one that runs has no `ms`."""
    asking = request.app.get(ASKING)
    told = [race_view(race) for race in reversed(asking.races)] if asking else []
    return web.Response(body=msgspec.json.encode({"races": told}), content_type="application/json")


def _told(view: MemberView) -> dict[str, object]:
    """What is unknown is left out."""
    return _known(asdict(view)) | {"stake": _known(asdict(view.stake))}


def _known(values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value not in (None, "")}
