"""The figures of membership, as docs/protocol.md has them: `python -m tests.simnet NODES [--loss 0.3]`.

Up to 1,000 nodes the whole network is simulated; above, two nodes with tables of that size, who gossip as they would.
"""

import argparse
from random import Random
from statistics import median, quantiles
from time import process_time

from peers.network.announcer import period
from peers.network.membership import Membership
from peers.network.records import Models, Record, seal
from tests.simnet import NETWORK, PROOF, START, SimNet, an_id, fake_sign, terms

MOST_SIMULATED = 1000
HEADERS = 1200
"""Bytes of HTTP around a message and its answer, signature included, about."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", type=int)
    parser.add_argument("--loss", type=float, default=0.0, help="how many exchanges fail, 0 to 1")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--news", type=int, default=20, help="how many changes to follow")
    chosen = parser.parse_args()
    if chosen.nodes > MOST_SIMULATED:
        large(chosen.nodes, Random(chosen.seed))
    else:
        whole(SimNet(chosen.nodes, seed=chosen.seed, loss=chosen.loss), chosen.news)


def whole(net: SimNet, news: int) -> None:
    print(f"{len(net.nodes)} nodes, {net.loss:.0%} of all exchanges lost")
    print(f"cold start from one bootnode: {net.rounds(net.whole)} s")
    net.run(30)
    rounds = net.spread(news)
    print(f"rounds for news to reach all: median {median(rounds):.0f}, p99 {quantiles(rounds, n=100)[-1]:.0f}")
    before = [(node.sent, node.messages) for node in net.running()]
    net.run(60)
    sent = sum(node.sent - old for node, (old, _) in zip(net.running(), before, strict=True)) / len(before) / 60
    messages = sum(node.messages - old for node, (_, old) in zip(net.running(), before, strict=True)) / len(before) / 60
    print(f"idle, each node: {messages:.1f} messages/s, {sent:,.0f} bytes/s out and as many in, without HTTP;")
    print(f"with it about {2 * sent + messages * HEADERS:,.0f} bytes/s in both directions together")


def large(nodes: int, rng: Random) -> None:
    """Each second as many records are renewed as in the real network; each of the two hears half of them elsewhere."""
    ids = [an_id(rng) for _ in range(nodes)]
    pair = [Membership(terms(node), Random(node), START) for node in ids[:2]]
    for core in pair:
        core.announce(START, addrs=("20.0.0.1:4001",), models=Models())
    for text in [record(node, nodes, START - rng.uniform(0, period(nodes))) for node in ids]:
        for core in pair:
            core.introduced(text, START)
    rounds, sent, messages = 60, 0, 0
    spent = process_time()
    for second in range(rounds):
        now = START + second
        for node in rng.sample(ids, round(nodes / period(nodes))):
            rng.choice(pair).introduced(record(node, nodes, now), now)
        for asker, other in (pair, pair[::-1]):
            other.intake.forget([asker.me])  # it stands for many peers, each with an allowance of its own
            asker.intake.forget([other.me])
            body, most = asker.tick(now)[0].body or b"", 2
            while body and most:
                answer = other.receive(body, asker.me, now)
                sent, messages, most = sent + len(body) + len(answer), messages + 2, most - 1
                body = next((send.body or b"" for send in asker.answered(other.me, answer, now)), b"")
    spent = process_time() - spent
    print(f"{nodes:,} nodes: one exchange is {sent / rounds / 2:,.0f} bytes in both directions together;")
    print(f"a node has about four a second: {4 * sent / rounds / 2:,.0f} bytes/s, and")
    print(f"{spent / rounds * 1000:.0f} ms of CPU a second, signature checks (about 6 ms) and HTTP left out")


def record(node: str, nodes: int, issued: float) -> str:
    made = Record(
        net=NETWORK,
        id=node,
        boot="0" * 16,
        epoch=int(START * 1000),
        seq=max(0, int(issued - START) + 1000),
        issued=int(issued),
        ttl=int(3 * period(nodes) + 30),
        addrs=("203.0.113.77:4001",),
        models=Models(12, "f" * 16),
        proof=PROOF,
    )
    return seal(made, lambda data: fake_sign(made.node, data))
