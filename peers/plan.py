"""plan(): where a call goes, and where then, by what is known before anybody is asked. Pure."""

from functools import cache
from typing import Literal

from peers.wire import Ask

Step = Literal["own", "peers", "own_queue", "whether", "own_word"]
"""own: upstreams that have the model and a free place. own_queue: those that have it, free or not.
whether: live peers are asked whether they have it, and those that do are raced. own_word: an upstream's own no."""

_NARROWEST: tuple[Ask, ...] = ("off", "missing", "busy")


@cache
def plan(*, own: bool, peers: bool, ask: Ask, hop: bool) -> tuple[Step, ...]:
    """`own`: an upstream of ours serves the model; `peers`: some are known to; `hop`: another node sent the call."""
    if hop:
        return ("own_queue",)
    if own:
        return ("own", "peers", "own_queue") if ask == "busy" and peers else ("own_queue",)
    if ask == "off":
        return ("own_word",)
    return ("peers",) if peers else ("whether", "own_word")


def narrower(one: Ask, other: Ask | None) -> Ask:
    """A caller may narrow what the operator allows, never widen it."""
    return one if other is None else _NARROWEST[min(_NARROWEST.index(one), _NARROWEST.index(other))]
