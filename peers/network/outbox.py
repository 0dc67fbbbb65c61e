"""Outbox: tells peers to stop calls that nobody waits for any more. Bounded: beyond it, connections are closed.

A peer that has heard it ends its answer in good form: read to that end, the connection can be used again.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import msgspec
import structlog

from peers.http1.answer import Answer
from peers.network.contact import Contact, NoContact
from peers.network.dialing import Address
from peers.network.questions import CALLS, JSON
from peers.wire import NodeId

log = structlog.get_logger(__name__)

MOST_WAITING = 1024
MOST_AT_ONCE = 64
"""Calls told of in one message."""
GATHERED_SECONDS = 0.003
"""For which stops wait for others to the same peer, and for answers that are whole by then: those cost no message."""
STOP_SECONDS = 1.0
END_SECONDS, LONGEST_END = 1.0, 256 * 1024
"""For which, and how many bytes of which, an answer may go on once its peer has heard that it is to stop."""


@dataclass(frozen=True, slots=True)
class _Stop:
    request_id: str
    response: Answer
    """Still open: once the peer has heard it is read to its end, else closed."""


class Outbox:
    """`stop` never awaits, so that it can be called where work is dropped."""

    def __init__(self, contact: Contact) -> None:
        self._contact = contact
        self._waiting: deque[tuple[tuple[NodeId, Address], _Stop]] = deque()
        self._under_way = 0
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def stop(self, node: NodeId, at: Address, request_id: str, response: Answer) -> None:
        if len(self._waiting) + self._under_way >= MOST_WAITING:
            response.close()
            return
        self._waiting.append(((node, at), _Stop(request_id, response)))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHERED_SECONDS, self._due.set)

    async def run(self) -> None:
        """Each message is a task of its own: a peer that is slow to hear delays no other's stop."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._due.wait()
                self._due.clear()
                self._timer = None
                self._send(group)

    def _send(self, group: asyncio.TaskGroup) -> None:
        """What waits, to all peers at once."""
        by_peer: dict[tuple[NodeId, Address], list[_Stop]] = defaultdict(list)
        while self._waiting:
            peer, stop = self._waiting.popleft()
            if not stop.response.over:
                by_peer[peer].append(stop)
        for peer, stops in by_peer.items():
            for start in range(0, len(stops), MOST_AT_ONCE):
                some = stops[start : start + MOST_AT_ONCE]
                self._under_way += len(some)
                group.create_task(self._tell(*peer, some), name="stop")

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for _, stop in self._waiting:
            stop.response.close()
        self._waiting.clear()

    async def _tell(self, node: NodeId, at: Address, stops: list[_Stop]) -> None:
        body = msgspec.json.encode({"stop": [stop.request_id for stop in stops]})
        try:
            answer = await self._contact.post(node, at, CALLS, body, content_type=JSON, within=STOP_SECONDS)
            if answer.status == 200:
                await _run_out(stops)
        except NoContact as error:
            log.debug("stop_missed", peer=node[:8], reason=error.reason)
        finally:
            self._under_way -= len(stops)
            for stop in stops:
                stop.response.close()


async def _run_out(stops: list[_Stop]) -> None:
    """Read what is still on its way; whoever has too much of it keeps the others from nothing but time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            for stop in stops:
                with suppress(OSError):
                    left = LONGEST_END
                    while left > 0 and (piece := await stop.response.read()):
                        left -= len(piece)


@asynccontextmanager
async def open_outbox(contact: Contact) -> AsyncIterator[Outbox]:
    """An Outbox that sends until the block is left; what then waits is stopped by closing its connection."""
    async with asyncio.TaskGroup() as group:
        outbox = Outbox(contact)
        running = group.create_task(outbox.run(), name="outbox")
        try:
            yield outbox
        finally:
            running.cancel()
            outbox.close()
