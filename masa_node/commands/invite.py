"""`masa-node invite`: one word by which another machine joins. The token alone goes to standard output."""

import argparse

from config.settings import Settings
from masa_node.commands.membership import ask_node, hint, with_settings
from masa_node.means import secrets_of
from peers.network.identity import load_identity, locked
from peers.network.store import Store
from peers.network.tokens import Invite, Secret


def main(arguments: argparse.Namespace) -> int:
    return with_settings(lambda settings: _invite(settings, arguments.address or ""))


def _invite(settings: Settings, address: str) -> int:
    told = ask_node(settings.masa_dir, "/invite", {"address": address})
    if told is None:
        return _on_folder(settings)
    print(told["token"])
    if told["addresses"]:
        hint(f"It names {', '.join(told['addresses'])}. On the other machine: masa-node join TOKEN")
    else:
        hint("It names no address: other machines find this one on its LAN only. Set PEER_ADVERTISE, or use --address.")
    if told["why"]:
        hint(told["why"])
    hint("Whoever has the token is a full member: hand it over as you would a password.")
    return 0


def _on_folder(settings: Settings) -> int:
    """No node runs: the next `run` takes the network up."""
    load_identity(settings.masa_dir)
    with locked(settings.masa_dir):
        store = Store(settings.masa_dir)
        secrets = secrets_of(settings, store)
        if not secrets:
            secrets = (Secret.new(),)
            store.keep_secrets(secrets)
    print(Invite(secrets[0]).text())
    hint(
        "No node runs on this folder, so the token names no address; start it with `masa-node run`, then invite again."
    )
    return 0
