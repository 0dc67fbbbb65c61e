"""FastPathConnection: an accepted connection. Its plain requests take the short way, all else is aiohttp's to read.

The fast path takes only what the front door has nothing to say about, and only where a request begins for certain
(docs/security.md C-22).
"""

import asyncio
from typing import TYPE_CHECKING, cast

import structlog
from aiohttp.web_protocol import RequestHandler

from handlers.admission import Lease
from handlers.middlewares.errors import fault
from handlers.out import Out
from handlers.plain import Plain
from masa_node.accepted import Accepted, address_of, reset
from masa_node.long_way import LongWay
from masa_node.server import READ_AHEAD
from masa_node.within import Within

if TYPE_CHECKING:
    from masa_node.fast_path import FastPathServer

log = structlog.get_logger(__name__)


class FastPathConnection(Accepted):
    """A caller's connection, or a peer's. One request at a time is answered, by one of the two ways."""

    __slots__ = (
        "_address",
        "_among_peers",
        "_answering",
        "_behind",
        "_closing",
        "_held",
        "_long_way",
        "_missing",
        "_out",
        "_server",
        "_slow",
        "_taken",
        "_unread",
        "_waiting",
        "transport",
    )

    def __init__(self, server: "FastPathServer", admitted: str | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self._server = server
        self._address = admitted
        """Under which it is counted; None: not yet."""
        self._among_peers = admitted is not None
        self._waiting: Within[FastPathConnection] | None = None
        """For a head, for the rest of a plain request, or for the next one."""
        self._long_way: LongWay | None = None
        self._taken: tuple[Plain, Lease] | None = None
        """A plain request that is held or answered."""
        self._held: list[bytes] | None = None
        """What has come of it."""
        self._missing = 0
        """Bytes of it that have not come."""
        self._answering: asyncio.Task[None] | None = None
        self._out: Out | None = None
        """Where it is answered."""
        self._behind: bytearray | None = None
        """What came meanwhile."""
        self._slow = False
        """What is written waits for its reader."""
        self._unread = False
        """What was answered last waits for its reader: until then nothing else is taken, lest answers pile up."""
        self._closing = False
        """No further request is taken."""

    @property
    def busy(self) -> bool:
        return self._answering is not None or (self._long_way is not None and self._long_way.busy)

    # As asyncio calls it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._address is None:
            address = address_of(transport)
            if not self._server.admit(address):
                self._closing = True
                reset(transport)
                return
            self._address = address
        self.transport = cast(asyncio.Transport, transport)
        self._server.entered(self, self.transport)
        self._wait(self._server.heads)

    def data_received(self, data: bytes) -> None:
        if self._answering is not None:
            self._put_behind(data)
        elif self._taken is not None:
            self._hold(data)
        elif not self._take(data):
            self._pass_on(data, alone=self._long_way is None or self._long_way.idle)

    def pause_writing(self) -> None:
        self._slow = True
        if self._out is not None:
            self._out.hold()
        if self._long_way is not None:
            self._long_way.pause_writing()

    def resume_writing(self) -> None:
        self._slow = False
        if self._out is not None:
            self._out.go_on()
        if self._long_way is not None:
            self._long_way.resume_writing()
        if self._unread:
            self._finish(again=True)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.transport is None or self._address is None:
            return
        self._closing = True
        self._wait(None)
        self._server.connection_lost(cast(RequestHandler, self), exc)
        if self._taken is not None:
            self._taken[1].release()
        if self._answering is not None:
            self._answering.cancel()
        if self._long_way is not None:
            self._long_way.connection_lost(exc)
        else:
            self._server.leave(self._address)

    # As its server calls it

    @property
    def _task_handler(self) -> "asyncio.Task[None] | None":
        """It is listed until this has ended."""
        return self._answering or (None if self._long_way is None else self._long_way.task)

    def close(self) -> None:
        self._closing = True
        if self._long_way is not None:
            self._long_way.close()

    async def shutdown(self, timeout: float | None = None) -> None:
        """What is being answered has so long to end; then it is cut."""
        self.close()
        if self._answering is not None:
            await asyncio.wait({self._answering}, timeout=timeout)
        if self._answering is not None:
            self._answering.cancel()
        if self._long_way is not None:
            await self._long_way.shutdown(timeout)
        self.leave()

    def leave(self) -> None:
        """Close it, once what was written is sent."""
        self._closing = True
        if self._out is not None:
            self._out.flush()
        if self.transport is not None:
            self.transport.close()

    def give_up(self) -> None:
        """It is not plain after all, or too slow: aiohttp reads it from its beginning."""
        assert self._taken is not None
        assert self._held is not None
        self._wait(None)
        self._taken[1].release()
        data, self._taken, self._held = b"".join(self._held), None, None
        self._pass_on(data, alone=True)

    # The two ways

    def _take(self, data: bytes) -> bool:
        """Whether it begins a plain request, and no more than that."""
        if self._closing or not (self._long_way is None or self._long_way.free):
            return False
        taken = self._server.quick.read(data)
        if taken is None:
            return False
        plain, lease = taken
        missing = plain.start + plain.length - len(data)
        if missing < 0:
            lease.release()
            return False
        self._taken, self._held, self._missing = taken, [data], missing
        self._wait(self._server.holds if missing else None)
        if self._long_way is not None:
            self._long_way.stand_by()
        if not missing:
            self._answer()
        return True

    def _hold(self, data: bytes) -> None:
        assert self._held is not None
        self._held.append(data)
        self._missing -= len(data)
        if self._missing < 0:
            self.give_up()
        elif not self._missing:
            self._wait(None)
            self._answer()

    def _answer(self) -> None:
        assert self._taken is not None
        assert self._held is not None
        assert self.transport is not None
        plain, held, self._held = self._taken[0], self._held, None
        held[0] = held[0][plain.start :]
        plain.body = b"".join(held)
        loop = asyncio.get_running_loop()
        quick = self._server.quick
        self._out = Out(loop, self.transport, quick.sight(plain), alone=quick.alone, slow=self._slow)
        self._answering = loop.create_task(self._work(*self._taken, self._out))

    async def _work(self, plain: Plain, lease: Lease, out: Out) -> None:
        again = False
        try:
            again = await self._server.quick.answer(plain, lease, self._address or "", out)
        except ConnectionError:
            pass  # the answer broke, or the caller has left: it is cut below
        except Exception as error:
            log.error("fault", exc_info=error)
            if not out.begun:
                self._server.quick.refuse(fault(), plain, out)
        finally:
            asyncio.get_running_loop().call_soon(self._finish, again)  # behind the flush of what it was given last

    def _finish(self, again: bool) -> None:
        self._unread = again and self._slow and not self._closing
        if self._unread:
            return
        self._taken = self._answering = self._out = None
        if not again or self._closing:
            self.leave()
        elif self._behind:
            data, self._behind = bytes(self._behind), None
            self._resume_reading()
            if not self._take(data):
                self._pass_on(data, alone=False)
        elif self._long_way is not None:
            self._long_way.rest()
        else:
            self._wait(self._server.idle)

    def _put_behind(self, data: bytes) -> None:
        if self._behind is None:
            self._behind = bytearray()
        self._behind += data
        if len(self._behind) > READ_AHEAD and self.transport is not None:
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def _pass_on(self, data: bytes, *, alone: bool) -> None:
        if self._closing:
            return
        if self._long_way is None:
            self._long_way = self._opened()
        self._long_way.read(data, alone=alone)

    def _opened(self) -> LongWay:
        """From now on aiohttp watches over the time between requests as well."""
        assert self._address is not None
        assert self.transport is not None
        due = self._server.heads.due(self)
        self._wait(None)
        long_way = self._server.long_way(self._address, among_peers=self._among_peers, due=due)
        long_way.connection_made(self.transport)
        if self._slow:
            long_way.pause_writing()
        return long_way

    def _wait(self, for_what: "Within[FastPathConnection] | None") -> None:
        if self._waiting is not None:
            self._waiting.end(self)
        self._waiting = for_what
        if for_what is not None:
            for_what.begin(self)
