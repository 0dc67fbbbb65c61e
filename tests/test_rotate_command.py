"""`masa-node rotate` on real processes: who gets the new secret, who is refused, what people are told."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from masa_node.rotating import rotate
from peers.errors import MasaError
from peers.network.rotation import rotate as message
from peers.network.stake import SharedSecret
from peers.network.store import Store
from peers.network.tokens import Secret
from tests.commands import Done, command
from tests.networks import SECRET_LETTERS, Machine, Machines, all_see_all, machines, views
from tests.nodes import Running, running
from tests.waiting import until


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Machines]:
    async with machines(tmp_path) as started:
        yield started


def secrets_of(machine: Machine) -> tuple[Secret, ...]:
    return Store(machine.folder / "masa").secrets()


async def rotated(machine: Machine, *words: str) -> Done:
    done = await command(machine.folder, "rotate", *words)
    assert not any(secret.text in done.out + done.err for secret in await asyncio.to_thread(secrets_of, machine))
    return done


@pytest.mark.slow
async def test_a_lost_machine_is_removed_and_one_that_was_away_comes_back(fleet: Machines) -> None:
    first, second, lost, away = nodes = await fleet.network(4, NODE_NAME="box")
    await away.stop(signal.SIGTERM)
    done = await rotated(first, "--without", "box", "nobody")
    assert done.code == 2
    assert all(node.id in done.err for node in nodes[1:])
    done = await rotated(first, "--without", lost.id[:10])
    assert done.code == 0, done.err
    assert f"Handed to: box-{second.id[:6]}." in done.err
    assert f"Left out: box-{lost.id[:6]}." in done.err
    assert f"box-{away.id[:6]}" in done.err
    await all_see_all([first, second], within=10)
    assert await lost.sees() <= {first.id, second.id, away.id}
    again = await fleet.again(away)
    await all_see_all([first, second, again], within=20)

    async def alone() -> bool:
        return not (await lost.sees())

    await until(alone, 90, lambda: views([lost]))
    kept = [await asyncio.to_thread(secrets_of, node) for node in (first, second, again)]
    assert kept[0] == kept[1] == kept[2] != await asyncio.to_thread(secrets_of, lost)


@pytest.mark.slow
async def test_the_next_token_has_the_new_secret_and_an_old_one_still_joins(fleet: Machines) -> None:
    first = await fleet.start()
    old = await first.invite()
    done = await rotated(first)
    assert done.code == 0
    assert "24 h" in done.err
    assert done.out == ""
    assert (await first.invite())[:SECRET_LETTERS] != old[:SECRET_LETTERS]
    late = await fleet.start()
    await late.join(old)
    await all_see_all([first, late], within=15)

    async def moved() -> bool:
        return await asyncio.to_thread(secrets_of, late) == await asyncio.to_thread(secrets_of, first)

    await until(moved, 15, lambda: views([late]))


async def test_now_is_told_to_those_who_must_join_anew(fleet: Machines) -> None:
    first, away = await fleet.network(2)
    await away.stop(signal.SIGKILL)
    done = await rotated(first, "--now")
    assert done.code == 0
    assert away.id[:8] in done.err
    assert "must join anew" in done.err
    assert len(await asyncio.to_thread(secrets_of, first)) == 1


@pytest.mark.slow
async def test_without_a_running_node_the_folder_is_rotated(fleet: Machines) -> None:
    first, second = await fleet.network(2)
    await first.stop(signal.SIGTERM)
    assert (await rotated(first, "--without", "nobody")).code == 2
    before = await asyncio.to_thread(secrets_of, first)
    done = await rotated(first, "--without", "a" * 52)
    assert done.code == 0, done.err
    assert "nobody could be told" in done.err
    again = await fleet.again(first)
    await all_see_all([again, second], within=20)

    async def moved() -> bool:
        return await asyncio.to_thread(secrets_of, second) == await asyncio.to_thread(secrets_of, again) != before

    await until(moved, 15, lambda: views([second]))


@pytest.mark.slow
async def test_an_invitation_ends_no_rotation(tmp_path: Path) -> None:
    for words in (["invite"], ["rotate"], ["invite"]):
        assert (await command(tmp_path, *words)).code == 0
    assert await asyncio.to_thread(Store(tmp_path / "masa").rotation)
    told = await command(tmp_path, "rotate", "--now")
    assert told.code == 0
    assert len(await asyncio.to_thread(Store(tmp_path / "masa").secrets)) == 1


async def test_where_there_is_no_secret_nothing_is_rotated(tmp_path: Path) -> None:
    done = await command(tmp_path, "rotate")
    assert done.code == 1
    assert "in no network" in done.err
    done = await command(tmp_path, "rotate", env={"NETWORK_ID": "a" * 51 + "q"})
    assert done.code == 1
    assert "stake revoke" in done.err


NETWORK = {"PEER_HOST": "127.0.0.1", "PEER_PORT": "0", "MDNS": "false"}


async def test_a_secret_in_the_environment_is_followed_by_the_one_on_disk(tmp_path: Path) -> None:
    old = Secret.new()
    env = {**NETWORK, "NETWORK_SECRET": old.text}
    async with running(tmp_path, **env) as node:
        await node.node.joined.settled()
        assert notices(node) == []
        await rotate(node.node.joined, [], at_once=False)
        assert notices(node) == ["secret_held_back"]
        new = secrets_in(node)
        assert new[1] == old
    async with running(tmp_path, **env) as node:
        await node.node.joined.settled()
        assert secrets_in(node) == new
        assert notices(node) == ["secret_held_back"]
    async with running(tmp_path, **env | {"NETWORK_SECRET": new[0].text}) as node:
        await node.node.joined.settled()
        assert secrets_in(node) == new
        assert notices(node) == []


async def test_a_network_that_was_left_hands_over_nothing_more(tmp_path: Path) -> None:
    """A secret that came in late would put the node back into it at its next start."""
    async with running(tmp_path, **NETWORK) as node:
        joined = node.node.joined
        old = (await joined.invite(None)).secret
        assert joined.network
        rotating = joined.network.rotating
        assert rotating
        await joined.leave()
        with pytest.raises(MasaError, match="leaving"):
            await rotating.take(message(old, Secret.new(), time.time(), None).sealed)
        assert await asyncio.to_thread(joined.store.secrets) == ()


def secrets_in(node: Running) -> tuple[Secret, ...]:
    network = node.node.joined.network
    assert network
    assert isinstance(network.stake, SharedSecret)
    assert (network.stake.rotation is None) == (len(network.stake.secrets) == 1)
    return network.stake.secrets


def notices(node: Running) -> list[str]:
    stay = node.node.joined.stay
    assert stay
    return [notice.code for notice in stay.outlook().notices]
