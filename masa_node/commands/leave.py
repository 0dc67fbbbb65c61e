"""`masa-node leave`: be in no network."""

import argparse

from config.settings import Settings
from masa_node.commands.membership import BadUse, ask_node, hint, with_settings
from masa_node.joined import BY_CERTIFICATE
from peers.network.identity import load_identity, locked
from peers.network.store import Store


def main(arguments: argparse.Namespace) -> int:
    return with_settings(_leave)


def _leave(settings: Settings) -> int:
    if settings.network_id:
        raise BadUse(BY_CERTIFICATE)
    if ask_node(settings.masa_dir, "/leave", {}) is None:
        load_identity(settings.masa_dir)
        with locked(settings.masa_dir):
            Store(settings.masa_dir).forget()
    if settings.network_secret:
        hint("This node has forgotten what it kept, and is in the network of NETWORK_SECRET until that is taken out.")
    else:
        hint("This node is in no network now. The others go on; whoever kept the token is still a member.")
    return 0
