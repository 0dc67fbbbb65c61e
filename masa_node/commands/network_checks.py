"""What the doctor finds of the network: from the running node, or else from what can be tried without one."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from config.settings import Settings
from masa_node.commands.findings import Finding
from masa_node.commands.node_api import NodeApi, NodeError, address, read_object
from masa_node.joined import NO_NETWORK
from masa_node.listening import listening_sockets
from masa_node.means import Means, cannot_listen, means_of
from peers.network.clock import TOLERATED
from peers.network.contact import Contact, NoContact
from peers.network.dialing import OWN_LAN, Address, DialPolicy
from peers.network.identity import IdentityError, load_identity, node_id, unusable
from peers.network.sessions import peer_connector, peer_sessions
from peers.network.store import Store
from peers.network.tokens import BadToken

OPEN_IT = "start the node that listens there, and open its PEER_PORT to this machine"
MENDED = {
    "clock": "set this machine's clock, or that one's",
    "member": "this node was left out, or the secret was changed: join anew, or ask the authority",
    "no node of a network": "correct the address in BOOTNODES; is it another program's, or a node of another network?",
}
"""What to do, by a word of why nobody was met."""
NOT_MET = {
    "refused": OPEN_IT,
    "silent": OPEN_IT,
    "wrong_key": "correct the id in BOOTNODES, or take it out",
    "wrong_network": "use a token, or a certificate, of that node's network",
    "no_node": "correct the address in BOOTNODES; is it another program's, or a node of another network?",
    "self": "take this node's own address out of BOOTNODES",
    "clock": "set this machine's clock, or that one's",
}


def check_network(settings: Settings, *, running: bool) -> Iterator[Finding]:
    """`running`: a node answers at HOST and PORT."""
    if running:
        yield from _as_it_says(settings)
    else:
        yield from _without_a_node(settings)


def _as_it_says(settings: Settings) -> Iterator[Finding]:
    key = settings.api_keys[0].get_secret_value() if settings.api_keys else None
    node = NodeApi(address(settings), key)
    try:
        told = read_object(node.get("/api/v1/node")).get("network") or {}
        peers = read_object(node.get("/api/v1/peers")).get("peers") or []
    except NodeError as error:
        yield Finding("network", "warn", f"the node does not tell of it: {error}", "look at its log")
        return
    if "id" not in told:
        yield _no_network(str(told.get("why") or NO_NETWORK))
        return
    yield from _members(told, peers)
    yield from _reach(told)
    yield from _lan(told)
    for place, why in told.get("bootnodes", {}).items():
        yield _bootnode(place, why, next((remedy for word, remedy in MENDED.items() if word in why), OPEN_IT))
    yield from _notices(told)


def _members(told: dict[str, Any], peers: list[dict[str, Any]]) -> Iterator[Finding]:
    counts = told.get("members", {})
    what = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "nobody else is there yet"
    remedy = None if counts.get("alive") else "`masa-node invite` here, `masa-node join` there; or set BOOTNODES"
    yield Finding(
        "network", "ok" if remedy is None else "warn", f"in {told['id'][:8]} by {told['stake']}: {what}", remedy
    )
    for peer in peers:
        if peer.get("why") and peer.get("status") != "alive":
            yield Finding("peer", "warn", f"{peer.get('name')} is not asked: {peer['why']}", "see to that machine")
    for node, why in told.get("turned_away", {}).items():
        remedy = "if it belongs here, give it a token or a certificate of this network"
        yield Finding("peer", "warn", f"{node[:8]} knocked and was refused: {why}", remedy)


def _reach(told: dict[str, Any]) -> Iterator[Finding]:
    """That it is out of reach is a notice, with its remedy."""
    where = ", ".join(told.get("addresses", ())) or "no address"
    if told.get("reach") == "reachable":
        yield Finding("reachability", "ok", f"peers reach this node; it offers {where}")
    elif told.get("reach") == "unknown":
        yield Finding("reachability", "ok", f"no peer has tried yet whether it reaches this node at {where}")


def _lan(told: dict[str, Any]) -> Iterator[Finding]:
    lan = told.get("lan")
    if lan is None:
        yield Finding("mdns", "ok", "MDNS is off: nodes of this LAN are not looked for")
    elif lan.get("why"):
        yield Finding("mdns", "warn", str(lan["why"]), "or use BOOTNODES, or a token that names an address")
    else:
        yield Finding("mdns", "ok", f"nodes heard on this LAN: {len(lan.get('heard', ()))}")
    for node, why in (lan or {}).get("refused", {}).items():
        yield Finding("mdns", "warn", f"{node} is heard and not tried: {why}", "no harm, unless it belongs here")


def _notices(told: dict[str, Any]) -> Iterator[Finding]:
    for notice in told.get("notices", ()):
        what, _, remedy = str(notice.get("text")).partition("; ")
        yield Finding(str(notice.get("code")), "warn", what, remedy or None)
    offset = told.get("clock_offset", 0.0)
    if told.get("members", {}).get("alive") and abs(offset) <= TOLERATED:
        behind = "behind" if offset > 0 else "ahead of"
        yield Finding("clock offset", "ok", f"{abs(offset):.0f} s {behind} the other nodes' clocks")


def _without_a_node(settings: Settings) -> Iterator[Finding]:
    try:
        if not settings.masa_dir.exists():
            yield _no_network(NO_NETWORK)
            return
        key = load_identity(settings.masa_dir)
        means = means_of(settings, node_id(key), Store(settings.masa_dir))
    except (IdentityError, BadToken, OSError) as error:
        why = unusable(settings.masa_dir, error) if isinstance(error, OSError) else error
        what, _, remedy = str(why).partition("; ")
        yield Finding("network", "fail", f"it cannot be entered: {what}", remedy.removeprefix("run: "))
        return
    if means is None:
        yield _no_network(NO_NETWORK)
        return
    yield Finding("network", "ok", f"this node is to be in {means.stake.networks[0][:8]} when it runs")
    yield from _peer_port(settings)
    yield from asyncio.run(_call(settings, means))


def _peer_port(settings: Settings) -> Iterator[Finding]:
    if settings.mode == "client" or not settings.peer_port:
        return
    try:
        for sock in listening_sockets(settings.peer_host, settings.peer_port):
            sock.close()
    except OSError as error:
        what, _, remedy = cannot_listen(settings, error).partition("; ")
        yield Finding("peer port", "fail", what, remedy)
    else:
        yield Finding("peer port", "ok", f"port {settings.peer_port} of {settings.peer_host} is free")


async def _call(settings: Settings, means: Means) -> list[Finding]:
    """Each bootnode, by a ping: nothing is told to whom is met."""
    places = {Address.parse(bootnode.address): bootnode.node for bootnode in means.bootnodes}
    policy = DialPolicy(settings.peer_allow_cidrs or OWN_LAN, frozenset(places))
    key = load_identity(settings.masa_dir)
    async with peer_sessions(peer_connector(policy)) as sessions:
        contact = Contact(key, node_id(key), means.stake, sessions, time.time)
        findings = []
        for place, node in places.items():
            try:
                await contact.ping(place, node)
            except NoContact as error:
                findings.append(_bootnode(str(place), str(error), NOT_MET.get(error.reason, OPEN_IT)))
            else:
                findings.append(_bootnode(str(place), "", OPEN_IT))
    return findings


def _bootnode(place: str, why: str, remedy: str) -> Finding:
    return (
        Finding("bootnode", "warn", f"{place}: {why}", remedy) if why else Finding("bootnode", "ok", f"{place} answers")
    )


def _no_network(why: str) -> Finding:
    what, _, remedy = why.partition("; ")
    return Finding("network", "ok" if why == NO_NETWORK else "fail", what, remedy or None)
