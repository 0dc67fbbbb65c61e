"""`masa-node resume`: serve peers again."""

import argparse

from config.settings import Settings
from masa_node.commands.membership import ask_node, hint, with_settings
from peers.network.identity import load_identity, locked
from peers.network.store import Store


def main(arguments: argparse.Namespace) -> int:
    return with_settings(_resume)


def _resume(settings: Settings) -> int:
    if ask_node(settings.masa_dir, "/resume", {}) is None:
        load_identity(settings.masa_dir)
        with locked(settings.masa_dir):
            Store(settings.masa_dir).keep_pause(0.0)
        hint("No node runs on this folder; the next one serves its peers.")
        return 0
    hint("This node serves its peers again.")
    return 0
