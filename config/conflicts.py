"""What can be wrong between settings that are each right by themselves."""

from collections.abc import Iterator
from ipaddress import ip_address

from yarl import URL

from config.fields import Settings
from config.kinds import is_address, is_loopback
from config.network_kinds import is_dialled
from config.problems import Problem

Conflict = tuple[set[str], Problem]
"""With the fields it is about."""


def conflicts(settings: Settings) -> Iterator[Conflict]:
    yield from _open_api(settings)
    yield from _no_key(settings)
    if settings.max_body_memory < settings.max_body_bytes:
        yield (
            {"max_body_memory", "max_body_bytes"},
            Problem("MAX_BODY_MEMORY", "is less than MAX_BODY_BYTES", "raise it, or lower MAX_BODY_BYTES"),
        )
    if settings.mode == "node":
        yield from _one_port(settings)
        yield from _never_dialled(settings)
    yield from _network(settings)


def _open_api(settings: Settings) -> Iterator[Conflict]:
    if not (is_loopback(settings.host) or settings.api_keys or settings.allow_open_api):
        yield (
            {"host", "api_keys", "allow_open_api"},
            Problem(
                "HOST",
                f"{_how_open(settings.host)}, and there are no API_KEYS",
                "set API_KEYS, or HOST=127.0.0.1 (MASA_HOST=127.0.0.1 where another program sets HOST), "
                "or ALLOW_OPEN_API=true to let anybody call",
            ),
        )


def _how_open(host: str) -> str:
    """Names are not looked up here."""
    if is_address(host):
        return "lets other machines call this node"
    return "is neither an IP address nor localhost, so that it may let other machines call this node"


def _no_key(settings: Settings) -> Iterator[Conflict]:
    for provider in settings.providers:
        key = f"{provider}_api_key"
        if getattr(settings, key) is None:
            yield (
                {"providers", key},
                Problem(
                    key.upper(),
                    f"is not set, and PROVIDERS names {provider}",
                    f"set {key.upper()} or {key.upper()}_FILE, or take {provider} out of PROVIDERS",
                ),
            )
    if settings.llm_cf_url and _is_cloudflare(settings.llm_cf_url) and settings.llm_cf_token is None:
        yield (
            {"llm_cf_url", "llm_cf_token"},
            Problem(
                "LLM_CF_TOKEN",
                "is not set, and LLM_CF_URL is Cloudflare's own address",
                "set LLM_CF_TOKEN or LLM_CF_TOKEN_FILE to an API token of that account",
            ),
        )


def _one_port(settings: Settings) -> Iterator[Conflict]:
    if settings.port == settings.peer_port != 0 and _overlap(settings.host, settings.peer_host):
        yield (
            {"host", "port", "peer_host", "peer_port"},
            Problem(
                "PEER_PORT",
                "is the same as PORT, and PEER_HOST takes in the address of HOST",
                "set PEER_PORT to another port, as in PEER_PORT=0, which picks one",
            ),
        )


def _never_dialled(settings: Settings) -> Iterator[Conflict]:
    if settings.peer_port and not settings.peer_advertise and not is_dialled(settings.peer_port):
        yield (
            {"peer_port", "peer_advertise"},
            Problem(
                "PEER_PORT",
                "is a port that peers do not dial",
                "set it to 443 or one from 1024 on that no other service uses, "
                "or PEER_ADVERTISE to where such a port leads here",
            ),
        )


def _network(settings: Settings) -> Iterator[Conflict]:
    if settings.network_secret and settings.network_id:
        yield (
            {"network_secret", "network_id"},
            Problem(
                "NETWORK_ID",
                "is set beside NETWORK_SECRET, and a node is in one network",
                "keep NETWORK_SECRET for machines of one owner, or NETWORK_ID for a network by certificates",
            ),
        )
    if settings.stake_certificate and not settings.network_id:
        yield (
            {"stake_certificate", "network_id"},
            Problem(
                "STAKE_CERTIFICATE",
                "is set without NETWORK_ID, which names the authority that issued it",
                "set NETWORK_ID to what `masa-node stake show` prints on the authority's machine, "
                "or leave STAKE_CERTIFICATE out",
            ),
        )
    if settings.mode == "client" and settings.peer_advertise:
        yield (
            {"mode", "peer_advertise"},
            Problem(
                "PEER_ADVERTISE",
                "is set, and with MODE=client this node is never dialled",
                "leave PEER_ADVERTISE out, or set MODE=node",
            ),
        )


def _is_cloudflare(url: str) -> bool:
    name = (URL(url).host or "").rstrip(".")
    return name == "cloudflare.com" or name.endswith(".cloudflare.com")


def _overlap(one: str, other: str) -> bool:
    """Whether listeners on the same port of both would meet. Names but localhost are not looked up."""
    return any(_same(a, b) for a in _addresses(one) for b in _addresses(other))


def _addresses(host: str) -> tuple[str, ...]:
    return ("127.0.0.1", "::1") if host.lower() == "localhost" else (host.lower(),)


def _same(one: str, other: str) -> bool:
    if is_address(one) and is_address(other):
        a, b = ip_address(one), ip_address(other)
        return a.version == b.version and (a == b or a.is_unspecified or b.is_unspecified)
    return one == other or any(is_address(host) and ip_address(host).is_unspecified for host in (one, other))
