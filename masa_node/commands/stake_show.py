"""`masa-node stake show`: by what this node may take part, in which network, until when; whose authority is here."""

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
from rich.table import Table

from config.settings import Settings
from masa_node.commands.screen import cell, console, print_json
from masa_node.means import check_stake, means_of
from peers.network.authority import Authority
from peers.network.certificates import DAY
from peers.network.identity import load_identity, node_id
from peers.network.stake import Certificates
from peers.network.standing import day, expiry_warning, span, standing
from peers.network.store import Store
from peers.wire import NodeId

IN_NONE = "this node is in no network"
HOW = "`masa-node join TOKEN` enters one by its secret; NETWORK_ID and STAKE_CERTIFICATE one by an authority's word"


@dataclass(slots=True)
class Shown:
    """Empty or 0 where there is none; times in Unix seconds."""

    node: NodeId
    network: str = ""
    by: str = ""
    state: str = ""
    """`valid`, or why it is not."""
    amount: int = 0
    nbf: int = 0
    exp: int = 0
    days_left: int = 0
    why: str = ""
    remedy: str = ""
    warning: str = ""
    authority: str = ""
    """The network whose authority's key is in this folder."""


def show(settings: Settings, arguments: argparse.Namespace) -> int:
    """1 where the certificate does not hold. Raises ConfigError, IdentityError, AuthorityError."""
    check_stake(settings)
    now = time.time()
    shown = _shown(settings, now)
    if arguments.json:
        told = {name: value for name, value in asdict(shown).items() if value or name == "node"}
        print_json(msgspec.json.encode(told))
    else:
        console().print(_table(shown, now, settings.masa_dir))
    return 0 if shown.state in ("valid", "") else 1


def _shown(settings: Settings, now: float) -> Shown:
    me, store = node_id(load_identity(settings.masa_dir)), Store(settings.masa_dir)
    authority = Authority(settings.masa_dir)
    shown = Shown(me, authority=authority.network() if authority.exists else "")
    means = means_of(settings, me, store)
    if means is None:
        shown.why, shown.remedy = IN_NONE, HOW
        return shown
    shown.network = means.stake.networks[0]
    if not isinstance(means.stake, Certificates):
        shown.by, shown.state = "secret", "valid"
        return shown
    shown.by = "certificate"
    means.stake.read_denials(store.deny_list(means.stake.networks[0]))
    _add(shown, means.stake, now)
    return shown


def _add(shown: Shown, stake: Certificates, now: float) -> None:
    """What is to be said of a certificate."""
    stands = standing(stake, shown.node, now)
    shown.state, shown.why, shown.remedy = stands.reason or "valid", stands.why, stands.remedy
    if said := stands.certificate:
        shown.amount, shown.nbf, shown.exp = said.amount, said.nbf, said.exp
        shown.days_left = max(0, round((said.exp - now) / DAY))
        shown.warning = "" if stands.reason else expiry_warning(said, now)


def _table(shown: Shown, now: float, folder: Path) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    for name, text in (
        ("node", shown.node),
        ("network", shown.network or shown.why),
        ("by", {"secret": "its secret: whoever has it is a member", "certificate": "a certificate"}.get(shown.by)),
        ("state", shown.state and (shown.why or shown.state)),
        ("amount", shown.amount or None),
        ("from", day(shown.nbf) if shown.nbf else None),
        ("until", _until(shown, now) if shown.exp else None),
        ("soon", shown.warning),
        ("remedy", shown.remedy),
        ("authority", shown.authority and f"of network {shown.authority}, by the key in {Authority(folder).folder}"),
    ):
        if text:
            table.add_row(name, cell(text))
    return table


def _until(shown: Shown, now: float) -> str:
    left = f"{span(shown.exp - now)} left" if shown.exp > now else "over"
    return f"{day(shown.exp)} ({left})"
