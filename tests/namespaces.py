"""Two LANs of network namespaces, a router between them: for nodes that are processes there. Needs root, ip, nft."""

import asyncio
import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

NEWNET = 0x40000000
"""CLONE_NEWNET, of sched.h."""
LOSS = "add rule inet masa input iifname eth0 numgen random mod 100 < {} drop"
CUT = "add rule inet masa forward iifname {} oifname {} drop"
TABLE = (
    "add table inet masa; add chain inet masa input { type filter hook input priority 0; };"
    "add chain inet masa forward { type filter hook forward priority 0; }"
)


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@dataclass(slots=True)
class Space:
    """A namespace: a machine, as far as its processes can tell."""

    name: str
    _ours: int = -1
    _theirs: int = -1

    @property
    def within(self) -> tuple[str, ...]:
        """The beginning of a command line that runs there."""
        return ("ip", "netns", "exec", self.name)

    def make(self) -> None:
        run("ip", "netns", "add", self.name)
        self._ours = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._theirs = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        self.ip("link set lo up")
        self.nft(TABLE)

    def remove(self) -> None:
        for handle in {self._ours, self._theirs} - {-1}:
            os.close(handle)
        subprocess.run(("ip", "netns", "del", self.name), check=False, capture_output=True)

    def ip(self, command: str) -> None:
        run("ip", "-n", self.name, *command.split())

    def nft(self, commands: str) -> None:
        run(*self.within, "nft", commands)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The sockets that this thread makes meanwhile are of this namespace, and stay so."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(self._theirs, NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            assert libc.setns(self._ours, NEWNET) == 0

    def make_socket(self, info: Any) -> socket.socket:
        with self.entered():
            return socket.socket(*info[:3])


@dataclass(slots=True)
class Host(Space):
    """A machine on a LAN."""

    address: str = ""
    router: str = ""

    async def move(self, address: str) -> None:
        """Give up its address for another one, as when DHCP says so."""
        await asyncio.to_thread(self.ip, f"addr del {self.address}/24 dev eth0")
        self.address = address
        await asyncio.to_thread(self._settle)

    async def lose(self, percent: int) -> None:
        """So many of all packets that come in."""
        await asyncio.to_thread(self.nft, LOSS.format(percent))

    def _settle(self) -> None:
        self.ip(f"addr add {self.address}/24 dev eth0")
        self.ip(f"route replace default via {self.router}")


@dataclass(slots=True)
class Lans:
    """`lan-a` and `lan-b`, 10.77.1.0/24 and 10.77.2.0/24, and what is between them."""

    router: Space
    hosts: list[Host] = field(default_factory=list)

    def lay(self) -> None:
        self.router.make()
        run(*self.router.within, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        for lan, bridge in enumerate(("lan-a", "lan-b"), 1):
            self.router.ip(f"link add {bridge} type bridge")
            self.router.ip(f"addr add 10.77.{lan}.1/24 dev {bridge}")
            self.router.ip(f"link set {bridge} up")

    def add(self, lan: str) -> Host:
        """One more machine on it."""
        number = len(self.hosts)
        part = "10.77.1" if lan == "lan-a" else "10.77.2"
        host = Host(f"{self.router.name}-{number}", address=f"{part}.{number + 10}", router=f"{part}.1")
        self.hosts.append(host)
        host.make()
        ends = f"eth0 netns {host.name} type veth peer name p{number} netns {self.router.name}"
        run("ip", "link", "add", *ends.split())
        self.router.ip(f"link set p{number} master {lan} up")
        host.ip("link set eth0 up")
        host._settle()
        return host

    async def split(self) -> None:
        for way in (("lan-a", "lan-b"), ("lan-b", "lan-a")):
            await asyncio.to_thread(self.router.nft, CUT.format(*way))

    async def heal(self) -> None:
        await asyncio.to_thread(self.router.nft, "flush chain inet masa forward")

    def remove(self) -> None:
        for space in (*self.hosts, self.router):
            space.remove()


@contextmanager
def two_lans() -> Iterator[Lans]:
    """Skips the test where there can be no namespaces."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    for program in ("ip", "nft"):
        if not shutil.which(program):
            pytest.skip(f"network namespaces need the command {program} (Debian: iproute2, nftables)")
    with ExitStack() as stack:
        lans = Lans(Space(f"masa-{os.getpid()}"))
        stack.callback(lans.remove)
        try:
            lans.lay()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        yield lans
