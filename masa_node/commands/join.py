"""`masa-node join`: enter the network of a token."""

import argparse
import os
import sys
from pathlib import Path

from config.settings import Settings
from masa_node.commands.membership import ask_node, hint, with_settings
from masa_node.joined import BY_CERTIFICATE
from peers.network.identity import load_identity, locked
from peers.network.store import Store
from peers.network.tokens import BadToken, parse_invite


def main(arguments: argparse.Namespace) -> int:
    return with_settings(lambda settings: _join(settings, arguments.token))


def _join(settings: Settings, given: str | None) -> int:
    token = _token(given)
    try:
        invite = parse_invite(token)
    except BadToken as error:
        hint(f"masa-node: {error}")
        return 2
    if settings.network_id:
        hint(f"masa-node: {BY_CERTIFICATE}")
        return 2
    told = ask_node(settings.masa_dir, "/join", {"token": token})
    if told is None:
        load_identity(settings.masa_dir)
        with locked(settings.masa_dir):
            store = Store(settings.masa_dir)
            store.forget()
            store.keep_secrets((invite.secret,))
            store.keep_contacts(list(invite.members))
        hint("Joined. No node runs on this folder: `masa-node run` takes it up.")
        return 0
    for address, answer in told["answered"].items():
        hint(f"{address}: {answer}")
    if any(answer.startswith("joined") for answer in told["answered"].values()):
        hint("Joined. `masa-node peers` shows who is there.")
        return 0
    hint(told["why"] or "Nobody answered yet: this node keeps trying. Can this machine reach the addresses above?")
    return 1 if told["answered"] or told["why"] else 0


def _token(given: str | None) -> str:
    """The argument, standard input for `-`, or the file that JOIN_TOKEN_FILE names."""
    file = os.environ.get("JOIN_TOKEN_FILE")
    if given is None and file:
        return Path(file).read_text()
    return sys.stdin.read() if given in (None, "-") else str(given)
