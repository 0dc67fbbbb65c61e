"""Signed requests: an independent library agrees both ways, and whatever is not exactly the profile is turned away."""

import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from http_message_signatures import HTTPMessageVerifier, algorithms
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from peers.network.identity import BadKey, id_text, parse_key
from peers.network.replay import ReplayCache
from peers.network.signatures import (
    _BY_NODE,
    _BY_SESSION,
    _HEADERS,
    Refused,
    check_digest,
    check_mac,
    check_recipient,
    check_signature,
    check_time,
    content_digest,
    parse,
)
from tests.signing import (
    BODY,
    COVERED,
    ME,
    NOW,
    OTHER,
    PATH,
    SENDER,
    Keys,
    PublicAsSecret,
    accept,
    by_library,
    code,
    headers,
    request,
)


def test_the_library_verifies_what_we_sign():
    given = headers(now=time.time())
    message = SimpleNamespace(method="POST", url=f"https://10.0.0.1:4001{PATH}", headers=given)
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=Keys())
    (result,) = verifier.verify(message, expect_tag="masa-peer-v1", require_components=COVERED, body=BODY)
    assert result.label == "masa"
    assert result.parameters["keyid"] == SENDER
    assert result.parameters["expires"] - result.parameters["created"] == 30


def test_we_verify_what_the_library_signs():
    claim = accept(by_library())
    assert (claim.keyid, claim.created, claim.expires) == (SENDER, int(NOW), int(NOW) + 30)
    assert claim.request == request()


@pytest.mark.parametrize("path", ["/peer/v1/identify", "/peer/v1/forward/v1/models/@cf%2Fa/b~c"])
@pytest.mark.parametrize("kind", ["application/json", 'application/json; charset="utf-8"', "a  b"])
def test_the_library_and_we_write_the_same(path, kind):
    given = headers(path=path, content_type=kind)
    message = SimpleNamespace(method="POST", url=f"https://[::1]:4001{path}", headers=CIMultiDict(given))
    for name in ("Signature", "Signature-Input"):
        del message.headers[name]
    assert by_library(message=message, nonce="AAECAwQFBgcICQoLDA0ODw") == given


def test_one_of_many_sends_is_accepted():
    """D5: the same request twice, to another node, late, early, and altered."""
    cache, given = ReplayCache(), headers()
    assert code(given, me=OTHER, cache=cache) == "recipient"
    assert code(given, now=NOW + 95, cache=cache) == "clock"
    assert code(given, now=NOW - 95, cache=cache) == "clock"
    assert code(given, path=PATH + "x", cache=cache) == "signature"
    assert code(given, body=BODY + b" ", cache=cache) == "digest"
    assert code(but(given, "Content-Digest", content_digest(b"")), body=b"", cache=cache) == "signature"
    other_nonce = given["Signature-Input"].replace("AAECAw", "BAECAw")
    assert code(but(given, "Signature-Input", other_nonce), cache=cache) == "signature"
    assert len(cache) == 0
    accept(given, cache=cache)
    assert code(given, cache=cache) == "replay"
    assert code(given, now=NOW + 29, cache=cache) == "replay"
    assert len(cache) == 1


DOWNGRADES = {
    "fewer components": lambda: by_library(covered=COVERED[:-1]),
    "no body": lambda: by_library(covered=[name for name in COVERED if name != "content-digest"]),
    "no component": lambda: by_library(covered=()),
    "one more": lambda: by_library(covered=(*COVERED, "@authority")),
    "other order": lambda: by_library(covered=COVERED[::-1]),
    "another label": lambda: by_library(label="sig1"),
    "another tag": lambda: by_library(tag="other"),
    "no tag": lambda: by_library(tag=None),
    "no nonce": lambda: by_library(nonce=None),
    "short nonce": lambda: by_library(nonce="AAAA"),
    "no algorithm": lambda: by_library(include_alg=False),
    "the public key as a secret": lambda: by_library(algorithm=algorithms.HMAC_SHA256, keys=PublicAsSecret),
    "algorithm none": lambda: changed("Signature-Input", 'alg="ed25519"', 'alg="none"'),
    "two labels": lambda: changed("Signature", "masa=:", "other=:AA==:, masa=:"),
    "two signatures": lambda: changed("Signature", "masa=:", f"masa=:{'A' * 86}==:, masa=:"),
    "two inputs": lambda: changed("Signature-Input", "masa=(", "other=(), masa=("),
    "one year": lambda: by_library(life=365 * 86_400),
    "backwards": lambda: by_library(life=-1),
    "another node's name": lambda: headers(keyid=OTHER),
    "leading zero": lambda: changed("Masa-Deadline", "300000", "0300000"),
    "another hop": lambda: changed("Masa-Hop", "1", "2"),
    "negative time": lambda: headers(now=-5),
}


def changed(name, old, new):
    given = headers()
    assert given[name].count(old) == 1
    given[name] = given[name].replace(old, new)
    return given


@pytest.mark.parametrize("make", DOWNGRADES.values(), ids=DOWNGRADES)
def test_there_is_nothing_to_negotiate(make):
    """D6: 401, and cheap to say."""
    given, fastest = make(), 1.0
    for _ in range(10):
        start = time.perf_counter()
        with pytest.raises(Refused) as refused:
            accept(given)
        fastest = min(fastest, time.perf_counter() - start)
    assert refused.value.status == 401
    assert fastest < 0.002


@pytest.mark.parametrize("name", list(headers()))
def test_exactly_one_of_each_header(name):
    given = headers()
    given.add(name, given[name])
    assert code(given) == "malformed"
    del given[name]
    assert code(given) == "malformed"
    given[name] = ""
    assert code(given) == "malformed"
    given[name] = "a" * 1025
    assert code(given) == "malformed"
    given[name] = headers()[name] + "\n"
    assert code(given) == "malformed"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", PATH),
        ("post", PATH),
        ("POST", PATH + "?"),
        ("POST", PATH + "?a=b"),
        ("POST", ""),
        ("POST", "peer/v1/ping"),
        ("POST", "/a b"),
        ("POST", "/é"),
        ("POST", "/" + "a" * 256),
        ("POST", PATH + '\n"content-type": x'),
    ],
)
def test_signed_routes_are_posts_without_a_query(method, path):
    assert code(headers(method=method, path=path), method=method, path=path) == "malformed"


def test_every_bit_counts():
    """Of headers, path and body; nothing but Refused or, for a keyid that is no key, BadKey."""
    given = headers()
    flips = [(name, place, bit) for name in given for place in range(len(given[name])) for bit in range(7)]
    for name, place, bit in flips:
        with pytest.raises((Refused, BadKey)):
            accept(but(given, name, flipped(given[name], place, bit)))
    for place in range(len(PATH)):
        with pytest.raises(Refused):
            accept(given, path=flipped(PATH, place, 0))
    with pytest.raises(Refused):
        accept(given, body=BODY[:-1] + b"]")
    accept(given)


def but(given, name, value):
    return CIMultiDict({**given, name: value})


def flipped(text, place, bit):
    return text[:place] + chr(ord(text[place]) ^ 1 << bit) + text[place + 1 :]


def test_a_weak_key_signs_nothing():
    """D7: the forged signature would verify; its keyid is refused before."""
    identity = (1).to_bytes(32, "little")
    forger = SimpleNamespace(sign=lambda base: identity + bytes(32))
    with pytest.raises(BadKey):
        accept(headers(keyid=id_text(identity), key=forger))


NAMES = list(headers())


@given(
    st.sampled_from(["POST", "GET"]),
    st.one_of(st.just(PATH), st.text()),
    st.lists(st.tuples(st.sampled_from(NAMES), st.text())),
    st.sets(st.sampled_from(NAMES)),
)
def test_whatever_comes_parse_refuses_or_understands(method, path, more, left_out):
    given = headers()
    for name in left_out:
        del given[name]
    given.extend(more)
    with suppress(Refused):
        assert parse(method, path, given).request.path == path


def in_form(kind):
    patterns = (_HEADERS | kind).items()
    return st.fixed_dictionaries({name: st.from_regex(pattern, fullmatch=True) for name, pattern in patterns})


@settings(deadline=None)
@given(st.one_of(in_form(_BY_NODE), in_form(_BY_SESSION)))
def test_what_looks_like_the_profile_is_understood_and_refused(given):
    claim = parse("POST", PATH, CIMultiDict(given))
    assert f"masa={claim.params}" == given["signature-input"]
    assert str(claim.request.deadline_ms) == given["masa-deadline"]
    for check in (
        lambda: check_recipient(claim, ME),
        lambda: check_time(claim, NOW),
        lambda: check_digest(claim, BODY),
    ):
        with suppress(Refused):
            check()
    with pytest.raises((Refused, BadKey)):
        check_mac(claim, bytes(32)) if claim.by_session else check_signature(claim, parse_key(claim.keyid))
