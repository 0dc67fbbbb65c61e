"""Remote: a peer as one of those asked: a call handed to it as it is, its answer judged, then as it comes."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from peers.errors import Busy, MasaError
from peers.http1.answer import Answer
from peers.meaning import Meaning, definitive
from peers.network.contact import Contact, NoContact
from peers.network.dialing import Address, BadAddress
from peers.network.judged import Judged, broken
from peers.network.outbox import Outbox
from peers.network.questions import JSON, doing
from peers.network.reach import shown
from peers.network.signatures import Signed, content_digest
from peers.network.table import Member
from peers.network.vigil import Vigil
from peers.runner import Doing, PassedOn
from peers.upstreams.link import PRINTABLE, read_whole
from peers.wire import Call, NodeId, Reply, Source

FORWARD = "/peer/v1/forward"
NOT_FORWARDED = ("accept-encoding", "content-type")
"""Between nodes nothing is encoded anew, and the type is among what is signed."""
CROSSING = ("content-type", "content-length", "content-encoding", "retry-after")
LARGEST_REFUSAL, LARGEST_WORDS = 64 * 1024, 2048
LATE = 0.25
"""Seconds by which a peer is to give up before we do."""
BUSY = (429, 503)
REFUSALS = frozenset(
    [
        "refused_by_peer",
        "model_not_found",
        "duplicate",
        "deadline",
        "loop",
        "unknown_peer",
        "not_found",
        "clock",
        "digest",
        "signature",
        "replay",
        "recipient",
        "malformed",
        "body_too_large",
        "slow_body",
        "invalid_body",
        "invalid_model",
        "unsupported_media_type",
        "unsupported_encoding",
        "upstream_unreachable",
        "upstream_broken",
        "upstream_timeout",
        "no_upstream",
    ]
)
"""A peer's words become labels of metrics and decide what is learned of it."""
ENCODED = "encoded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """What every Remote of a network works with."""

    contact: Contact
    outbox: Outbox
    refused: Callable[[NodeId], None]
    """Hears of a peer that refused the connection at every address."""
    vigil: Vigil
    silence: float
    """Seconds that a peer may be silent in the middle of its answer, while it says that it is at work."""


@dataclass(frozen=True, slots=True)
class Handed:
    """What is the same of a call for every peer it is handed to."""

    path: str
    content_type: str
    digest: str
    headers: Mapping[str, str]
    """Those that are not signed."""


def handed(call: Call) -> Handed:
    kept = {name: value for name, value in call.headers.items() if name not in NOT_FORWARDED}
    kept["x-request-id"] = call.id
    if call.query and call.door.dialect != "any":
        kept["masa-query"] = call.query
    return Handed(FORWARD + call.door.path, call.headers.get("content-type", JSON), content_digest(call.body), kept)


class Remote:
    """One peer, for one call."""

    def __init__(
        self,
        member: Member,
        ways: Ways,
        handed: Handed,
        left: Callable[[], float],
        asked: Callable[[NodeId], None] = lambda node: None,
    ) -> None:
        """`handed`: of the call that it opens. `left`: seconds until nobody waits for its answer any more; `asked`
        hears of each time it is asked."""
        self.node = member.node
        self.name = shown(member.record)
        self._addresses = member.record.addrs
        self._ways = ways
        self._handed = handed
        self._left = left
        self._asked = asked
        self._request_id = ""
        self._at: Address | None = None

    async def open(self, call: Call) -> Reply:
        """As Runner has it: MasaError with the code `unreachable`, `bad_answer`, `failed`, or the peer's own."""
        self._asked(self.node)
        response = await self._ask(call)
        try:
            return await self._judged(call, response)
        except BaseException:
            self._stop(response)
            raise

    async def doing(self) -> Doing | None:
        if self._at is None:
            return None
        return await doing(self._ways.contact, self.node, self._at, self._request_id)

    async def _ask(self, call: Call) -> Answer:
        self._request_id = os.urandom(16).hex()
        same, deadline = self._handed, max(0.0, self._left() - LATE)
        request = Signed(
            "POST", same.path, same.content_type, same.digest, self.node, self._request_id, int(deadline * 1000)
        )
        reason, why = "refused", "it has no address that can be tried"
        # A connection that was lost on the way says nothing of the peer, and brought it nothing: once more.
        for text in (*self._addresses, *self._addresses[:1]):
            try:
                self._at = Address.parse(text)
                return await self._ways.contact.open(
                    request, self._at, call.body, same.headers, silence=self._ways.silence, left=self._stop
                )
            except BadAddress:
                continue
            except NoContact as error:
                reason, why = error.reason, str(error)
                if reason not in ("refused", "unreached", "wrong_key"):
                    break  # it may have the call already
        if reason == "refused":
            self._ways.refused(self.node)
        raise MasaError(502, "unreachable", why)

    async def _judged(self, call: Call, response: Answer) -> Reply:
        """Once its first meaningful unit is there. Raises MasaError."""
        await _check_refusal(response)
        headers = _crossing(response)
        if response.status >= 300:
            raise await _failure(response, headers, Source(self.node, self.name))
        meaning = Meaning(call, response.status, headers)
        begin: list[bytes] = []
        while meaning.verdict is None:
            chunk = await self._read(response)
            if not chunk:
                meaning.finish()
                break
            begin.append(chunk)
            meaning.feed(chunk)
        if meaning.verdict != "meaningful":
            code = ENCODED if meaning.verdict == ENCODED else "bad_answer"
            raise MasaError(502, code, f"{meaning.verdict}")
        if self._at is not None:
            self._ways.vigil.begin(self.node, self._at, self._request_id, response)
        body = Judged(response, b"".join(begin), meaning, self.name)
        return Reply(
            response.status, headers, body.chunks(), "peer", "masa", lambda: self._stop(response),
            by=Source(self.node, self.name), pour=body.pour,
        )  # fmt: skip

    async def _read(self, response: Answer) -> bytes:
        try:
            return await response.read()
        except OSError as error:
            raise broken(self.name, error) from error

    def _stop(self, response: Answer) -> None:
        """It is told to stop, unless its answer has come to its end."""
        self._ways.vigil.end(response)
        if response.over or self._at is None:
            response.close()
        else:
            self._ways.outbox.stop(self.node, self._at, self._request_id, response)


async def _check_refusal(response: Answer) -> None:
    """The peer's own, as ours, in its own words. Raises MasaError."""
    code = response.headers.get("Masa-Error")
    if code is None:
        return
    if response.status in BUSY:
        await _words(response)  # to its end: then there is nothing to stop
        raise Busy("it has no free place", retry_after=_seconds(response))
    known = code if code in REFUSALS else "refused"
    raise MasaError(response.status, known, await _words(response))


async def _words(response: Answer) -> str:
    try:
        told = msgspec.json.decode(await read_whole(response, LARGEST_WORDS), type=dict[str, str]).get("error")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError):
        told = None
    return told if told and told.isprintable() else "it refuses the request"


async def _failure(response: Answer, headers: dict[str, str], by: Source) -> MasaError:
    """What its upstream says, where that is about the call itself."""
    if response.status in BUSY:
        await _words(response)
        return Busy("its model server is full", retry_after=_seconds(response))
    try:
        body = await read_whole(response, LARGEST_REFUSAL)
    except OSError:
        return MasaError(502, "failed", f"its model server answered {response.status}, and broke off")
    if definitive(response.status, body) and len(body) <= LARGEST_REFUSAL:
        return PassedOn(response.status, headers, body, "masa", by)
    return MasaError(502, "failed", f"its model server answered {response.status}")


def _seconds(response: Answer) -> int:
    text = response.headers.get("Retry-After", "")
    return min(int(text), 60) if text.isascii() and text.isdigit() and len(text) < 6 else 1


def _crossing(response: Answer) -> dict[str, str]:
    if response.status < 200 or 300 <= response.status < 400:
        raise MasaError(502, "bad_answer", f"status {response.status}")
    kept = {key: value for key in CROSSING if (value := response.headers.get(key)) is not None}
    if not all(map(PRINTABLE.fullmatch, kept.values())):
        raise MasaError(502, "bad_answer", "a broken header")
    return kept
