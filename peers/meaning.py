"""Meaning: whether what a peer sends is an answer yet, or will never be one, and whether it had its end. Pure."""

from collections.abc import Iterator, Mapping
from typing import Literal

from peers.senses import Sense, names_an_answer, read, sense_of_event, sense_of_whole
from peers.units import BOM, Ending, Events, Lines, TooLong, Unit
from peers.wire import Call

WHOLE = 4 * 1024 * 1024
"""Bytes of an answer in one piece that is read before it counts; a longer one counts by the look of these."""

_BLANK = b" \t\r\n"
_STREAMS: Mapping[str, type[Lines] | type[Events]] = {
    "application/x-ndjson": Lines,
    "application/ndjson": Lines,
    "text/event-stream": Events,
}
_SPOKEN = {"ollama": (Lines,), "openai": (Events,), "anthropic": (Events,), "any": (Lines, Events)}
"""How each dialect streams."""
_DEFINITIVE = frozenset({400, 413, 422})

Verdict = Literal[
    "meaningful", "not_ok", "encoded", "wrong_type", "error", "wrong_model", "malformed", "empty", "too_long"
]
"""`meaningful` wins; any other one says why the answer cannot."""

Refusal = tuple[int, bytes]
"""A status and its body."""


class Meaning:
    """Judges one answer of a peer as its bytes arrive, in whatever chunks. Holds its current unit, and no more."""

    def __init__(self, call: Call, status: int, headers: Mapping[str, str]) -> None:
        """`headers` by names in lower case. The head alone may settle the `verdict`."""
        self.verdict: Verdict | None = None
        self._ending: Ending | None = None
        self._judge: _Stream | _Whole | None = None
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        units = _STREAMS.get(kind)
        if not 200 <= status < 300:
            self.verdict = "not_ok"
        elif headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
            self.verdict = "encoded"
        elif kind == "application/json":
            self._judge = _Whole(call)
        elif units in _SPOKEN[call.door.dialect] and units is not None and _may_stream(call):
            self._judge, self._ending = _Stream(call, units()), Ending()
        else:
            self.verdict = "wrong_type"

    def feed(self, chunk: bytes) -> Verdict | None:
        """The verdict, once there is one; what comes after it only moves the end."""
        if self._ending is not None:
            self._ending.feed(chunk)
        if self._judge is not None:
            self._settle(self._judge.feed(chunk))
        return self.verdict

    def finish(self) -> Verdict:
        """The verdict on an answer that is over as far as its framing tells."""
        if self._judge is not None:
            self._settle(self._judge.finish())
        assert self.verdict is not None
        return self.verdict

    def ended(self) -> bool:
        """Whether the answer so far has its end mark. The end of one in one piece is its framing's to tell."""
        return self._ending is None or self._ending.marked()

    def _settle(self, verdict: Verdict | None) -> None:
        if verdict is not None:
            self.verdict, self._judge = verdict, None


class _Stream:
    def __init__(self, call: Call, units: Lines | Events) -> None:
        self._call = call
        self._units = units
        self._begun = False

    def feed(self, chunk: bytes) -> Verdict | None:
        return self._first(self._units.feed(chunk))

    def finish(self) -> Verdict:
        return self._first(self._units.rest()) or "empty"

    def _first(self, units: Iterator[Unit]) -> Verdict | None:
        """The verdict of the first unit that has one."""
        try:
            for unit in units:
                if verdict := self._judged(unit):
                    return verdict
        except TooLong:
            return "too_long"
        return None

    def _judged(self, unit: Unit) -> Verdict | None:
        sense = self._sense(unit)
        if sense == "begun":
            self._begun = True
            return None
        if sense == "end":
            return "meaningful" if self._begun else "empty"
        return sense

    def _sense(self, unit: Unit) -> Sense | Literal["malformed"] | None:
        if unit.name == b"error":
            return "error"
        if unit.name == b"ping" or not unit.data.strip():
            return None
        if unit.data.startswith(b"[DONE]"):
            return "end"
        fields = read(unit.data)
        return "malformed" if fields is None else sense_of_event(self._call, fields)


class _Whole:
    def __init__(self, call: Call) -> None:
        self._call = call
        self._body = bytearray()
        self._blanks = 0
        """Bytes before the body: some servers send them while their model thinks."""

    def feed(self, chunk: bytes) -> Verdict | None:
        body = chunk if self._body else chunk.lstrip(_BLANK)
        self._blanks += len(chunk) - len(body)
        if self._blanks > WHOLE:
            return "too_long"
        self._body += body
        if not _may_be_object(bytes(self._body[:4])):
            return "malformed"
        if len(self._body) <= WHOLE:
            return None
        return "meaningful" if names_an_answer(self._call, self._body[:WHOLE]) else "too_long"

    def finish(self) -> Verdict:
        if not self._body:
            return "empty"
        fields = read(bytes(self._body).removeprefix(BOM))
        if fields is None:
            return "malformed"
        sense = sense_of_whole(self._call, fields)
        return "empty" if sense is None or sense == "begun" or sense == "end" else sense


def definitive(status: int, body: bytes) -> bool:
    """Whether a refusal is about the question rather than about who was asked, and says something."""
    return status in _DEFINITIVE and bool(body.strip())


def same_refusal(one: Refusal, other: Refusal) -> bool:
    """Whether two upstreams refuse for one reason: the same status, and the same bytes but for the request's id.

    Another text, of another version or a smaller context, may be another reason, and somebody else may know better.
    """
    if one[0] != other[0]:
        return False
    told = _without_id(one[1])
    return one[1] == other[1] or (told is not None and told == _without_id(other[1]))


def _without_id(body: bytes) -> dict[str, object] | None:
    fields = read(body)
    return None if fields is None else {name: value for name, value in fields.items() if name != "request_id"}


def _may_stream(call: Call) -> bool:
    """On the mission's doors what an absent `stream` means is the upstream's to say."""
    return call.door.operation in ("chat", "text_completion") and (call.stream or call.door.dialect == "any")


def _may_be_object(begin: bytes) -> bool:
    rest = begin.removeprefix(BOM).lstrip(_BLANK)
    return rest.startswith(b"{") or not rest or BOM.startswith(rest)
