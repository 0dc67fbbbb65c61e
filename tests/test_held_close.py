"""A network's secret is for its owner's eyes, and no command enters a network that the settings rule out."""

import asyncio
from pathlib import Path

import pytest

from peers.network.store import Store
from peers.network.tokens import BadToken, Secret
from tests.commands import command
from tests.fleet import SECRET
from tests.processes import running_node

NETWORK_ID = SECRET.network()


def test_a_secret_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep_secrets((Secret.new(),))
    file = tmp_path / "network" / "secret"
    file.chmod(0o640)
    with pytest.raises(BadToken, match=f"chmod 600 {file}"):
        store.secrets()
    file.chmod(0o600)
    assert store.secrets()


async def test_a_node_with_such_a_secret_runs_alone_and_says_why(tmp_path: Path) -> None:
    assert (await command(tmp_path, "invite")).code == 0
    (tmp_path / "masa" / "network" / "secret").chmod(0o644)
    async with running_node(tmp_path, {"PEER_PORT": "0", "MDNS": "false"}) as node:
        assert "chmod 600" in (await node.event("network_closed"))["reason"]


@pytest.mark.parametrize("words", [("join", SECRET.text), ("leave",)])
async def test_a_node_by_certificate_neither_joins_nor_leaves_by_command(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    done = await command(tmp_path, *words, env={"NETWORK_ID": NETWORK_ID})
    assert (done.code, done.out) == (2, "")
    assert "NETWORK_ID" in done.err
    assert not await asyncio.to_thread((tmp_path / "masa" / "network" / "secret").exists)
