"""Offers: a node's model list as it tells other nodes, and theirs, read strictly (docs/security.md C-8). Pure."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from peers.network.records import LARGEST_INTEGER, Models
from peers.wire import Dialect, Model

MOST_MODELS = 512
LARGEST = 256 * 1024
LARGEST_OWN = LARGEST - 4096
"""Beside the list, an answer of 256 KiB holds a record."""
LONGEST_NAME, LONGEST_DIGEST, LONGEST_WORD = 128, 128, 32
MOST_DIALECTS, MOST_CAPABILITIES = 8, 16

Fault = Literal["malformed", "too_large", "other_list"]

_Word = Annotated[str, Meta(pattern=rf"^[!-~]{{1,{LONGEST_WORD}}}\Z")]
_Digest = Annotated[str, Meta(pattern=rf"^[!-~]{{1,{LONGEST_DIGEST}}}\Z")]
_Count = Annotated[int, Meta(ge=1, le=LARGEST_INTEGER)]
_SPOKEN = frozenset(get_args(Dialect)) - {"any"}
_NO_ENTRIES: Mapping[str, Mapping[str, object]] = MappingProxyType({})


class BadList(ValueError):
    """Not a model list; `other_list`: not the one that its owner's record names."""

    def __init__(self, code: Fault) -> None:
        super().__init__(code)
        self.code: Fault = code


class Offer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model of a list. What is unknown is left out."""

    name: Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)]
    dialects: Annotated[tuple[_Word, ...], Meta(max_length=MOST_DIALECTS)]
    size: _Count | None = None
    """Bytes."""
    digest: _Digest | None = None
    context: _Count | None = None
    """Tokens."""
    capabilities: Annotated[tuple[_Word, ...], Meta(max_length=MOST_CAPABILITIES)] = ()
    loaded: bool | None = None

    def __post_init__(self) -> None:
        if not self.name.isprintable():
            raise ValueError("the name cannot be shown")


_LIST = msgspec.json.Decoder(Annotated[tuple[Offer, ...], Meta(max_length=MOST_MODELS)])


def write(models: Iterable[Model]) -> tuple[Models, bytes]:
    """What the record says of these, and the list itself, the same for the same models in any order.

    Of models with one name the first counts, in the dialects of all. What cannot be told, and what comes when the list
    is full, is left out.
    """
    offers: dict[str, Offer] = {}
    room = LARGEST_OWN - len(b"[]")
    for model in _united(models):
        offer = _offer(model)
        room -= len(msgspec.json.encode(offer)) + len(b",") if offer else 0
        if room < 0 or len(offers) == MOST_MODELS:
            break
        if offer:
            offers[model.name] = offer
    told = msgspec.json.encode([offers[name] for name in sorted(offers)])
    return (Models(len(offers), list_hash(told)) if offers else Models()), told


def read(told: bytes, said: Models) -> tuple[Model, ...]:
    """The list of which a record said `said`: the bytes of its JSON, as they came. Raises BadList."""
    if len(told) > LARGEST:
        raise BadList("too_large")
    if list_hash(told) != said.hash:
        raise BadList("other_list")
    try:
        offers = _LIST.decode(told)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadList("malformed") from None
    if not len({offer.name for offer in offers}) == len(offers) == said.count:
        raise BadList("malformed")
    alike: dict[frozenset[Dialect], frozenset[Dialect]] = {}
    return tuple(_model(offer, alike) for offer in offers)


def list_hash(told: bytes) -> str:
    """8 bytes of BLAKE2b in hexadecimal."""
    return blake2b(told, digest_size=8).hexdigest()


def _united(models: Iterable[Model]) -> Iterable[Model]:
    found: dict[str, list[Model]] = {}
    for model in models:
        found.setdefault(model.name, []).append(model)
    return (_one(same) for same in found.values())


def _one(same: list[Model]) -> Model:
    first = same[0]
    dialects = first.dialects.union(*(model.dialects for model in same))
    return Model(first.name, dialects, first.digest, first.context, first.capabilities, first.loaded, size=first.size)


def _offer(model: Model) -> Offer | None:
    """None: its name cannot be told."""
    if not 1 <= len(model.name) <= LONGEST_NAME or not model.name.isprintable():
        return None
    return Offer(
        model.name,
        tuple(sorted(model.dialects)),
        size=_natural(model.size),
        digest=model.digest if model.digest and _plain(model.digest, LONGEST_DIGEST) else None,
        context=_natural(model.context),
        capabilities=tuple(word for word in model.capabilities if _plain(word, LONGEST_WORD))[:MOST_CAPABILITIES],
        loaded=model.loaded,
    )


def _model(offer: Offer, alike: dict[frozenset[Dialect], frozenset[Dialect]]) -> Model:
    """`alike`: few sets of dialects are shared by all that are the same. Dialects of later versions are left out."""
    dialects: frozenset[Dialect] = _SPOKEN.intersection(offer.dialects)
    return Model(
        offer.name,
        alike.setdefault(dialects, dialects),
        digest=offer.digest,
        context=offer.context,
        capabilities=offer.capabilities,
        loaded=offer.loaded,
        size=offer.size,
        entries=_NO_ENTRIES,
    )


def _plain(text: str, longest: int) -> bool:
    """As _Word and _Digest have it."""
    return 1 <= len(text) <= longest and text.isascii() and text.isprintable() and " " not in text


def _natural(count: int | None) -> int | None:
    return count if count is not None and 1 <= count <= LARGEST_INTEGER else None
