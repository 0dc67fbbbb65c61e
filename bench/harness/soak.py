"""bench/soak: five nodes in one network under load, while nodes are killed and model servers fail."""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from harness.home import HOME
from harness.report import machine
from harness.soak_callers import LIMIT_S, Callers
from harness.soak_models import Model
from harness.soak_nodes import Node, NodeFailed, Sample, as_line, five, unused_port
from harness.soak_verdict import MIB, judge
from harness.tables import table

PER_SECOND = 5.0
SAMPLE_S, TELL_S = 10.0, 60.0
MEET_S, REST_S, LOOK_S = 60.0, 30.0, 0.5
PEACE_S, DOWN_S, FROZEN_S = (30.0, 90.0), (0.0, 20.0), (2.0, 15.0)
"""Between two deeds of the churn; until a stopped node is started again; for which one stands still."""
STEADY = 2
"""So many of the first nodes are left in peace."""


@dataclass(slots=True)
class Soak:
    nodes: list[Node]
    models: list[Model]
    callers: Callers
    seconds: float
    samples_file: Path
    rng: Random
    began: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    deeds: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    async def run(self, enough: asyncio.Event) -> None:
        """Until the time is over or it is `enough`."""
        try:
            async with asyncio.TaskGroup() as group:
                living = [group.create_task(model.live()) for model in self.models]
                await self.meet(asyncio.gather(*(node.start() for node in self.nodes)))
                self.began = time.monotonic()
                asking = group.create_task(self.callers.ask_on(PER_SECOND))
                watching = [group.create_task(step()) for step in (self.sample, self.tell)]
                churning = group.create_task(self.churn(enough))
                await waited(enough, self.seconds)
                enough.set()
                asking.cancel()
                await asyncio.wait((asking, churning), timeout=LIMIT_S)
                await self.meet()
                await self.rest()
                for task in (*living, *watching):
                    task.cancel()
        except* NodeFailed as group_:
            self.failed += [str(error) for error in group_.exceptions]

    async def meet(self, first: "asyncio.Future[list[None]] | None" = None) -> None:
        """Wait until all see all. Raises NodeFailed."""
        if first:
            await first
        end = time.monotonic() + MEET_S
        while (views := [await node.sees() for node in self.nodes]) != [len(self.nodes) - 1] * len(self.nodes):
            if time.monotonic() > end:
                raise NodeFailed(f"not all see all after {MEET_S:.0f} s: {views}")
            await asyncio.sleep(LOOK_S)

    async def rest(self) -> None:
        """Wait until no node holds anything of what was asked. Raises NodeFailed."""
        end = time.monotonic() + REST_S
        while busy := [node.name for node in self.nodes if not await node.at_rest()]:
            if time.monotonic() > end:
                raise NodeFailed(f"{busy} still hold calls {REST_S:.0f} s after the last answer")
            await asyncio.sleep(LOOK_S)

    async def churn(self, enough: asyncio.Event) -> None:
        """One node at a time is stopped, killed or frozen; all are up when this ends."""
        while not await waited(enough, self.rng.uniform(*PEACE_S)):
            node = self.rng.choice(self.nodes[STEADY:])
            deed = self.rng.choice(("stopped", "killed", "killed", "frozen"))
            self.deeds.append(deed)
            if deed == "frozen":
                await node.freeze(self.rng.uniform(*FROZEN_S))
                continue
            await node.stop(signal.SIGTERM if deed == "stopped" else signal.SIGKILL)
            await waited(enough, self.rng.uniform(*DOWN_S))
            await node.start()

    async def sample(self) -> None:
        """Each 10 seconds, until cancelled; a line of JSON for each node."""
        with self.samples_file.open("w") as file:
            while True:
                at = time.monotonic() - self.began
                for node in self.nodes:
                    if node.up:
                        node.check()
                    if one := await node.sample(at):
                        self.samples.append(one)
                        print(as_line(one), file=file, flush=True)
                await asyncio.sleep(SAMPLE_S - (time.monotonic() - self.began) % SAMPLE_S)

    async def tell(self) -> None:
        """Each minute, until cancelled."""
        while True:
            await asyncio.sleep(TELL_S)
            last = {one.node: one for one in self.samples}
            held = ", ".join(f"{name} {one.rss / MIB:.1f} MiB {one.files} files" for name, one in sorted(last.items()))
            minute, outcomes = (time.monotonic() - self.began) / 60, self.callers.outcomes
            say(
                f"minute {minute:.0f}: {outcomes.total()} questions, {outcomes['answered']} answered, "
                f"{self.callers.missed()} lost or false; {len(self.deeds)} deeds; {held}"
            )

    def verdict(self) -> int:
        """The tables go to standard output. The exit code."""
        seconds = self.samples[-1].at if self.samples else 0.0
        held, missed = judge(self.samples, [node.name for node in self.nodes[:STEADY]], seconds)
        missed += self.failed + self.callers.wrong[:20]
        missed += [f"{node.name}'s log: {line.strip()}" for node in self.nodes for line in node.faults()[:5]]
        counted = self.callers.outcomes
        print(f"{seconds / 60:.0f} minutes, {PER_SECOND:g} questions a second, five nodes; {machine()}\n")
        print(held + "\n")
        print(table(("questions", "count"), [(what, str(count)) for what, count in counted.most_common()]) + "\n")
        done = ", ".join(f"{self.deeds.count(deed)} {deed}" for deed in sorted({*self.deeds}))
        print(f"Nodes were {done or 'left in peace'}. Lost {counted['lost']}, false {counted['false']}.")
        print("\n".join(("Missed:", *missed)) if missed else "Nothing was missed.")
        return 1 if missed or not self.samples else 0


def main() -> int:
    """Exit codes: 0 fine, 1 a promise was missed, 2 usage. Ctrl-C ends it with the tables so far."""
    args = arguments()
    HOME.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        return asyncio.run(soak(args, Path(folder)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/soak", description="Five nodes under load, while nodes and models fail."
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="how long it asks (60)")
    parser.add_argument("--seed", default="0", help="of what fails when, and who asks whom")
    parser.add_argument(
        "--samples", type=Path, default=HOME / "soak.jsonl", metavar="FILE", help="a line for each sample"
    )
    args = parser.parse_args()
    if args.minutes <= 0:
        parser.error("--minutes must be more than 0")
    return args


async def soak(args: argparse.Namespace, folder: Path) -> int:
    enough, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, enough.set)
    async with world(args, folder) as one:
        await one.run(enough)
    return one.verdict()


@asynccontextmanager
async def world(args: argparse.Namespace, folder: Path) -> AsyncIterator[Soak]:
    """Every node's process is gone when the block is left."""
    ports = [unused_port() for _ in range(4)]
    nodes = five(folder, ports)
    models = [Model(f"n{one}", port, Random(f"{args.seed} {one}")) for one, port in enumerate(ports, 1)]
    callers = Callers(nodes, Random(f"{args.seed} callers"), say)
    try:
        yield Soak(nodes, models, callers, 60 * args.minutes, args.samples, Random(f"{args.seed} churn"))
    finally:
        await asyncio.gather(*(node.stop(signal.SIGTERM) for node in nodes))


async def waited(event: asyncio.Event, seconds: float) -> bool:
    """Whether it was set within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def say(text: str) -> None:
    print(f"soak: {text}", file=sys.stderr, flush=True)
