"""`masa-node run`: start, serve, drain."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from config.logs import set_up
from config.settings import ConfigError, Loaded, load
from masa_node.app import Node, client_app, client_server, node
from masa_node.commands.startup import startup_block
from masa_node.listening import Runner, listening_sockets, serving, url_of
from masa_node.means import check_stake
from masa_node.memory import keep_room, settle
from masa_node.surroundings import port_owner, raise_limits
from peers.network.identity import IdentityError

log = structlog.get_logger(__name__)

READY_SECONDS = 1.0
"""For how long `/ready` says 503 before new connections are refused, so that a load balancer looks elsewhere."""
DRAIN_SECONDS = 30.0


def main(arguments: argparse.Namespace) -> int:
    try:
        loaded = load(os.environ, Path(arguments.env_file) if arguments.env_file else None)
        check_stake(loaded.settings)
    except ConfigError as error:
        print(error.report(), file=sys.stderr)
        return 2
    set_up(loaded.settings.log_level, loaded.settings.log_format)
    raise_limits()
    keep_room()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(serve(loaded))
    except* IdentityError as group:  # in a group where the loops run already
        print(f"masa-node: {group.exceptions[0]}", file=sys.stderr)
    return 1


async def serve(loaded: Loaded) -> int:
    """Until the first signal, and then until running answers are done. A second signal ends that too."""
    settings = loaded.settings
    stop = Stop()
    async with node(settings, certificate_file=loaded.gathered.files.get("stake_certificate")) as running:
        try:
            sockets = await asyncio.to_thread(listening_sockets, settings.host, settings.port)
        except OSError as error:
            print(f"masa-node: {_cannot_listen(settings.host, settings.port, error)}", file=sys.stderr)
            return 1
        app = client_app(running)
        settle()
        async with serving(client_server(running, app), app, sockets) as runner:
            await _announce(running, loaded, url_of(sockets[0]))
            await stop.first.wait()
            await drain(running, runner, stop)
    log.info("stopped")
    return 0


class Stop:
    """SIGINT and SIGTERM: the first asks for a drain, the second for an end."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.interactive = False
        """Ctrl-C: nobody's load balancer is waiting to be told."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: int) -> None:
        log.info("signal", signal=signal.Signals(number).name)
        if self.first.is_set():
            self.second.set()
        self.interactive = self.interactive or number == signal.SIGINT
        self.first.set()


async def drain(running: Node, runner: Runner, stop: Stop) -> None:
    """Say it, refuse what is new, finish what runs: DRAIN_SECONDS at most, or until the second signal."""
    loop = asyncio.get_running_loop()
    end = loop.time() + DRAIN_SECONDS
    log.info("draining", seconds=DRAIN_SECONDS)
    running.life.draining = True
    if not stop.interactive:
        await _wait(stop.second, READY_SECONDS)
    for site in list(runner.sites):
        await site.stop()
    running.life.closed = True
    while (runner.node_server.busy or len(running.guests)) and not stop.second.is_set() and loop.time() < end:
        await _wait(stop.second, 0.05)
    await running.joined.stop()


async def _announce(running: Node, loaded: Loaded, url: str) -> None:
    """The log hears at once that we listen; people read the whole once every upstream was asked."""
    log.info("listening", url=url, node=running.who.id, name=running.who.shown, version=running.who.version)
    await running.own.first_look()
    await running.joined.settled()
    if loaded.settings.log_format == "pretty" or (loaded.settings.log_format is None and sys.stderr.isatty()):
        startup_block(running, loaded, url)
        return
    if not running.own.in_use():
        log.warning("no_model_server", reason="none is set or found; only the built-in eliza may answer")
    for note in loaded.gathered.notes:
        log.warning("setting_note", reason=note)


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    owner = port_owner(port, Path("/"))
    if owner:
        return f"port {port} is taken by {owner}; stop it, or set PORT to another one (PORT=0 picks one)"
    return f"cannot listen on {host} port {port} ({error.strerror}); set HOST and PORT, or stop what holds the port"


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it installs, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
