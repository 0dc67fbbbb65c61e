"""The control socket: how the commands of this machine's owner speak to the running node (docs/security.md C-1)."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from handlers.middlewares.refusals import refusals
from masa_node import rotating
from masa_node.joined import Joined
from masa_node.pausing import Pause
from peers.errors import BadRequest, MasaError
from peers.guests import Guests
from peers.network.dialing import Address, BadAddress
from peers.network.disk import not_written
from peers.network.identity import unusable
from peers.network.rotation import UnknownName
from peers.network.tokens import BadToken, Invite, parse_invite

SOCKET = "control.sock"
POINTER = "control"
LONGEST_PATH = 100
"""Bytes: what every system takes for a Unix socket."""
JOINED = web.AppKey("joined", Joined)
PAUSE = web.AppKey("pause", Pause)
GUESTS = web.AppKey("guests", Guests)


class InviteAsked(msgspec.Struct):
    address: str = ""


class JoinAsked(msgspec.Struct):
    token: str


class DenyAsked(msgspec.Struct):
    deny_list: str


class RotateAsked(msgspec.Struct):
    without: list[str]
    now: bool


class PauseAsked(msgspec.Struct):
    seconds: Annotated[float, msgspec.Meta(gt=0)] | None
    """None: until it is ended."""


Asked = TypeVar("Asked", InviteAsked, JoinAsked, DenyAsked, RotateAsked, PauseAsked)


@asynccontextmanager
async def controlled(joined: Joined, pausing: Pause, guests: Guests, folder: Path) -> AsyncIterator[None]:
    """Answer on the folder's control socket until the block is left. The folder is locked: an old socket is dead.

    Raises IdentityError: there can be no socket.
    """
    app = web.Application(middlewares=[refusals, disk_faults])
    app[JOINED], app[PAUSE], app[GUESTS] = joined, pausing, guests
    app.router.add_post("/invite", invite)
    app.router.add_post("/join", join)
    app.router.add_post("/leave", leave)
    app.router.add_post("/deny", deny)
    app.router.add_post("/rotate", rotate)
    app.router.add_post("/pause", pause)
    app.router.add_post("/resume", resume)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.25)
    await runner.setup()
    try:
        path = await asyncio.to_thread(_make_place, folder)
        await web.UnixSite(runner, str(path)).start()
        # Whoever cannot enter the folder, which is its owner's alone, cannot have come in before this.
        await asyncio.to_thread(path.chmod, 0o600)
    except OSError as error:
        raise unusable(folder, error) from error
    try:
        yield
    finally:
        await runner.cleanup()
        await asyncio.to_thread(_leave_place, folder, path)


def socket_path(folder: Path) -> Path:
    """Where the node that runs on this folder listens, if one does."""
    with suppress(OSError, UnicodeDecodeError):
        return Path((folder / POINTER).read_text().strip())
    return folder / SOCKET


@web.middleware
async def disk_faults(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What a command asked for was not kept, or what was kept is damaged, and its owner is told why."""
    try:
        return await handler(request)
    except BadToken as error:
        raise MasaError(409, "bad_secret", str(error)) from None
    except OSError as error:
        raise MasaError(500, "not_kept", f"not done: {not_written(error)}") from error


async def invite(request: web.Request) -> web.Response:
    asked = await _read(request, InviteAsked)
    try:
        address = Address.parse(asked.address) if asked.address else None
    except BadAddress as error:
        raise BadRequest("invalid_address", str(error)) from None
    joined = request.app[JOINED]
    token = await joined.invite(address)
    return _json({"token": token.text(), "addresses": [str(place) for _, place in token.members], "why": joined.why})


async def join(request: web.Request) -> web.Response:
    asked = await _read(request, JoinAsked)
    try:
        token: Invite = parse_invite(asked.token)
    except BadToken as error:
        raise BadRequest("invalid_token", str(error)) from None
    joined = request.app[JOINED]
    await joined.join(token)
    answered = await joined.try_members(token) if token.members else {}
    return _json({"answered": answered, "open": joined.network is not None, "why": joined.why})


async def leave(request: web.Request) -> web.Response:
    await request.app[JOINED].leave()
    return _json({})


async def deny(request: web.Request) -> web.Response:
    asked = await _read(request, DenyAsked)
    return _json({"taken": request.app[JOINED].deny(asked.deny_list)})


async def rotate(request: web.Request) -> web.Response:
    asked = await _read(request, RotateAsked)
    try:
        told = await rotating.rotate(request.app[JOINED], asked.without, at_once=asked.now)
    except UnknownName as error:
        return _json({"unknown": str(error)})
    return _json(told)


async def pause(request: web.Request) -> web.Response:
    asked = await _read(request, PauseAsked)
    await request.app[PAUSE].begin(asked.seconds)
    return _json({"running": len(request.app[GUESTS])})


async def resume(request: web.Request) -> web.Response:
    await request.app[PAUSE].end()
    return _json({})


def _make_place(folder: Path) -> Path:
    path = folder / SOCKET
    if len(os.fsencode(path)) > LONGEST_PATH:
        path = Path(tempfile.mkdtemp(prefix="masa-")) / SOCKET
        (folder / POINTER).write_text(str(path))
    else:
        with suppress(FileNotFoundError):
            (folder / POINTER).unlink()
    with suppress(FileNotFoundError):
        path.unlink()
    return path


def _leave_place(folder: Path, path: Path) -> None:
    path.unlink(missing_ok=True)
    if path.parent != folder:
        path.parent.rmdir()
        (folder / POINTER).unlink(missing_ok=True)


async def _read(request: web.Request, kind: type[Asked]) -> Asked:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("invalid_body", "this is not what the command sends") from None


def _json(body: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")
