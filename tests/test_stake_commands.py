"""`masa-node stake` as operators use it: real processes, an authority, members, one that is shut out."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from peers.network.certificates import DAY, issue
from peers.network.identity import id_text
from peers.network.tokens import certificate_text
from tests.commands import Done, command
from tests.processes import RunningNode, running_node
from tests.test_certificates import AUTHORITY, NETWORK, NODE, NOW, SERIAL
from tests.test_joining import PEERS, id_of, seen, until_all_see_all
from tests.waiting import until

Start = Callable[..., Any]
HOSTS = {**PEERS, "PEER_ALLOW_CIDRS": "127.0.0.0/8", "LOG_LEVEL": "debug"}
WEAK = id_text(b"\1" + bytes(31))


async def stake(folder: Path, *words: str, **env: str) -> Done:
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    return await command(folder, "stake", *words, env=env)


async def told(folder: Path, *words: str, **env: str) -> Any:
    """What it prints with --json."""
    return json.loads((await stake(folder, *words, "--json", **env)).out)


async def issued(authority: Path, node: str, *words: str) -> tuple[str, dict[str, str]]:
    """A certificate, and the settings that the authority's hints name."""
    done = await stake(authority, "issue", node, *words)
    assert done.code == 0, done.err
    assert done.out.startswith("masacert1")
    assert done.out.count("\n") == 1
    line = next(line.strip() for line in done.err.splitlines() if "NETWORK_ID=" in line)
    return done.out.strip(), {"NETWORK_ID": line.removeprefix("NETWORK_ID="), "STAKE_CERTIFICATE": done.out.strip()}


async def test_from_an_id_to_a_certificate_that_holds(tmp_path: Path) -> None:
    member, authority = tmp_path / "member", tmp_path / "authority"
    shown = await told(member, "show")
    assert set(shown) == {"node", "why", "remedy"}
    word, env = await issued(authority, shown["node"], "--days", "30", "--amount", "5")
    stands = await told(member, "show", **env)
    assert {key: stands[key] for key in ("state", "by", "amount", "days_left", "network")} == {
        "state": "valid",
        "by": "certificate",
        "amount": 5,
        "days_left": 30,
        "network": env["NETWORK_ID"],
    }
    listed = await told(authority, "list")
    assert listed["network"] == env["NETWORK_ID"] == (await told(authority, "show"))["authority"]
    assert [(one["node"], one["amount"], one["state"]) for one in listed["certificates"]] == [
        (shown["node"], 5, "valid")
    ]
    table = await stake(authority, "list")
    assert shown["node"] in table.out
    assert "valid" in table.out
    assert word not in table.out


@pytest.mark.slow
async def test_nothing_is_lost_of_commands_at_once(tmp_path: Path) -> None:
    """The first six of an authority, which has no key yet."""
    nodes = [id_text(bytes([number]) * 32) for number in range(2, 8)]
    await asyncio.to_thread((tmp_path / "a").mkdir)
    networks = {env["NETWORK_ID"] for _, env in await asyncio.gather(*(issued(tmp_path / "a", node) for node in nodes))}
    listed = await told(tmp_path / "a", "list")
    assert {listed["network"]} == networks
    assert {one["node"] for one in listed["certificates"]} == set(nodes)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("issue", NODE[:-1]), 2, "51 characters"),
        (("issue", NODE.upper()), 2, "a-z and 2-7"),
        (("issue", WEAK), 2, "weak key"),
        (("issue", NODE, "--days", "366"), 2, "--days: 1 to 365"),
        (("issue", NODE, "--days", "0"), 2, "--days: 1 to 365"),
        (("issue", NODE, "--amount", "0"), 2, "--amount: 1 or more"),
        (("issue", NODE, "--days", "soon"), 2, "--days"),
        (("revoke", NODE[:5]), 2, "too short"),
        (("revoke", NODE.upper()), 2, "a-z and 2-7"),
        (("revoke", NODE), 1, "no authority"),
        (("list",), 1, "`masa-node stake issue` begins one"),
        ((), 2, "ACTION"),
    ],
)
async def test_what_cannot_be_done_is_told(tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    done = await stake(tmp_path, *words)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
async def test_who_is_meant_by_the_beginning_of_an_id(tmp_path: Path) -> None:
    _, env = await issued(tmp_path, "self")
    me = (await told(tmp_path, "show"))["node"]
    assert (await stake(tmp_path, "revoke", "a" * 7)).code == 1
    done = await stake(tmp_path, "revoke", me[:6])
    assert (done.code, done.out) == (0, "")
    assert f"Revoked 1 certificate of node {me}" in done.err
    assert "no node runs" in done.err
    shown = await stake(tmp_path, "show", **env)
    assert shown.code == 1
    assert "revoked by the authority" in shown.out
    assert "handed over again" in (await stake(tmp_path, "revoke", "self")).err


@pytest.mark.slow
async def test_why_a_certificate_does_not_hold(tmp_path: Path) -> None:
    _, env = await issued(tmp_path, NODE)
    shown = await stake(tmp_path, "show", **env)
    assert shown.code == 1
    assert f"for node {NODE}" in shown.out
    assert "remedy" in shown.out
    me = (await told(tmp_path, "show"))["node"]
    ended = certificate_text(issue(AUTHORITY, me, NOW - 2000 * DAY, SERIAL))
    shown = await stake(tmp_path, "show", NETWORK_ID=NETWORK, STAKE_CERTIFICATE=ended)
    assert shown.code == 1
    assert "ended on" in shown.out


@pytest.mark.parametrize("words", [("run",), ("doctor",), ("stake", "show")])
@pytest.mark.parametrize(
    ("env", "name", "said"),
    [
        ({"NETWORK_ID": WEAK}, "NETWORK_ID", "weak key"),
        ({"NETWORK_ID": NODE[:-1]}, "NETWORK_ID", "not a network's id"),
        ({"NETWORK_ID": NODE, "STAKE_CERTIFICATE": "masacert1x"}, "STAKE_CERTIFICATE", "not a certificate"),
        (
            {"NETWORK_ID": NODE, "STAKE_CERTIFICATE": certificate_text(issue(AUTHORITY, NODE, NOW, SERIAL))},
            "STAKE_CERTIFICATE",
            "another network",
        ),
        (
            {"NETWORK_ID": NETWORK, "STAKE_CERTIFICATE": certificate_text(bytes(64) + b"{}" * 40)},
            "STAKE_CERTIFICATE",
            "damaged",
        ),
    ],
)
async def test_a_wrong_network_is_told_at_the_start(
    tmp_path: Path, words: tuple[str, ...], env: dict[str, str], name: str, said: str
) -> None:
    done = await command(tmp_path, *words, env=env)
    assert done.code == 2
    assert name in done.out + done.err
    assert said in done.out + done.err
    assert env.get("STAKE_CERTIFICATE", "?") not in done.out + done.err


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a member whose certificate is in a file, issued by the authority in `a`; again where it has one."""
    async with AsyncExitStack() as stack:

        async def one(name: str, *bootnodes: RunningNode) -> RunningNode:
            folder = tmp_path / name
            file = folder / "member.cert"
            node = (await told(folder, "show"))["node"]
            if not await asyncio.to_thread(file.exists):
                word, _ = await issued(tmp_path / "a", node)
                await asyncio.to_thread(file.write_text, word + "\n")
            network = (await told(tmp_path / "a", "show"))["authority"]
            places = [f"127.0.0.1:{other.events('network_open')[0]['port']}" for other in bootnodes]
            env = {"NETWORK_ID": network, "STAKE_CERTIFICATE_FILE": str(file), "BOOTNODES": ",".join(places)}
            running = await stack.enter_async_context(running_node(folder, {**HOSTS, **env}))
            await running.event("network_open")
            return running

        yield one


async def until_sees(node: RunningNode, whom: set[str]) -> None:
    async def sees() -> bool:
        return await seen(node) == whom

    await until(sees)


@pytest.mark.slow
async def test_who_is_revoked_is_out_everywhere_and_a_restart_does_not_forget(tmp_path: Path, start: Start) -> None:
    first = await start("a")
    second, bad = await start("b", first), await start("c", first)
    await until_all_see_all([first, second, bad])
    done = await stake(tmp_path / "a", "revoke", id_of(bad))
    assert done.code == 0
    assert "the others learn it by gossip" in done.err
    await until_sees(first, {id_of(second)})
    await until_sees(second, {id_of(first)})
    kept = tmp_path / "b/masa/network"
    await until(lambda: asyncio.to_thread(lambda: list(kept.glob("denied-*"))))
    for node in (first, second):
        node.process.kill()
        await node.wait()
    again = await start("b", bad)
    await until(lambda: "revoked" in str(again.events("peer_missed")))
    assert await seen(again) == set()


@pytest.mark.slow
async def test_a_revocation_without_a_node_is_taken_up_by_the_next_run(tmp_path: Path, start: Start) -> None:
    first = await start("a")
    other, bad = await start("b", first), await start("c", first)
    await until_all_see_all([first, other, bad])
    first.process.kill()
    await first.wait()
    assert "no node runs" in (await stake(tmp_path / "a", "revoke", id_of(bad)[:8])).err
    again = await start("a", other)
    await until_sees(again, {id_of(other)})
    await until_sees(other, {id_of(again)})
