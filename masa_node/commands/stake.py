"""`masa-node stake`: an authority's certificates, issued, revoked and listed; and how this node's own stake stands."""

import argparse
import time
from collections.abc import Iterable

import msgspec
from rich.table import Table
from rich.text import Text

from config.settings import Settings
from masa_node.commands.membership import BadUse, ask_node, hint, with_settings
from masa_node.commands.screen import cell, console, print_json
from masa_node.commands.stake_show import show
from peers.network.authority import SHORTEST_PREFIX, Authority, Issued, Revoked
from peers.network.certificates import read_certificate
from peers.network.identity import ID, BadKey, load_identity, node_id, raw_key
from peers.network.standing import day
from peers.network.store import Store
from peers.network.tokens import certificate_text
from peers.wire import NodeId

COLOURS = {"valid": "green", "revoked": "red", "ended": "dim"}


def main(arguments: argparse.Namespace) -> int:
    work = {"issue": _issue, "revoke": _revoke, "list": _list, "show": show}[arguments.action]
    return with_settings(lambda settings: work(settings, arguments))


def _issue(settings: Settings, arguments: argparse.Namespace) -> int:
    node = _node(settings, arguments.node)
    authority = Authority(settings.masa_dir)
    first = not authority.exists
    try:
        sealed = authority.issue(node, time.time(), amount=arguments.amount, days=arguments.days)
    except ValueError as error:
        raise BadUse(f"--{error}") from None
    issued = read_certificate(sealed)
    print(certificate_text(sealed))
    hint(f"It lets node {node} into the network until {day(issued.exp)}. On that machine set:")
    hint(f"  NETWORK_ID={issued.net}")
    hint("  STAKE_CERTIFICATE=the word above; or save it in a file and set STAKE_CERTIFICATE_FILE to it:")
    hint(
        "  a running node takes a new certificate from that file by itself. It is no secret: it serves that node alone."
    )
    if first:
        hint(f"This machine is the authority of this network now, by the key in {authority.folder}.")
    hint(f"Back up {authority.folder} and let nobody read it: whoever has that key is the authority.")
    return 0


def _revoke(settings: Settings, arguments: argparse.Namespace) -> int:
    which = _beginning(settings, arguments.node)
    revoked = Authority(settings.masa_dir).revoke(which, time.time())
    Store(settings.masa_dir).keep_deny_list(revoked.network, revoked.deny_list)
    told = ask_node(settings.masa_dir, "/deny", {"deny_list": revoked.deny_list})
    if revoked.count:
        some = "1 certificate" if revoked.count == 1 else f"{revoked.count} certificates"
        hint(f"Revoked {some} of node {revoked.node}.")
    else:
        hint(f"All certificates of node {revoked.node} were revoked before; the deny-list is handed over again.")
    hint(_who_learns(revoked, told))
    return 0


def _who_learns(revoked: Revoked, told: dict[str, object] | None) -> str:
    if told and told["taken"]:
        return "The node that runs here has the new deny-list; the others learn it by gossip, within seconds."
    why = "the node that runs here is in another network, or in none" if told else "no node runs on this folder"
    return (
        f"Nobody else knows it yet: {why}. Members learn it by gossip as soon as `masa-node run` runs here "
        f"with NETWORK_ID={revoked.network} and a certificate (`masa-node stake issue self`)."
    )


def _list(settings: Settings, arguments: argparse.Namespace) -> int:
    now = time.time()
    authority = Authority(settings.masa_dir)
    network, issued = authority.network(), authority.issued(now)
    if arguments.json:
        told = [msgspec.structs.asdict(one) | {"state": one.state(now)} for one in issued]
        print_json(msgspec.json.encode({"network": network, "certificates": told}))
        return 0
    screen = console()
    screen.print(Text(f"network {network}\n"))
    screen.print(_table(issued, now) if issued else Text("no certificate: `masa-node stake issue NODE` makes one"))
    return 0


def _table(issued: Iterable[Issued], now: float) -> Table:
    table = Table("node", "amount", "from", "until", "state", box=None, pad_edge=False, header_style="bold")
    table.columns[1].justify = "right"
    for one in issued:
        state = one.state(now)
        table.add_row(cell(one.node), cell(one.amount), day(one.nbf), day(one.exp), Text(state, style=COLOURS[state]))
    return table


def _node(settings: Settings, text: str) -> NodeId:
    """A whole id, or `self`. Raises BadUse, IdentityError."""
    if text == "self":
        return node_id(load_identity(settings.masa_dir))
    try:
        raw_key(text)
    except BadKey as error:
        raise BadUse(f"NODE {_misspelt(text) or error}; `masa-node stake show` prints it on that machine") from None
    return NodeId(text)


def _beginning(settings: Settings, text: str) -> str:
    """An id or the beginning of one, or `self`. Raises BadUse, IdentityError."""
    if text == "self":
        return _node(settings, text)
    if len(text) < SHORTEST_PREFIX:
        raise BadUse(f"NODE {text} is too short: a whole id, or its first {SHORTEST_PREFIX} characters or more")
    if set(text) - set("abcdefghijklmnopqrstuvwxyz234567") or len(text) > 52:
        raise BadUse(f"NODE {_misspelt(text)}; `masa-node stake list` shows whom certificates were issued for")
    return text


def _misspelt(text: str) -> str:
    """Why this is no node id; empty where it is one."""
    if ID.fullmatch(text):
        return ""
    if wrong := "".join(sorted(set(text) - set("abcdefghijklmnopqrstuvwxyz234567"))):
        return f"is no node id: {wrong!r} is not in any, which are of a-z and 2-7"
    if len(text) != 52:
        return f"is no node id: it has {len(text)} characters, and an id has 52; copy all of it"
    return "is no node id: its last character is a or q; copy it again"
