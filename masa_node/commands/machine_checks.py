"""What the doctor looks at on this machine: folder and key, port, address, clock, open files."""

import errno
import fcntl
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from config.kinds import is_loopback
from config.settings import Settings
from masa_node.commands.findings import Finding
from masa_node.commands.node_api import NodeApi, NodeError, Refused, address
from masa_node.listening import listening_sockets
from masa_node.surroundings import port_owner
from peers.network.identity import KEY_FILE, IdentityError, load_identity, node_id, unusable

HEALTH_SECONDS = 3.0
FEWEST_FILES = 1024
EARLIEST_YEAR = 2025


def check_folder(folder: Path, *, running: bool) -> Iterator[Finding]:
    """MASA_DIR and the key in it, without making either. `running`: a node answers where this one would."""
    try:
        made = os.path.lexists(folder)
        place = folder if made else next(parent for parent in folder.parents if parent.exists())
        os.listdir(place)  # where it is no folder, the error names it and no draft in it
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0")
        private = not folder.stat().st_mode & 0o077 if made else True
    except OSError as error:
        yield _unusable(folder, error)
        return
    if not made:
        yield Finding("folder", "ok", f"MASA_DIR {folder} is not there yet; `masa-node run` makes it and the key")
        return
    if private:
        yield Finding("folder", "ok", f"MASA_DIR {folder} is there, writable, and nobody else's")
    else:
        yield Finding("folder", "warn", f"MASA_DIR {folder} is open to other users", f"chmod 700 {folder}")
    yield from _key(folder)
    try:
        holder = None if running else _holder(folder)
    except OSError as error:
        yield _unusable(folder, error)
        return
    if holder:
        what = f"a running node holds MASA_DIR {folder} ({holder}), and it does not answer at HOST and PORT"
        yield Finding("folder", "warn", what, "stop it, or give this one a MASA_DIR of its own")


def _unusable(folder: Path, error: OSError) -> Finding:
    what, _, remedy = str(unusable(folder, error)).partition("; ")
    return Finding("folder", "fail", what, remedy)


def _key(folder: Path) -> Iterator[Finding]:
    if not (folder / KEY_FILE).exists():
        yield Finding("key", "ok", "there is none yet; `masa-node run` makes it")
        return
    try:
        yield Finding("key", "ok", f"this node's id is {node_id(load_identity(folder))}")
    except IdentityError as error:
        what, _, remedy = str(error).partition("; ")
        yield Finding("key", "fail", what, remedy.removeprefix("run: "))


def _holder(folder: Path) -> str | None:
    """Who holds the folder, by a lock that is given back at once. Raises OSError."""
    try:
        with (folder / "lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return f"process {file.read(20).strip() or 'unknown'}"
    except FileNotFoundError:
        pass
    return None


def check_port(settings: Settings) -> Iterator[Finding]:
    """Whether a node could listen; or the check `node`, when one of ours does."""
    if not settings.port:
        yield Finding("port", "ok", "PORT=0: each start picks a free one")
        return
    place = f"port {settings.port} of {settings.host}"
    try:
        for sock in listening_sockets(settings.host, settings.port):
            sock.close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            yield from _taken(settings, place)
        else:
            remedy = (
                "take a PORT above 1023" if error.errno == errno.EACCES else "set HOST to an address of this machine"
            )
            yield Finding("port", "fail", f"{place} cannot be opened ({error.strerror})", remedy)
        return
    yield Finding("port", "ok", f"{place} is free")


def _taken(settings: Settings, place: str) -> Iterator[Finding]:
    node = NodeApi(address(settings))
    try:
        with node.asked("GET", "/health", within=HEALTH_SECONDS) as response:
            name = unquote(response.headers["X-Masa-Name"] or "without a name")
    except Refused as error:
        yield Finding("node", "warn", f"a node runs at {node.url}: {error}", "look at its log")
    except NodeError:
        holder = port_owner(settings.port, Path("/")) or "another process"
        yield Finding(
            "port", "fail", f"{place} is taken by {holder}", "stop it, or set PORT to another one (0 picks one)"
        )
    else:
        yield Finding("node", "ok", f"a node runs at {node.url}: {name}")
        yield from _readiness(node)


def _readiness(node: NodeApi) -> Iterator[Finding]:
    try:
        node.get("/ready", within=HEALTH_SECONDS)
    except NodeError as error:
        yield Finding("node", "warn", f"it is not ready: {error}", "see what is found of its upstreams")


def check_host(settings: Settings) -> Iterator[Finding]:
    if is_loopback(settings.host):
        yield Finding("host", "ok", f"HOST {settings.host}: this machine's own programs only")
    elif settings.api_keys:
        yield Finding("host", "ok", f"HOST {settings.host}: other machines too, with one of API_KEYS")
    else:
        what = (
            f"HOST {settings.host} with ALLOW_OPEN_API: whoever reaches it may use every model, also those you pay for"
        )
        yield Finding("host", "warn", what, "set API_KEYS, or HOST=127.0.0.1")


def check_clock(now: float) -> Iterator[Finding]:
    """`now`: Unix seconds."""
    told = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if time.gmtime(now).tm_year < EARLIEST_YEAR:
        yield Finding("clock", "warn", f"it says {told}", "set the clock: certificates are refused with a wrong one")
    else:
        yield Finding("clock", "ok", f"it says {told}")


def check_files() -> Iterator[Finding]:
    """The node raises the soft limit to the hard one, so that the hard one counts."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and most < FEWEST_FILES:
        what = f"at most {most} files and connections may be open at once"
        yield Finding("open files", "warn", what, f"raise the hard limit (ulimit -Hn) to {FEWEST_FILES} or more")
    else:
        yield Finding(
            "open files", "ok", f"up to {'any number' if most == resource.RLIM_INFINITY else most} may be open"
        )
