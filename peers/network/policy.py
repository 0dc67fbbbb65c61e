"""What this node does for its peers: which models they may use, and which bodies are refused. Pure.

A body is accepted or refused, never edited.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from peers.wire import Door, Model

LONGEST_KEPT = 600.0
"""Seconds for which a stranger may keep a model loaded."""
LEAST_CONTEXT = 4096
"""Tokens that every Ollama gives unasked: the most for a stranger where no context is advertised."""
_FIELDS = {"keep_alive", "messages", "prompt", "options", "raw", "template", "num_gpu", "num_ctx"}
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
"""Of Go's `time.ParseDuration`; Unicode has two letters for micro."""
_PART = re.compile(rf"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)({'|'.join(_UNITS)})")
_DURATION = re.compile(rf"([+-]?)(?:0|(?:{_PART.pattern})+)")
_LONGEST_DURATION = 64
MOST_NAMES = 4096
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Pairs = list[tuple[str, bytes]]
"""Names and values in the order of a body, those that stand twice included; values as they are written."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Which models peers may use, by the entries of PEER_SERVE.

    An upstream goes by its kind: every own model server is `ollama`. A model that a server relays to its owner's cloud
    account is shared only where it is named whole, without `*` or `?`, or by `all`.
    """

    entries: Sequence[str]

    def cover(self, kinds: Sequence[str], model: Model) -> bool:
        """Whether peers may use this model of an upstream that goes by any of these kinds."""
        relayed = bool(model.entries.get("tags", {}).get("remote_host"))
        return any(_covers(entry, kind, model.name, relayed=relayed) for entry in self.entries for kind in kinds)


def refusal(body: bytes, door: Door, *, strangers: bool, advertised_context: int | None) -> str | None:
    """The field for which a peer's body is refused; `body` itself, where it cannot be read.

    Nobody's, when it unloads a model; a stranger's also when it keeps one loaded or drops it, has its server load it
    anew, or goes round its template. `body` is plain. Names in other cases count as well: Ollama takes them.
    """
    if door.dialect not in ("ollama", "any") or door.operation == "show":
        return None
    try:
        pairs = _pairs(body)
    except _UNREADABLE:
        return "body"
    said = _said(pairs)
    if _asks_nothing(said, door.operation) and any(map(_drops, said.get("keep_alive", ()))):
        return "keep_alive"
    return next(_not_for_strangers(pairs, said, advertised_context), None) if strangers else None


@functools.lru_cache(maxsize=1024)
def _covers(entry: str, kind: str, name: str, *, relayed: bool) -> bool:
    shared, colon, pattern = entry.lower().partition(":")
    if shared == "all":
        return True
    if shared != kind or (relayed and (not colon or "*" in pattern or "?" in pattern)):
        return False
    names = {name.lower(), name.lower().removesuffix(":latest")}
    return not colon or any(fnmatchcase(one, pattern) for one in names)


# What a body says


class _Name:
    """Equal to no other, so that what an object says twice is seen twice."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def _object(found: bytes) -> dict[_Name, msgspec.Raw]:
    """Raises msgspec.DecodeError, also for more than MOST_NAMES: each costs a Python object."""
    left = iter(range(MOST_NAMES))

    def name(kind: Any, text: str) -> _Name:
        if next(left, None) is None:
            raise ValueError("too many names")
        return _Name(text)

    return msgspec.json.decode(found, type=dict[_Name, msgspec.Raw], dec_hook=name)


def _pairs(found: bytes) -> Pairs:
    """What an object says that is read here. A null says nothing, and takes nothing back: so it is in Go."""
    try:
        members = _object(found)
    except msgspec.DecodeError:
        # Half of a surrogate pair, in whatever text, is nothing to msgspec, and upstreams take it.
        members = _object(_HALF_PAIR.sub(rb"\\ufffd", found))
    pairs = ((name.text, bytes(raw)) for name, raw in members.items() if name.text.casefold() in _FIELDS)
    return [(name, raw) for name, raw in pairs if raw != b"null"]


def _said(pairs: Pairs) -> dict[str, list[bytes]]:
    """By name in lower case, what each spelling of it says last: which spelling counts depends on the upstream."""
    said: dict[str, list[bytes]] = {}
    for name, raw in dict(pairs).items():
        said.setdefault(name.casefold(), []).append(raw)
    return said


def _asks_nothing(said: dict[str, list[bytes]], operation: str) -> bool:
    """Only then `keep_alive: 0` is a command."""
    match operation:
        case "chat":
            return _empty(said.get("messages", []), list[msgspec.Raw])
        case "text_completion":
            return _empty(said.get("prompt", []), str)
    return False


def _empty(values: list[bytes], kind: Any) -> bool:
    """Not said, or something empty, or nothing of this kind."""
    return not values or not all(_value(raw, kind) for raw in values)


def _drops(keep_alive: bytes) -> bool:
    """Some versions of Ollama take whole seconds only."""
    seconds = _seconds(keep_alive)
    return seconds is not None and 0 <= seconds < 1


def _not_for_strangers(pairs: Pairs, said: dict[str, list[bytes]], advertised_context: int | None) -> Iterator[str]:
    kept = [_seconds(raw) for raw in said.get("keep_alive", ())]
    if not all(seconds is not None and 1 <= seconds <= LONGEST_KEPT for seconds in kept):
        yield "keep_alive"
    if set(said.get("raw", ())) - {b"false"}:
        yield "raw"
    if set(said.get("template", ())) - {b'""'}:
        yield "template"
    try:
        # Go reads a second map into the first.
        options = _said([pair for name, raw in pairs if name.casefold() == "options" for pair in _pairs(raw)])
    except _UNREADABLE:
        yield "options"
        return
    if "num_gpu" in options:
        yield "options.num_gpu"
    asked = [_value(raw, float) for raw in options.get("num_ctx", ())]
    if not all(isinstance(tokens, float) and tokens <= (advertised_context or LEAST_CONTEXT) for tokens in asked):
        yield "options.num_ctx"


def _seconds(keep_alive: bytes) -> float | None:
    """As Ollama reads it: a number of seconds, or a duration as Go writes it; below 0: for ever. None: neither."""
    value: float | str | None = _value(keep_alive, float | str)
    if not isinstance(value, str):
        return value
    matched = _DURATION.fullmatch(value) if len(value) <= _LONGEST_DURATION else None
    if matched is None:
        return None
    total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    return -total if matched[1] == "-" else total


def _value(raw: bytes, kind: Any) -> Any:
    """None: it is nothing of this kind."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except _UNREADABLE:
        return None
