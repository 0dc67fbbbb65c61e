"""Judged: the rest of a peer's answer, handed on as it comes: whole only with its end mark, and of bounded size."""

from collections.abc import AsyncIterator

from peers.errors import UpstreamBroken
from peers.http1.answer import Answer
from peers.meaning import Meaning
from peers.wire import Flow, Sink

LARGEST_REPLY = 64 << 20


class Judged:
    """One whose beginning is meaningful."""

    def __init__(self, response: Answer, begin: bytes, meaning: Meaning, name: str) -> None:
        self._response = response
        self._begin = begin
        """What has come, and was judged."""
        self._meaning = meaning
        self._name = name
        self._size = 0
        self._sink: Sink | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises UpstreamBroken."""
        piece, self._begin = self._begin, b""
        self._size = len(piece)
        try:
            while piece:
                yield piece
                piece = await self._response.read()
                self._judge(piece)
        except OSError as error:
            raise broken(self._name, error) from error
        self._check_end()

    async def pour(self, sink: Sink) -> None:
        """Raises UpstreamBroken."""
        self._sink = sink
        sink.write(self._begin)
        self._size, self._begin = len(self._begin), b""
        try:
            await self._response.pour(self)
        except OSError as error:
            raise broken(self._name, error) from error
        self._check_end()

    def write(self, piece: bytes) -> None:
        """As Sink has it, between the answer and its reader."""
        assert self._sink is not None
        self._judge(piece)
        self._sink.write(piece)

    def fed_by(self, source: Flow | None) -> None:
        assert self._sink is not None
        self._sink.fed_by(source)

    def _judge(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > LARGEST_REPLY:
            self._response.close()
        self._meaning.feed(piece)

    def _check_end(self) -> None:
        if self._size > LARGEST_REPLY:
            raise UpstreamBroken(f"the answer of the peer {self._name} is over 64 MiB")
        if not self._meaning.ended():
            raise UpstreamBroken(f"the answer of the peer {self._name} ended too early")


def broken(name: str, error: OSError) -> UpstreamBroken:
    if isinstance(error, TimeoutError):
        return UpstreamBroken(f"the peer {name} fell silent in the middle of its answer")
    return UpstreamBroken(f"the peer {name} broke off its answer")
