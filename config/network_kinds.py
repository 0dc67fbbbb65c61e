"""The kinds of value that settings of the network have: addresses, ranges, ids, secrets, shares, the race.

`peers.network` reads the same texts again and may not be imported here; tests/test_read_alike.py compares both.
"""

import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from config.kinds import DAY, PROVIDERS, Wrong, is_address, lower, once, split, split_or_none, words

MOST_ADVERTISED = 4
SECRET_LENGTH = 53
SERVED = ("ollama", "eliza", "cloudflare", *PROVIDERS)
MOST_WIDTH = 1000

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DIALLED = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*", re.A)
_NUMBER = re.compile(r"(.*\.)?(0[xX][0-9A-Fa-f]*|[0-9]+)", re.A)
"""How resolvers, too, take a host for an IPv4 address in another spelling."""
_PORT = re.compile(r"[0-9]{1,5}", re.A)
_OTHER_SERVICES = frozenset({2375, 2376, 3306, 5432, 6379, 8545, 9200, 11211, 11434, 27017})
_ID = re.compile(r"[a-z2-7]{51}[aq]")
_SECRET = re.compile(r"masa1[A-Za-z0-9_-]{48}")
_CERTIFICATE = re.compile(r"masacert1[A-Za-z0-9_-]{87,683}")
"""65 to 512 bytes: more than its signature, and what one may have at most."""
_PATTERN = re.compile(r"[A-Za-z0-9@._:/*?-]{1,128}")
_WIDTH = re.compile(r"[1-9][0-9]{0,3}", re.A)


def address(text: str) -> str:
    """`host:port` or `[v6]:port`, in lower case."""
    name, _, port = text.rpartition(":")
    remedy = "write it as in node.example:4001, 192.0.2.7:4001 or [2001:db8::7]:4001"
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise Wrong("does not end in a port from 1 to 65535", remedy)
    bracketed = name.startswith("[") and name.endswith("]")
    name = name[1:-1] if bracketed else name
    if bracketed != (":" in name):
        raise Wrong("is not host:port, nor an IPv6 address in brackets and a port", remedy)
    if "%" in name or not (is_address(name) or (_DIALLED.fullmatch(name) and not _NUMBER.fullmatch(name))):
        raise Wrong("names a host that is neither a name nor an IP address", remedy)
    return f"[{name.lower()}]:{int(port)}" if bracketed else f"{name.lower()}:{int(port)}"


def advertised(text: str) -> str:
    """An address that some peer may dial: a record with another one is refused as a whole."""
    place = address(text)
    name, _, port = place.rpartition(":")
    if not is_dialled(int(port)):
        raise Wrong("has a port that peers do not dial", "map a port from 1024 on, or 443, that no other service uses")
    if is_address(name := name.strip("[]")):
        ip = ip_address(name)
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if ip.is_unspecified or ip.is_multicast or ip.is_link_local:
            raise Wrong("is an address that peers do not dial", "write the one at which other machines reach this node")
    return place


def is_dialled(port: int) -> bool:
    """Whether nodes dial it when a record names it."""
    return port == 443 or (port >= 1024 and port not in _OTHER_SERVICES)


def few(addresses: tuple[str, ...]) -> tuple[str, ...]:
    if len(addresses) > MOST_ADVERTISED:
        raise Wrong(f"has more than {MOST_ADVERTISED} addresses", f"keep the best {MOST_ADVERTISED}")
    return addresses


def bootnode(text: str) -> str:
    """`host:port`, or `node-id@host:port`."""
    pin, at, place = text.rpartition("@")
    return f"{node_id(pin)}@{address(place)}" if at else address(place)


def address_range(value: Any) -> Any:
    """A network, or one address."""
    if not isinstance(value, str):
        return value
    remedy = "write it as in 10.0.0.0/8 or fd00::/8, with zeros behind the mask"
    try:
        found = ip_network(value)
    except ValueError:
        raise Wrong("is not a range of IP addresses", remedy) from None
    if "%" in value:
        raise Wrong("is a range on one interface", remedy)
    if found.is_link_local:
        raise Wrong("is link-local, and such addresses are dialled only by name", "name the node in BOOTNODES")
    return found


def node_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise Wrong("is not a node id (52 characters of a-z and 2-7)", "copy all of it, as that node shows it")
    return text


def network_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise Wrong(
            "is not a network's id (52 characters of a-z and 2-7)",
            "copy all of what `masa-node stake show` prints on the authority's machine",
        )
    return text


def network_secret(value: Any) -> Any:
    """One, or two by comma or line, the new one first → with nothing but a comma between them."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        return value
    entries = words(text)
    if fault := _fault(entries):
        raise Wrong(
            fault,
            f"write NETWORK_SECRET={fresh_secret()} on each machine of a new network, or for one that exists "
            f"the first {SECRET_LENGTH} characters of what `masa-node invite` prints there",
        )
    return ",".join(entries)


def fresh_secret() -> str:
    """As `invite` makes it: nobody is to think one up."""
    return _secret_text(secrets.token_bytes(32))


def certificate(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not _CERTIFICATE.fullmatch(text) or not _is_base64url(text.removeprefix("masacert1")):
        raise Wrong(
            "is not a certificate (masacert1 and at least 87 characters)",
            "copy all of the word that `masa-node stake issue` printed",
        )
    return value


def mode(value: Any) -> Any:
    word = lower(value)
    if isinstance(word, str) and word not in ("node", "client"):
        raise Wrong("is neither node nor client", "write MODE=node (MASA_MODE=node where another program sets MODE)")
    return word


def served(text: str) -> str:
    """`all`, an upstream, or `upstream:pattern`."""
    if (word := text.lower()) in ("all", *SERVED):
        return word
    if word == "none":
        raise Wrong("is `none` beside other entries", "write none alone, or leave it out of the list")
    upstream, _, pattern = text.partition(":")
    if upstream.lower() not in SERVED:
        raise Wrong(
            "names no kind of upstream",
            "write ollama (which means every own model server), eliza, cloudflare or a provider, "
            "each alone or with a pattern, as in ollama:qwen3*",
        )
    if not _PATTERN.fullmatch(pattern):
        raise Wrong("has a pattern that no model's name fits", "write a name, with * for any letters and ? for one")
    return f"{upstream.lower()}:{pattern}"


def all_or_some(entries: tuple[str, ...]) -> tuple[str, ...]:
    if "all" in entries and len(entries) > 1:
        raise Wrong("has `all` beside other entries", "write all alone, or leave it out of the list")
    return entries


def width(value: Any) -> Any:
    word = lower(value)
    if word == "all":
        return word
    if not _WIDTH.fullmatch(text := str(word)) or int(text) > MOST_WIDTH:
        raise Wrong(f"is neither a number from 1 to {MOST_WIDTH} nor `all`", "write for example RACE_WIDTH=8")
    return int(text)


def automatic(value: Any) -> Any:
    return None if lower(value) == "auto" else value


def _fault(entries: tuple[str, ...]) -> str:
    """What is wrong with network secrets, or nothing."""
    for number, entry in enumerate(entries, 1):
        which = f"entry {number} " if len(entries) > 1 else ""
        if not _is_secret(entry):
            if _is_secret(entry[:SECRET_LENGTH]):
                return f"{which}is more than a network secret (a whole token is for `masa-node join`)"
            return f"{which}is not a network secret (masa1 and 48 characters with a checksum)"
    if not 1 <= len(entries) <= 2:
        return "does not hold one secret, or two"
    return "holds one secret twice" if len(set(entries)) < len(entries) else ""


def _is_secret(text: str) -> bool:
    return bool(_SECRET.fullmatch(text)) and _secret_text(urlsafe_b64decode(text[5:])[:32]) == text


def _secret_text(raw: bytes) -> str:
    return "masa1" + urlsafe_b64encode(raw + sha256(raw).digest()[:4]).decode()


def _is_base64url(word: str) -> bool:
    """Only as an encoder would write it: Python's decoder takes more."""
    try:
        raw = urlsafe_b64decode(word + "=" * (-len(word) % 4))
    except ValueError:
        return False
    return urlsafe_b64encode(raw).decode().rstrip("=") == word


AddressRange = Annotated[IPv4Network | IPv6Network, BeforeValidator(address_range)]
AddressRanges = Annotated[tuple[AddressRange, ...], BeforeValidator(split), AfterValidator(once)]
Advertised = Annotated[
    tuple[Annotated[str, AfterValidator(advertised)], ...],
    BeforeValidator(split),
    AfterValidator(once),
    AfterValidator(few),
]
Bootnodes = Annotated[
    tuple[Annotated[str, AfterValidator(bootnode)], ...], BeforeValidator(split), AfterValidator(once)
]
Certificate = Annotated[SecretStr, AfterValidator(certificate)]
Mode = Annotated[Literal["node", "client"], BeforeValidator(mode)]
NetworkId = Annotated[str, AfterValidator(network_id)]
NetworkSecret = Annotated[SecretStr, BeforeValidator(network_secret)]
NodeIds = Annotated[tuple[Annotated[str, AfterValidator(node_id)], ...], BeforeValidator(split), AfterValidator(once)]
RaceDelay = Annotated[
    Annotated[float, Field(gt=0, le=DAY, allow_inf_nan=False)] | None,
    BeforeValidator(automatic),
]
RaceWidth = Annotated[int | Literal["all"], BeforeValidator(width)]
Served = Annotated[
    tuple[Annotated[str, AfterValidator(served)], ...],
    BeforeValidator(split_or_none),
    AfterValidator(once),
    AfterValidator(all_or_some),
]
