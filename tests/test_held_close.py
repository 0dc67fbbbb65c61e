"""A network's secret is for its owner's eyes and never lost unasked; no command enters what the settings rule out."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from peers.network.store import Store
from peers.network.tokens import BadToken, Secret, parse_invite
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
        done = await command(tmp_path, "invite")
    assert (done.code, done.out) == (1, "")
    assert "chmod 600" in done.err


@pytest.mark.parametrize("runs", [False, True])
async def test_a_secret_that_another_replaces_is_set_aside(tmp_path: Path, *, runs: bool) -> None:
    """Its network may have no other member."""
    own = parse_invite((await command(tmp_path, "invite")).out).secret
    store = Store(tmp_path / "masa")
    aside = tmp_path / "masa/secret.left"
    async with AsyncExitStack() as stack:
        if runs:
            env = {"PEER_HOST": "127.0.0.1", "PEER_PORT": "0", "MDNS": "false"}
            node = await stack.enter_async_context(running_node(tmp_path, env))
            await node.event("network_open")
        done = await command(tmp_path, "join", own.text)
        assert (done.code, "leaves" in done.err) == (0, False)
        done = await command(tmp_path, "join", SECRET.text)
        assert done.code == 0, done.err
        assert f"leaves network {own.network()[:8]}; `masa-node join - < {aside}` brings it back" in done.err
        assert "Can this machine reach" not in done.err
        assert ("names no address" in done.err) == runs
        assert await asyncio.to_thread(store.secrets) == (SECRET,)
        assert (await asyncio.to_thread(aside.stat)).st_mode & 0o777 == 0o600
        done = await command(tmp_path, "join", "-", given=await asyncio.to_thread(aside.read_bytes))
        assert done.code == 0, done.err
        assert await asyncio.to_thread(store.secrets) == (own,)


@pytest.mark.parametrize(
    ("env", "said"), [({}, "in no network now"), ({"NETWORK_SECRET": SECRET.text}, "until that is")]
)
async def test_who_leaves_hears_where_the_node_is_then(tmp_path: Path, env: dict[str, str], said: str) -> None:
    done = await command(tmp_path, "leave", env=env)
    assert (done.code, said in done.err) == (0, True)


async def test_a_token_from_before_a_rotation_does_not_take_a_member_back(tmp_path: Path) -> None:
    old = (await command(tmp_path, "invite")).out
    assert (await command(tmp_path, "rotate")).code == 0
    kept = await asyncio.to_thread(Store(tmp_path / "masa").secrets)
    assert (await command(tmp_path, "join", old.strip())).code == 2
    assert await asyncio.to_thread(Store(tmp_path / "masa").secrets) == kept


@pytest.mark.parametrize("kept", [b"no secret", SECRET.text[:-1].encode(), b"\xff\xfe"])
def test_a_damaged_secret_is_told_with_its_file_and_never_replaced(tmp_path: Path, kept: bytes) -> None:
    store, file = Store(tmp_path), tmp_path / "network" / "secret"
    store.keep_secrets((SECRET,))
    file.write_bytes(kept)
    with pytest.raises(BadToken, match=f"{file} holds no network's secret; write .* or remove that file"):
        store.secrets()


@pytest.mark.parametrize("words", [("join", SECRET.text), ("leave",)])
async def test_a_node_by_certificate_neither_joins_nor_leaves_by_command(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    done = await command(tmp_path, *words, env={"NETWORK_ID": NETWORK_ID})
    assert (done.code, done.out) == (2, "")
    assert "NETWORK_ID" in done.err
    assert not await asyncio.to_thread((tmp_path / "masa" / "network" / "secret").exists)
