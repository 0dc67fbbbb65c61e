"""How a node stands in its network, as its operator is told: counts, notices, metrics, what the doctor makes of it."""

# The fixture `start` is test_joining's.
# ruff: noqa: F811

from random import Random

import aiohttp
import pytest

from peers.network.certificates import NetworkId
from peers.network.figures import NetworkFigures
from peers.network.outlook import LanView, NetworkView, core_notices, members_by_status, shut_out
from peers.network.traffic import MOST_TURNED_AWAY, Traffic
from tests.members import A, B, core, sealed
from tests.simnet import START, an_id
from tests.test_doctor import examined, one
from tests.test_joining import PEERS, Start, command, invited, start, until_all_see_all  # noqa: F401


def test_members_are_counted_by_status() -> None:
    at = core(A)
    assert members_by_status(at, START) == {"alive": 0, "suspect": 0, "dead": 0, "candidate": 0}
    at.introduced(sealed(B), START)
    assert members_by_status(at, START)["alive"] == 1
    at.missed(B, START, refused=True)
    assert members_by_status(at, START)["suspect"] == 1
    at.tick(START + 100)
    assert members_by_status(at, START + 100)["dead"] == 1


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (0, None),
        (61, "61 s behind the others': it is allowed for; set the clock"),
        (-300, "300 s ahead of the others': it is allowed for; set the clock"),
        (700, "700 s behind the others': beyond 10 minutes nobody takes its word; set the clock"),
    ],
)
def test_a_wrong_clock_is_told(ahead: float, words: str | None) -> None:
    at = core(A)
    at.heard_clock(B, START + ahead, START)
    told = [notice for notice in core_notices(at, START) if notice.code == "clock_off"]
    assert [notice.text for notice in told] == ([f"this machine's clock is {words}"] if words else [])


def test_another_machine_with_our_key_is_told_of() -> None:
    at = core(A)
    assert not list(core_notices(at, START))
    record = at.announcer.record
    at.introduced(sealed(A, boot="f" * 16, epoch=record.epoch + 1, now=START + 5), START + 5)
    assert [notice.code for notice in core_notices(at, START + 5)] == ["key_duplicated"]


def test_those_turned_away_are_bounded() -> None:
    traffic = Traffic()
    rng = Random(1)
    first, second, *others = (an_id(rng) for _ in range(MOST_TURNED_AWAY + 1))
    for node in (first, second, *others):
        traffic.turn_away(node, "wrong_network")
    assert list(traffic.turned_away) == [second, *others]
    traffic.let_in(second)
    assert list(traffic.turned_away) == others


def test_without_a_network_there_are_no_figures() -> None:
    assert list(NetworkFigures(lambda: None).collect()) == []


def test_figures_have_their_labels() -> None:
    view = NetworkView(
        id=NetworkId(B), stake="secret", addresses=(), reach="unknown", members={"alive": 3}, clock_offset=-2.5,
        lan=LanView(""), bootnodes={}, refused={"stale": 4}, requests_refused={"replayed": 5}, turned_away={},
        bytes_in=6, bytes_out=7, notices=(),
    )  # fmt: skip
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in NetworkFigures(lambda: view).collect()
        for sample in metric.samples
    }
    assert samples == {
        ("masa_members", "alive"): 3,
        ("masa_gossip_bytes_total", "in"): 6,
        ("masa_gossip_bytes_total", "out"): 7,
        ("masa_records_refused_total", "stale"): 4,
        ("masa_peer_requests_refused_total", "replayed"): 5,
        ("masa_clock_offset_seconds",): -2.5,
    }


async def test_the_doctor_tells_of_a_running_nodes_network(start: Start) -> None:
    nodes = [await start(BOOTNODES=""), await start()]
    alone = await start(BOOTNODES="127.0.0.1:1024")
    await command(nodes[1], "join", await invited(nodes[0]))
    await until_all_see_all(nodes)
    await invited(alone)
    _, found = await examined(nodes[0].folder, PORT=str(nodes[0].port), **PEERS)
    network = await told(nodes[0].url)
    assert one(found, "network").what == f"in {network['id'][:8]} by secret: 1 alive"
    assert one(found, "clock offset").status == "ok"
    assert one(found, "reachability").status == "ok"
    assert one(found, "mdns").what == "MDNS is off: nodes of this LAN are not looked for"
    _, found = await examined(alone.folder, PORT=str(alone.port), **PEERS)
    assert one(found, "network").remedy
    assert (one(found, "bootnode").status, one(found, "bootnode").remedy is None) == ("warn", False)


async def told(url: str) -> dict[str, str]:
    async with aiohttp.ClientSession() as session, session.get(url + "/api/v1/node") as got:
        network: dict[str, str] = (await got.json())["network"]
    return network


@pytest.mark.slow
async def test_without_a_node_the_doctor_calls_the_bootnodes_itself(start: Start) -> None:
    there = await start()
    token = await invited(there)
    away = await start()
    await command(away, "join", token)
    await until_all_see_all([there, away])
    away.process.terminate()
    await away.wait()
    _, found = await examined(away.folder, **PEERS)
    assert one(found, "network").what.startswith("this node is to be in ")
    assert one(found, "bootnode").what.endswith(" answers")
    there.process.kill()
    await there.process.wait()
    _, found = await examined(away.folder, **PEERS)
    assert one(found, "bootnode").what.endswith("it cannot be reached")


def test_who_is_shut_out_is_told_the_remedy() -> None:
    assert "ask for a new token" in shut_out(2, "secret").text
    assert "ask the authority" in shut_out(1, "certificate").text
