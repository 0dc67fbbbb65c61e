"""A secret is rotated in networks of many nodes, in virtual time, while exchanges are lost."""

from collections.abc import Collection
from pathlib import Path

import pytest

from tests.solipsism import VirtualNet, in_a_net
from tests.virtual_node import VirtualNode


def moved(nodes: Collection[VirtualNode]) -> bool:
    """All are in one new network, and know it of each other."""
    if any(node.network is None for node in nodes):
        return False
    networks = {node.running.stake.networks for node in nodes}
    held = [node.running.membership.table.members.get(other.id) for node in nodes for other in nodes]
    return len(networks) == 1 and all(member and member.record.net == min(networks)[0] for member in held)


@pytest.mark.parametrize(
    "size", [pytest.param(10, marks=pytest.mark.slow), pytest.param(50, marks=pytest.mark.reliability)]
)
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_all_but_the_lost_one_move_and_who_was_away_follows(tmp_path: Path, size: int, loss: float) -> None:
    async def play(net: VirtualNet) -> tuple[float, float]:
        first, lost, away = net.up()[3], net.up()[5], net.up()[7]
        net.kill(away)
        rotating = first.running.rotating
        assert rotating
        await rotating.begin(frozenset({lost.id}), only_others=True, at_once=False)
        stay = [node for node in net.up() if node is not lost]
        took = await net.until(lambda: moved(stay), 60)
        await net.passes(120)
        net.start(away)
        followed = await net.until(lambda: moved([*stay, away]), 60)
        assert lost.alive() <= {lost.id, away.id}  # they met before that one had the secret
        assert lost.id not in set.union(*(node.fresh() for node in stay))
        return took, followed

    took, followed = in_a_net(play, tmp_path, size, loss=loss)
    assert took < 30
    assert followed < 30
