"""Networks of real processes: each node with a folder of its own, joined by its own commands; and what it then sees."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.commands import command
from tests.processes import COMMAND, RunningNode, running_node
from tests.waiting import until

ROUND = 1.2
"""Seconds: the longest pause between two rounds of gossip."""
PEERS = {"PEER_HOST": "127.0.0.1", "PEER_PORT": "0", "MDNS": "false"}
ALTERED = (sys.executable, "-P", str(Path(__file__).parent / "altered_node.py"))
"""A node of which some constants are others: see there."""
SECRET_LETTERS = 53
"""Of a token: the secret alone."""
MakeSocket = Callable[[Any], socket.socket]


@dataclass(slots=True)
class Machine:
    """A node in a process of its own, as those see it who may ask it."""

    running: RunningNode
    make_socket: MakeSocket | None = None
    """How a socket is made that reaches it, where it runs in another network namespace."""
    restart: dict[str, Any] = field(default_factory=dict)
    """With what it was started."""

    @property
    def id(self) -> str:
        return str(self.running.events("listening")[0]["node"])

    @property
    def folder(self) -> Path:
        return self.running.folder

    @property
    def peer_port(self) -> int:
        return int(self.running.events("network_open")[0]["port"])

    async def get(self, path: str) -> Any:
        connector = aiohttp.TCPConnector(socket_factory=self.make_socket)
        limit = aiohttp.ClientTimeout(5)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=limit) as session,
            session.get(self.running.url + path) as got,
        ):
            return await got.json()

    async def peers(self) -> dict[str, dict[str, Any]]:
        """All that it knows, by their ids."""
        return {peer["id"]: peer for peer in (await self.get("/api/v1/peers"))["peers"]}

    async def sees(self, *statuses: str) -> set[str]:
        """The ids of those it takes for one of these; for `alive` when none is named."""
        wanted = statuses or ("alive",)
        return {node for node, peer in (await self.peers()).items() if peer["status"] in wanted}

    async def models(self) -> dict[str, list[str]]:
        """Each model in its list, with the ids of the nodes that serve it."""
        listed = (await self.get("/api/v1/llm/models"))["models"]
        return {model["name"]: [node["id"] for node in model["nodes"]] for model in listed}

    async def invite(self) -> str:
        done = await command(self.folder, "invite")
        assert done.code == 0, done.err
        return done.out.strip()

    async def join(self, token: str) -> None:
        done = await command(self.folder, "join", token)
        assert done.code == 0, done.err

    async def stop(self, number: int) -> int:
        self.running.process.send_signal(number)
        return await self.running.wait()


@dataclass(slots=True)
class Machines:
    """Those that a test has started; all are gone when its block is left."""

    folder: Path
    stack: AsyncExitStack
    count: int = 0

    async def start(
        self,
        *,
        folder: Path | None = None,
        within: Sequence[str] = (),
        program: Sequence[str] = COMMAND,
        make_socket: MakeSocket | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Machine:
        """`within`: the beginning of a command line that puts what follows into a namespace."""
        if folder is None:
            folder = self.folder / f"n{self.count}"
            self.count += 1
            await asyncio.to_thread(folder.mkdir)
        restart = {"within": within, "program": program, "make_socket": make_socket, "env": env}
        node = running_node(folder, {**PEERS, **(env or {})}, command=(*within, *program))
        return Machine(await self.stack.enter_async_context(node), make_socket, {"folder": folder, **restart})

    async def again(self, machine: Machine, **env: str) -> Machine:
        """The same node once more, with some settings changed."""
        changed = machine.restart | {"env": {**(machine.restart["env"] or {}), **env}}
        return await self.start(**changed)

    async def network(self, number: int, **env: str) -> list[Machine]:
        """So many nodes, joined by one token, once all see all."""
        nodes = await asyncio.gather(*(self.start(env=env) for _ in range(number)))
        token = await nodes[0].invite()
        await asyncio.gather(*(node.join(token) for node in nodes[1:]))
        await all_see_all(nodes, 10 * ROUND)
        return nodes


@asynccontextmanager
async def machines(folder: Path) -> AsyncIterator[Machines]:
    async with AsyncExitStack() as stack:
        yield Machines(folder, stack)


async def all_see_all(nodes: Iterable[Machine], within: float) -> float:
    """Each takes exactly all others of `nodes` for alive; the seconds it took."""
    nodes = list(nodes)
    everyone = {node.id for node in nodes}

    async def whole() -> bool:
        for node in nodes:  # one after the other, so that a view that is not whole yet ends this look
            if await node.sees() != everyone - {node.id}:
                return False
        return True

    return await until(whole, within, lambda: views(nodes))


async def views(nodes: Iterable[Machine]) -> dict[str, dict[str, str]]:
    """What each says of each, for people."""
    told = {}
    for node in nodes:
        peers = (await node.peers()).values()
        told[node.id[:6]] = {peer["id"][:6]: f"{peer['status']} {peer.get('why', '')}" for peer in peers}
    return told
