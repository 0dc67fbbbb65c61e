"""ask(): one request over a bare socket, and its whole answer; silence(): none."""

import json
from typing import Any

from tests.raw import Answer, Cut, Wire


async def ask(port: int, data: bytes, *, timeout: float = 5) -> Answer:
    """Informational answers are left out; the connection is closed afterwards."""
    async with Wire(port, timeout=timeout) as wire:
        await wire.send(data)
        return await read_answer(wire, bodiless=data.startswith(b"HEAD "))


async def read_answer(wire: Wire, *, bodiless: bool = False) -> Answer:
    head = await wire.read_head()
    while head.status < 200:
        head = await wire.read_head()
    if bodiless:
        return Answer(head.status, head.headers, b"", True, bytes(wire.buffer))
    ending = await wire.read_to_end()
    return Answer(head.status, head.headers, ending.body, ending.clean, bytes(wire.buffer))


async def silence(port: int) -> tuple[Cut, bytes]:
    """How the other side ends a connection that says nothing, and what it says before."""
    try:
        async with Wire(port) as wire:
            return await wire.until_closed(), bytes(wire.buffer)
    except ConnectionResetError:  # before the connection was known here
        return "reset", b""


def code(answer: Answer) -> str:
    """Of an error in the shape of the mission's doors, Ollama's and node paths; "" where there is none."""
    told: Any = json.loads(answer.body)
    return told.get("code", "") if isinstance(told, dict) else ""
