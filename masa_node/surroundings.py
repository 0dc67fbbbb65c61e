"""What this process runs in: where an Ollama may be, who holds a port, how many files may be open."""

import ipaddress
import os
import re
import resource
import socket
from pathlib import Path

import ifaddr

OLLAMA_PORT = 11434
MOST_FILES = 1 << 20


def possible_ollamas(root: Path) -> list[str]:
    """Where to look for an Ollama nobody named: this machine; from a container or WSL, also its host."""
    hosts = ["127.0.0.1"]
    if in_container(root):
        hosts += ["host.docker.internal", "host.containers.internal"]
    elif in_wsl(root) and (gateway := default_gateway(root)):
        hosts.append(gateway)
    return [f"http://{host}:{OLLAMA_PORT}" for host in hosts]


def in_container(root: Path) -> bool:
    return (
        (root / ".dockerenv").exists()
        or (root / "run/.containerenv").exists()
        or "KUBERNETES_SERVICE_HOST" in os.environ
    )


def in_wsl(root: Path) -> bool:
    return "microsoft" in _text(root / "proc/version").lower()


def default_gateway(root: Path) -> str | None:
    """From Linux's routing table, where addresses are little-endian hexadecimal."""
    for line in _text(root / "proc/net/route").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 2 and fields[1] == "00000000":
            return socket.inet_ntoa(bytes.fromhex(fields[2])[::-1])
    return None


def own_addresses() -> list[str]:
    """Where other machines may reach this one: IPv4 before IPv6, private first, no loopback, no link-local."""
    found = [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    usable = [ip for ip in map(ipaddress.ip_address, found) if not (ip.is_loopback or ip.is_link_local)]
    return [str(ip) for ip in sorted(usable, key=lambda ip: (ip.version, not ip.is_private))]


def port_owner(port: int, root: Path) -> str | None:
    """`ollama (process 412)`: who listens on a TCP port, where Linux lets us see it."""
    inodes = {
        fields[9]
        for table in ("tcp", "tcp6")
        for line in _text(root / "proc/net" / table).splitlines()[1:]
        if len(fields := line.split()) > 9 and fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port
    }
    for folder in (root / "proc").glob("[0-9]*"):
        for link in _links(folder / "fd"):
            matched = re.fullmatch(r"socket:\[(\d+)\]", link)
            if matched and matched[1] in inodes:
                return f"{_text(folder / 'comm').strip()} (process {folder.name})"
    return None


def raise_limits() -> None:
    """As many open files as the system allows, and no core dumps, which would hold keys and prompts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _links(folder: Path) -> list[str]:
    try:
        return [os.readlink(entry) for entry in folder.iterdir()]
    except OSError:
        return []
