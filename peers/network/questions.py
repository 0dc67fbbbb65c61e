"""What a node asks its peers of calls: what they do with one, and whether they would take one."""

import asyncio
from contextlib import suppress

import msgspec

from peers.network.contact import Contact, NoContact
from peers.network.dialing import Address, BadAddress
from peers.network.table import Member
from peers.runner import Doing
from peers.wire import Call, Model, NodeId

CALLS = "/peer/v1/calls"
JSON = "application/json"
ASK_SECONDS = 2.0


class CallsAsked(msgspec.Struct, omit_defaults=True):
    """What a node asks of the calls it has sent: by their `Masa-Request-Id`."""

    ask: list[str] = []
    """What is done with these?"""
    stop: list[str] = []
    """Stop these."""
    path: str = ""
    model: str = ""
    """Would a call for this model be taken on this path?"""


class CallTold(msgspec.Struct):
    """As in Doing."""

    what: str
    seconds: float


class CallsTold(msgspec.Struct):
    """The calls that are under way, of those asked for."""

    calls: dict[str, CallTold] = {}
    serves: bool = False
    """It would be taken."""


async def doing(contact: Contact, node: NodeId, at: Address, request_id: str) -> Doing | None:
    """What it does with that call. None: it does not say, does not know the call, or says what cannot be read."""
    body = msgspec.json.encode(CallsAsked(ask=[request_id]))
    try:
        answer = await contact.post(node, at, CALLS, body, content_type=JSON, within=ASK_SECONDS)
        told = msgspec.json.decode(answer.body, type=CallsTold).calls.get(request_id)
        return msgspec.convert({"what": told.what, "seconds": min(told.seconds, 1e6)}, Doing) if told else None
    except (NoContact, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


async def can_serve(member: Member, contact: Contact, call: Call) -> Model | None:
    """Whether a peer would take such a call: its path and model are told, and nothing else of it."""
    body = msgspec.json.encode(CallsAsked(path=call.door.path, model=call.model))
    with suppress(TimeoutError):
        async with asyncio.timeout(ASK_SECONDS):
            for text in member.record.addrs:
                try:
                    answer = await contact.post(
                        member.node, Address.parse(text), CALLS, body, content_type=JSON, within=ASK_SECONDS
                    )
                    serves = msgspec.json.decode(answer.body, type=CallsTold).serves
                except (BadAddress, NoContact):
                    continue
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    return None
                return Model(call.model, frozenset({call.door.dialect})) if serves else None
    return None
