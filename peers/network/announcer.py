"""Announcer: issues this node's own record, renews it, and notices when another machine uses its key. Pure."""

from random import Random

import msgspec

from peers.network.records import LATE, LONGEST_PAYLOAD, SEQ_BITS, Models, Record, Sign, seal
from peers.wire import NodeId

SHORTEST_PERIOD, LONGEST_PERIOD = 10.0, 300.0
NODES_PER_SECOND = 50.0
"""So many records a second are issued in a network, whatever its size, between the two bounds."""
MOST_RIVALS = 16
JITTER = 0.1
NUMBERS_GROW = 32
"""Bytes: what issued, epoch and seq may still gain."""


def period(size: int) -> float:
    """Seconds between two records of one node, in a network of `size`."""
    return min(max(size / NODES_PER_SECOND, SHORTEST_PERIOD), LONGEST_PERIOD)


class Announcer:
    """Times are the network's, but for `local`."""

    def __init__(self, me: NodeId, network: str, sign: Sign, rng: Random, epoch: int, local: float) -> None:
        self.sign = sign
        self.rng = rng
        self.text = ""
        self._former_text = ""
        """The same for those who are still in the network that we are leaving; empty: there is none."""
        self.record = Record(net=network, id=me, boot=self._new_boot(), epoch=epoch, seq=0, issued=0, ttl=60, addrs=())
        self._former = ("", "")
        """That network, and our proof there."""
        self._floor = epoch
        """The epoch of our next record at least."""
        self._started = local
        self._renew_at = float("-inf")
        self._issued_after = 0
        """Unix seconds: a rival that started in the same second would take our word for one of its former life."""
        self._rivals: dict[str, float] = {}
        """By boot: until when the last record of another machine with our key counts, on the local time line."""

    @property
    def epoch(self) -> int:
        """To be kept on disk: the next start goes above it."""
        return self.record.epoch

    def duplicated(self, local: float) -> bool:
        """Another machine has our key."""
        return any(local <= until for until in self._rivals.values())

    def silent(self, local: float) -> bool:
        """Of two machines with one key, the one with the lower boot stops announcing, while it hears the other."""
        return any(boot > self.record.boot and local <= until for boot, until in self._rivals.items())

    def change(
        self,
        *,
        net: str,
        addrs: tuple[str, ...],
        models: Models,
        proof: str,
        name: str,
        former: tuple[str, str] = ("", ""),
    ) -> bool:
        """What the next record will say. False: nothing new. Raises ValueError when that is too much.

        `former`: the network that we are leaving, and our proof there.
        """
        changed = msgspec.structs.replace(self.record, net=net, addrs=addrs, models=models, proof=proof, name=name)
        if changed == self.record and former == self._former:
            return False
        if len(msgspec.json.encode(changed)) > LONGEST_PAYLOAD - NUMBERS_GROW:
            raise ValueError("the record is over 1 KiB: fewer or shorter addresses, or a shorter name")
        self.record, self._former = changed, former
        self._renew_at = float("-inf")
        return True

    def text_in(self, network: str) -> str:
        """Our record for who is in `network`."""
        return self._former_text if self._former_text and network == self._former[0] else self.text

    def leave(self) -> None:
        self.record = msgspec.structs.replace(self.record, state="left")

    def due(self, network: float, local: float) -> bool:
        """Also when our clock was corrected, either way."""
        return not self.record.issued <= network < self._renew_at and not self.silent(local)

    def issue(self, network: float, size: int) -> None:
        """The next record; right before it, if we are leaving a network, one for those who are still there.

        Who is in both takes the newer one, which is never that of the network that we are leaving.
        """
        net, proof = self._former
        numbers = 2 if net else 1
        epoch, seq = self.record.epoch, self.record.seq + numbers
        if seq >> SEQ_BITS:
            self._floor = max(int(network * 1000), epoch + 1)
        if epoch < self._floor:
            epoch, seq = self._floor, numbers - 1
        every = period(size)
        self.record = msgspec.structs.replace(
            self.record, epoch=epoch, seq=seq, issued=max(int(network), self._issued_after), ttl=int(3 * every + 30)
        )
        self.text = seal(self.record, self.sign)
        former = msgspec.structs.replace(self.record, net=net, proof=proof, seq=seq - 1) if net else None
        self._former_text = seal(former, self.sign) if former else ""
        self._renew_at = network + every * self.rng.uniform(1 - JITTER, 1 + JITTER)

    def met_self(self, record: Record, network: float, local: float) -> bool:
        """A genuine record of our own id came in: whether to issue one above it now.

        Of an earlier start of ours: once above it, and it is gone. Issued after our start by another boot: another
        machine has our key. Each says so once; after that only the one with the higher boot does.
        """
        above = record.version > self.record.version
        if above:
            self._floor = max(self._floor, record.epoch + 1)
        if record.boot == self.record.boot:
            if not above:
                return False
            self.record = msgspec.structs.replace(self.record, boot=self._new_boot())  # a copy of this very process
        elif record.issued <= network - (local - self._started):
            return above
        known = local <= self._rivals.get(record.boot, float("-inf"))
        self._note(record, network, local)
        return above and (not known or record.boot < self.record.boot)

    def _note(self, record: Record, network: float, local: float) -> None:
        self._issued_after = min(record.issued, int(network)) + 1
        until = local + min(record.life, record.issued + record.life + LATE - network)
        self._rivals = {boot: last for boot, last in self._rivals.items() if local <= last}
        if len(self._rivals) < MOST_RIVALS or record.boot in self._rivals:
            self._rivals[record.boot] = max(until, self._rivals.get(record.boot, until))

    def _new_boot(self) -> str:
        return f"{self.rng.getrandbits(64):016x}"
