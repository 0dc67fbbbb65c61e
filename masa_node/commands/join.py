"""`masa-node join`: enter the network of a token."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from config.settings import ConfigError, Problem, Settings
from masa_node.commands.membership import BadUse, ask_node, hint, with_settings
from masa_node.joined import BY_CERTIFICATE
from peers.network.identity import load_identity, locked
from peers.network.store import Store
from peers.network.tokens import BadToken, Secret, parse_invite


def main(arguments: argparse.Namespace) -> int:
    return with_settings(lambda settings: _join(settings, arguments.token))


def _join(settings: Settings, given: str | None) -> int:
    token = _token(given)
    try:
        invite = parse_invite(token)
    except BadToken as error:
        raise BadUse(str(error)) from None
    if settings.network_id:
        raise BadUse(BY_CERTIFICATE)
    _set_aside(Store(settings.masa_dir), invite.secret)
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
    return _tell(told)


def _set_aside(store: Store, secret: Secret) -> None:
    """What this one replaces is not lost: its network may have no other member. Raises BadUse."""
    own, *older = store.secrets() or (secret,)
    if secret in older:
        raise BadUse("that token is from before the network's secret was changed, and this node has the new one")
    if secret != own:
        path = store.set_aside(own)
        hint(f"This node leaves network {own.network()[:8]}; `masa-node join - < {path}` brings it back.")


def _tell(told: dict[str, Any]) -> int:
    answered = told["answered"]
    for address, answer in answered.items():
        hint(f"{address}: {answer}")
    if any(answer.startswith("joined") for answer in answered.values()):
        hint("Joined. `masa-node peers` shows who is there.")
        return 0
    if told["why"]:
        hint(told["why"])
        return 1
    if answered:
        hint("Nobody answered yet: this node keeps trying. Can this machine reach the addresses above?")
        return 1
    hint("Joined. The token names no address: members are found on this LAN, by MDNS, or at BOOTNODES.")
    hint("`masa-node peers` shows who is there.")
    return 0


def _token(given: str | None) -> str:
    """The argument, standard input for `-`, or the file that JOIN_TOKEN_FILE names. Raises ConfigError."""
    file = os.environ.get("JOIN_TOKEN_FILE")
    if given is None and file:
        try:
            return Path(file).read_text(errors="replace")
        except OSError as error:
            what = f"names a file that cannot be read ({error.strerror})"
            remedy = "name a file that is there and that this user may read"
            raise ConfigError((Problem("JOIN_TOKEN_FILE", what, remedy),)) from None
    return sys.stdin.buffer.read().decode(errors="replace") if given in (None, "-") else str(given)
