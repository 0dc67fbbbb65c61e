"""Turns of a conversation: which peer gave the last one, since its prompt is cached there. Pure."""

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from peers.wire import Call, NodeId

MOST = 1024
LONGEST = 1 << 20
"""Bytes of a body that is looked at."""
MOST_NEW = 8
"""Messages that a turn may add: the answer, calls of tools and what they gave, the next question."""


class _Body(msgspec.Struct):
    messages: list[msgspec.Raw]


class LastTurns:
    """Conversations are told apart by hashes of their messages, which are prefixes(): no text is kept."""

    def __init__(self) -> None:
        self._answered: dict[bytes, NodeId] = {}

    def answered(self, prefixes: Sequence[bytes], node: NodeId) -> None:
        if prefixes:
            self._answered.pop(prefixes[-1], None)
            while len(self._answered) >= MOST:
                del self._answered[next(iter(self._answered))]
            self._answered[prefixes[-1]] = node

    def of(self, prefixes: Sequence[bytes]) -> NodeId | None:
        """Who answered when this conversation was shorter."""
        for earlier in reversed(prefixes[-1 - MOST_NEW : -1]):
            if node := self._answered.get(earlier):
                return node
        return None


def prefixes(call: Call) -> list[bytes]:
    """A hash for each message: of the model and of all messages up to it."""
    if len(call.body) > LONGEST:
        return []
    try:
        messages = msgspec.json.decode(call.body, type=_Body).messages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    if len(messages) > MOST:
        return []
    told, hashes = blake2b(call.model.encode(), digest_size=16), []
    for message in messages:
        told.update(b"%d:" % len(message) + bytes(message))
        hashes.append(told.digest())
    return hashes
