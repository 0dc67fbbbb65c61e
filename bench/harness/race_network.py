"""Peers with a mock model server each, and askers without a model, who race them: all that bench/races measures."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from harness.aims import OWN
from harness.home import MODEL
from harness.idle import new_secret, wait_for
from harness.processes import Cpus
from harness.proxies import Proxy
from harness.serving import Mock, Running, get, mock_server, serving

PEERS = 10
WIDTHS = ("1", "2", "3", "8", "all")
RACED = (1, 3, 10)
CALLERS = 8
"""At most, at the same moment."""
KNOWN_S = 60
COMMON = {
    "HOST": "127.0.0.1",
    "PORT": "$port",
    "MASA_DIR": "$folder/masa",
    "LOG_FORMAT": "json",
    "LLM_PARALLEL": str(CALLERS),
}


@dataclass(frozen=True)
class Asker:
    """Somebody to ask, and who answers then."""

    running: Running
    peers: Sequence[Running]
    """Those it may race; none: it answers by itself."""

    @property
    def name(self) -> str:
        return self.running.proxy.name

    def sends(self) -> float:
        """Calls handed to peers so far."""
        text = get(self.running.port, "/metrics")[1].decode() if self.peers else ""
        return next((float(line.split()[1]) for line in text.splitlines() if line.startswith("masa_race_sends_t")), 0.0)

    def races(self, since: float) -> list[dict[str, Any]]:
        """Those that began since then (Unix seconds), as far back as it remembers."""
        told = json.loads(get(self.running.port, "/api/v1/races")[1])["races"] if self.peers else []
        return [race for race in told if race["at"] >= since]


@dataclass(frozen=True)
class World:
    mocks: Sequence[Mock]
    """Of each peer; the first is also that of whoever needs no peer."""
    peers: Sequence[Running]
    raced: Sequence[Asker]
    """One that is the mock itself, one whose own model server that is, and one for each of RACED."""
    widths: Sequence[Asker]
    """One for each of WIDTHS, before all peers."""

    def chunks(self) -> int:
        """What the mocks have sent so far."""
        return sum(mock.counters()["chunks"] for mock in self.mocks)


@contextmanager
def world(node: Sequence[str], cpus: Cpus) -> Iterator[World]:
    """Askers run on the second CPU; peers, mocks and load share the first one. Raises DidNotStart, DidNotMeet."""
    network = {"NETWORK_SECRET": new_secret(), "PEER_HOST": "127.0.0.1", "PEER_PORT": "0", "MDNS": "false"}
    with ExitStack() as stack:
        mocks = [stack.enter_context(mock_server(cpus)) for _ in range(PEERS)]

        def start(name: str, mock: Mock, env: dict[str, str], places: Cpus = cpus) -> Running:
            proxy = Proxy(name, (*node, "run"), ready="/health", env=COMMON | env)
            return stack.enter_context(serving(proxy, mock, places))

        peers: list[Running] = []
        for number, mock in enumerate(mocks):
            env = {**network, "LLM_CHAT_URL": "http://$upstream", "NODE_NAME": f"peer{number}"}
            env |= {"BOOTNODES": address(peers[0])} if peers else {}
            peers.append(start(f"peer{number}", mock, env, replace(cpus, proxy=cpus.load)))
        ids = [get_json(peer, "/api/v1/node")["id"] for peer in peers]

        def asker(name: str, number: int, width: str) -> Asker:
            env = {**network, "MODE": "client", "LLM_CHAT_URL": "off", "BOOTNODES": address(peers[0])}
            env |= {"PEER_ALLOW": ",".join(ids[:number]), "RACE_WIDTH": width}
            return Asker(start(name, mocks[0], env), peers[:number])

        own = start(OWN, mocks[0], {"LLM_CHAT_URL": "http://$upstream"})
        direct = stack.enter_context(serving(Proxy("direct"), mocks[0], cpus))
        raced = [asker(raced_of(number), number, "all") for number in RACED]
        widths = [asker(f"RACE_WIDTH={width}", PEERS, width) for width in WIDTHS]
        for one in (*raced, *widths):
            wait_for(knows(one), KNOWN_S, f"{one.name} does not know its peers' models")
        yield World(mocks, peers, [Asker(direct, ()), Asker(own, ()), *raced], widths)


def raced_of(number: int) -> str:
    return f"k = {number}"


def address(peer: Running) -> str:
    """Where other nodes dial it; it is known once it listens."""
    found: list[str] = []

    def known() -> bool:
        network = get_json(peer, "/api/v1/node").get("network") or {}
        found[:] = network.get("addresses", [])
        return bool(found)

    wait_for(known, KNOWN_S, f"{peer.proxy.name} has no network")
    return found[0]


def knows(asker: Asker) -> Callable[[], bool]:
    def fact() -> bool:
        models = get_json(asker.running, "/api/v1/llm/models")["models"]
        return any(model["name"] == MODEL and len(model["nodes"]) == len(asker.peers) for model in models)

    return fact


def get_json(running: Running, path: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(get(running.port, path)[1])
    return told
