"""Settings of the network: what they mean, and what is wrong in them and between them."""

import re
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr

from config.fields import secret_names
from config.settings import ConfigError, Settings, load, shown
from peers.network.certificates import issue
from peers.network.dialing import Address
from peers.network.identity import node_id
from peers.network.tokens import Invite, certificate_text, parse_secret
from tests.wrong_settings import CERTIFICATE, ID, MARK, OTHER_SECRET, SECRET, WRONG

KEY = Ed25519PrivateKey.from_private_bytes(b"\7" * 32)
OTHER_ID = node_id(KEY)
PLACES = ("node.example:4001", "[2001:db8::7]:443")


def settings_of(environ: dict[str, str]) -> Settings:
    return load(environ, cwd=Path("/nowhere")).settings


def problems_of(environ: dict[str, str]) -> dict[str, str]:
    with pytest.raises(ConfigError) as raised:
        settings_of(environ)
    return {problem.name: str(problem) for problem in raised.value.problems}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("PEER_HOST", "[::1]", "::1"),
        ("PEER_PORT", "0", 0),
        ("PEER_ADVERTISE", "Node.Example:4001, [2001:DB8::7]:443,node.example:4001", PLACES),
        ("PEER_ADVERTISE", "", ()),
        ("PEER_ALLOW_CIDRS", "", None),
        ("PEER_ALLOW_CIDRS", "10.0.0.0/8, fd00::/8", (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
        ("PEER_ALLOW_CIDRS", "192.168.1.7,192.168.1.7/32", (ip_network("192.168.1.7"),)),
        ("PEER_ALLOW_CIDRS", "0.0.0.0/0", (ip_network("0.0.0.0/0"),)),
        ("BOOTNODES", f"[fe80::1]:1,{ID}@10.0.0.1:22\n", ("[fe80::1]:1", f"{ID}@10.0.0.1:22")),
        ("MDNS", "no", False),
        ("MODE", "Client", "client"),
        ("NETWORK_SECRET", f" {SECRET}\n", SecretStr(SECRET)),
        ("NETWORK_SECRET", f"{SECRET}\n{OTHER_SECRET}\n", SecretStr(f"{SECRET},{OTHER_SECRET}")),
        ("NETWORK_ID", ID, ID),
        ("PEER_ALLOW", f"{ID}, {OTHER_ID},{ID}", (ID, OTHER_ID)),
        ("PEER_DENY", OTHER_ID, (OTHER_ID,)),
        ("PEER_ASK", "", None),
        ("PEER_ASK", "Missing", "missing"),
        ("PEER_SERVE", "", ("ollama",)),
        ("PEER_SERVE", "None", ()),
        ("PEER_SERVE", "ALL", ("all",)),
        ("PEER_SERVE", "Ollama:Qwen3*, groq,Ollama:Qwen3*", ("ollama:Qwen3*", "groq")),
        ("PEER_SERVE", "cloudflare:@cf/*,ollama:hf.co/x/y:Q4_?", ("cloudflare:@cf/*", "ollama:hf.co/x/y:Q4_?")),
        ("PEER_MAX_INFLIGHT", "", None),
        ("PEER_MAX_INFLIGHT", "2", 2),
        ("RACE_WIDTH", "", 8),
        ("RACE_WIDTH", "1000", 1000),
        ("RACE_WIDTH", "All", "all"),
        ("RACE_DELAY", "Auto", None),
        ("RACE_DELAY", "0.3", 0.3),
        ("RACE_TIMEOUT", "0.5", 0.5),
        ("RACE_PATIENCE", "0", 0.0),
    ],
)
def test_what_values_mean(name: str, text: str, value: object) -> None:
    assert getattr(settings_of({name: text}), name.lower()) == value


def test_a_network_by_certificates(tmp_path: Path) -> None:
    (tmp_path / "certificate").write_text(f"{CERTIFICATE}\n")
    found = settings_of({"NETWORK_ID": ID, "STAKE_CERTIFICATE_FILE": str(tmp_path / "certificate")})
    assert (found.network_id, found.stake_certificate) == (ID, SecretStr(CERTIFICATE))
    assert secret_names() >= {"NETWORK_SECRET", "STAKE_CERTIFICATE"}


def test_people_see_ids_and_addresses_but_no_secret() -> None:
    loaded = load({"BOOTNODES": f"{ID}@node.example:4001", "NETWORK_SECRET": SECRET, "MODE": "client"})
    assert [(name, value) for name, value, _ in loaded.changed()] == [
        ("BOOTNODES", f"{ID}@node.example:4001"),
        ("MODE", "client"),
        ("NETWORK_SECRET", "***"),
    ]
    assert SECRET not in repr(loaded)
    assert shown(("@cf/meta/llama", "me@home")) == "@cf/meta/llama, me@home"


def test_what_is_said_of_the_race_is_shown_as_it_was_said() -> None:
    said = {"PEER_ASK": "off", "PEER_SERVE": "ollama:qwen3*,eliza", "PEER_MAX_INFLIGHT": "3", "RACE_WIDTH": "all"}
    defaults = {"PEER_SERVE": "ollama", "RACE_WIDTH": "8", "RACE_DELAY": "auto", "RACE_TIMEOUT": "30"}
    assert load(defaults, cwd=Path("/nowhere")).changed() == []
    changed = {name: value for name, value, _ in load(said | {"RACE_DELAY": "0.30"}, cwd=Path("/nowhere")).changed()}
    assert changed == said | {"PEER_SERVE": "ollama:qwen3*, eliza", "RACE_DELAY": "0.3"}


@pytest.mark.parametrize("text", WRONG["NETWORK_SECRET"])
def test_what_is_no_secret_is_refused_with_a_fresh_one(text: str) -> None:
    fresh = set()
    for _ in range(2):
        told = problems_of({"NETWORK_SECRET": text})["NETWORK_SECRET"]
        found = re.search(r"NETWORK_SECRET=(\S+) ", told)
        assert found
        assert settings_of({"NETWORK_SECRET": found[1]}).network_secret == SecretStr(found[1])
        fresh.add(found[1])
    assert len(fresh) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hunter2", r"\) is not a network secret"),
        (f"{SECRET},hunter2", r"\) entry 2 is not a network secret"),
        (Invite(parse_secret(SECRET), ((OTHER_ID, Address("a", 1)),)).text(), "a whole token is for `masa-node join`"),
        (f"{SECRET},{SECRET}", "one secret twice"),
    ],
)
def test_what_is_wrong_with_a_secret_is_said(text: str, words: str) -> None:
    assert re.search(words, problems_of({"NETWORK_SECRET": text})["NETWORK_SECRET"])


STAKE = {"STAKE_CERTIFICATE": CERTIFICATE}
SAME_PORT = {"PORT": "7", "ALLOW_OPEN_API": "true", "PEER_PORT": "7", "PEER_ADVERTISE": "node.example:4001"}


@pytest.mark.parametrize(
    ("environ", "wrong"),
    [
        ({"NETWORK_SECRET": SECRET, "NETWORK_ID": ID}, "NETWORK_ID"),
        ({"NETWORK_SECRET": SECRET, "NETWORK_ID": ID, **STAKE}, "NETWORK_ID"),
        ({"NETWORK_ID": ID}, None),
        ({"NETWORK_ID": ID, **STAKE}, None),
        (STAKE, "STAKE_CERTIFICATE"),
        ({"NETWORK_SECRET": SECRET, **STAKE}, "STAKE_CERTIFICATE"),
        ({"MODE": "client", "PEER_ADVERTISE": "node.example:4001"}, "PEER_ADVERTISE"),
        ({"MODE": "client", "PORT": "4001", "PEER_PORT": "4001"}, None),
        ({"PORT": "0", "PEER_PORT": "0"}, None),
        ({"PORT": "4001"}, "PEER_PORT"),
        ({"PEER_PORT": "8080", "PEER_HOST": "::"}, None),
        ({"PEER_PORT": "80"}, "PEER_PORT"),
        ({"PEER_PORT": "5432"}, "PEER_PORT"),
        ({"PEER_PORT": "443"}, None),
        ({"PEER_PORT": "80", "MODE": "client"}, None),
        ({"PEER_PORT": "80", "PEER_ADVERTISE": "node.example:443"}, None),
    ],
)
def test_what_is_wrong_between_settings(environ: dict[str, str], wrong: str | None) -> None:
    if wrong is None:
        settings_of(environ)
    else:
        assert set(problems_of(environ)) == {wrong}


@pytest.mark.parametrize(
    ("host", "peer_host", "meet"),
    [
        ("127.0.0.1", "0.0.0.0", True),
        ("::1", "::", True),
        ("0.0.0.0", "192.168.1.7", True),
        ("::0", "0::0", True),
        ("localhost", "127.0.0.1", True),
        ("LOCALHOST", "::", True),
        ("node.example", "Node.Example", True),
        ("node.example", "::", True),
        ("::", "0.0.0.0", False),
        ("127.0.0.1", "192.168.1.7", False),
        ("localhost", "127.8.8.8", False),
        ("node.example", "192.168.1.7", False),
    ],
)
def test_one_port_for_both_listeners(host: str, peer_host: str, meet: bool) -> None:
    environ = {**SAME_PORT, "HOST": host, "PEER_HOST": peer_host}
    if meet:
        assert set(problems_of(environ)) == {"PEER_PORT"}
    else:
        assert settings_of(environ).peer_host == peer_host


@pytest.mark.parametrize(
    ("wrong", "beside"),
    [
        ({"NETWORK_ID": MARK}, STAKE),
        ({"NETWORK_SECRET": MARK}, {"NETWORK_ID": ID}),
        ({"PEER_ADVERTISE": MARK}, {"MODE": "client"}),
        ({"PEER_HOST": "a b"}, {"PORT": "4001"}),
    ],
)
def test_a_setting_that_is_wrong_itself_does_not_make_others_wrong(
    wrong: dict[str, str], beside: dict[str, str]
) -> None:
    assert set(problems_of(wrong | beside)) == set(wrong)


def test_what_an_authority_issues_is_a_setting() -> None:
    issued = certificate_text(issue(KEY, OTHER_ID, 1.7e9, bytes(8)))
    assert settings_of({"NETWORK_ID": OTHER_ID, "STAKE_CERTIFICATE": issued}).stake_certificate == SecretStr(issued)
