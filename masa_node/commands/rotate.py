"""`masa-node rotate`: a new secret for the network, handed to all members but those named."""

import argparse
import time

from config.settings import Settings
from masa_node.commands.membership import BadUse, ask_node, hint, with_settings
from masa_node.joined import NO_NETWORK
from masa_node.means import secrets_of
from masa_node.rotating import NONE_TO_ROTATE, Rotated
from peers.network.identity import load_identity, locked, node_id
from peers.network.reach import shown
from peers.network.records import RecordError, read
from peers.network.rotation import UnknownName, named, rotate
from peers.network.store import Store
from peers.network.tokens import Secret
from peers.wire import NodeId

JOIN_ANEW = "`masa-node invite` here, `masa-node join` there"


def main(arguments: argparse.Namespace) -> int:
    return with_settings(lambda settings: _rotate(settings, arguments.without, arguments.now))


def _rotate(settings: Settings, without: list[str], at_once: bool) -> int:
    told = ask_node(settings.masa_dir, "/rotate", {"without": without, "now": at_once})
    try:
        if told is None:
            return _on_folder(settings, without, at_once)
        if "unknown" in told:
            raise UnknownName(told["unknown"])
    except UnknownName as error:
        raise BadUse(f"{error}; nothing was changed") from None
    _tell(Rotated(**told), at_once)
    return 0


def _tell(told: Rotated, at_once: bool) -> None:
    hint("The network has a new secret.")
    if told.got:
        hint(f"Handed to: {', '.join(told.got)}.")
    if told.later:
        hint("Not handed to:")
        for who, why in told.later.items():
            hint(f"  {who}: {why}")
    _say_what_follows(told.left_out, at_once)


def _say_what_follows(left_out: list[str], at_once: bool) -> None:
    if left_out:
        hint(f"Left out: {', '.join(left_out)}. Whoever has the new secret refuses them from now on.")
    if at_once:
        hint(f"The old secret counts no more. Whoever has not got the new one must join anew: {JOIN_ANEW}.")
        return
    who = "known members that have not got the new one yet" if left_out else "whoever has it"
    hint(f"The old secret counts for 24 h more, for {who}: those who come back until then get the new one by")
    hint(f"themselves, from any member that has it; after that they must join anew ({JOIN_ANEW}).")


def _on_folder(settings: Settings, without: list[str], at_once: bool) -> int:
    """No node runs: it hands the new secret on when it does. Raises UnknownName, BadToken."""
    if settings.network_id:
        hint(f"masa-node: {NONE_TO_ROTATE}")
        return 1
    me = node_id(load_identity(settings.masa_dir))
    with locked(settings.masa_dir):
        store = Store(settings.masa_dir)
        secrets = secrets_of(settings, store)
        if not secrets:
            hint(f"masa-node: {NO_NETWORK}")
            return 1
        known = _remembered(store)
        left_out = named(without, me, f"{settings.node_name}-{me[:6]}", known)
        others = [me, *(node for node in known if node not in left_out)]
        admitted = () if at_once else others if left_out else None
        rotation = rotate(secrets[0], Secret.new(), time.time(), admitted)
        store.keep_secrets(rotation.leaves(secrets[0]), None if rotation.at_once else rotation)
    hint("The network has a new secret, and nobody could be told: no node runs on this folder.")
    if not at_once:
        hint("Start it within 24 h with `masa-node run`: it hands the new secret on.")
    _say_what_follows([known.get(node, node) for node in left_out], at_once)
    return 0


def _remembered(store: Store) -> dict[NodeId, str]:
    """The members that answered this node when it last ran: what each is called."""
    found = {}
    for text in store.peers()[1]:
        try:
            record = read(text).record
        except RecordError:
            continue
        found[record.node] = shown(record)
    return found
