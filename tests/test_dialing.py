"""docs/promises.md D1: no record makes this node connect to what is not a node's address."""

import socket
from ipaddress import ip_address, ip_network

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from peers.network.dialing import OWN_LAN, Address, BadAddress, DialPolicy

STRANGERS = DialPolicy()
ONE_OWNER = DialPolicy(OWN_LAN)

NEVER = ["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254", "169.254.1.1", "fe80::1"]
NOT_GLOBAL = [
    *("127.0.0.1", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fc00::1", "0.0.0.0", "::"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001::1"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "203.0.113.5", "ff02::1"),
]


@pytest.mark.parametrize("address", [*NEVER, *NOT_GLOBAL])
def test_strangers_offer_global_addresses_only(address):
    assert not STRANGERS.allows(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8"])
def test_global_addresses_pass(address):
    assert STRANGERS.allows(ip_address(address))


@pytest.mark.parametrize("address", ["127.0.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "::1", "8.8.8.8"])
def test_one_owners_machines_are_anywhere(address):
    assert ONE_OWNER.allows(ip_address(address))


@pytest.mark.parametrize("address", [*NEVER, "0.0.0.0", "224.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"])
def test_but_not_everywhere(address):
    assert not ONE_OWNER.allows(ip_address(address))


def test_metadata_is_never_dialled_even_when_its_range_is_allowed():
    everything = DialPolicy([ip_network("0.0.0.0/0"), ip_network("::/0")])
    assert not any(everything.allows(ip_address(address)) for address in NEVER)


@pytest.mark.parametrize(
    "text",
    [
        *("", "host", "host:", ":4001", "host:0", "host:65536", "host:-1", "host:4001/path", "http://host:4001"),
        *("user@host:4001", "::1:4001", "[host]:4001", "[::1]", "a b:4001", "ho_st:4001", "-a:4001", "a..b:4001"),
        *("2130706433:4001", "0x7f000001:4001", "127.1:4001", "0177.0.0.1:4001", "①②⑦.0.0.1:4001", "host:４００１"),
        *("host:4001\n", "x" * 254 + ":4001", "[fe80::1%eth0]:4001"),
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(BadAddress):
        Address.parse(text)


@pytest.mark.parametrize("text", ["node.example:4001", "10.0.0.1:4001", "[2001:db8::1]:443", "localhost:4001", "a:1"])
def test_what_is_one(text):
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize("port", [22, 25, 80, 1023, 2375, 5432, 6379, 8545, 11434, 27017])
def test_ports_of_other_services_are_not_tried(port):
    assert ONE_OWNER.gossiped(f"192.168.1.1:{port}") is None


def test_gossiped_addresses_are_judged():
    assert ONE_OWNER.gossiped("192.168.1.1:4001") == Address("192.168.1.1", 4001)
    assert ONE_OWNER.gossiped("node.example:443") == Address("node.example", 443)
    assert STRANGERS.gossiped("192.168.1.1:4001") is None


class Rebinding(AbstractResolver):
    """Every name leads to this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "rebind.example", "[::ffff:127.0.0.1]", "2130706433", "0x7f000001", "127.1", "①②⑦.0.0.1"]
)
async def test_the_chokepoint_sees_every_attempt(host):
    hits = []
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    port = listening.getsockname()[1]
    connector = aiohttp.TCPConnector(resolver=Rebinding(), socket_factory=STRANGERS.socket_factory(named=False))
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=2)) as session:
        with pytest.raises((aiohttp.ClientError, ValueError)):
            hits.append(await session.get(f"http://{host}:{port}/"))
    with pytest.raises(BlockingIOError):
        listening.accept()
    listening.close()
    assert not hits
