"""A node inside the test's own process, on a real socket, with the server that `masa-node run` uses."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from yarl import URL

from config.settings import load
from masa_node.app import Node, client_app, client_server, node
from masa_node.listening import Runner, listening_sockets, serving, url_of


@dataclass(slots=True)
class Running:
    """A node that listens."""

    node: Node
    app: web.Application
    runner: Runner
    url: str

    @property
    def port(self) -> int:
        port = URL(self.url).port
        assert port is not None
        return port


@asynccontextmanager
async def running(folder: Path, **settings: str) -> AsyncIterator[Running]:
    """Start a node with these settings, named as in the environment; no model server unless one is named."""
    environ = {"MASA_DIR": str(folder / "masa"), "PORT": "0", "LLM_CHAT_URL": "off", "NODE_NAME": "test", **settings}
    loaded = await asyncio.to_thread(load, environ, cwd=folder)
    async with node(loaded.settings, rng=random.Random(0)) as started:
        app = client_app(started)
        sockets = await asyncio.to_thread(listening_sockets, loaded.settings.host, loaded.settings.port)
        async with serving(client_server(started, app), app, sockets) as runner:
            await started.own.first_look()
            yield Running(started, app, runner, url_of(sockets[0]))
