"""Signed requests for tests: made by us, or by an independent library, and judged as a receiver does."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver, algorithms
from multidict import CIMultiDict

from peers.network.identity import node_id, parse_key, raw_key
from peers.network.replay import ReplayCache
from peers.network.signatures import (
    Refused,
    Signed,
    check_digest,
    check_recipient,
    check_signature,
    check_time,
    content_digest,
    parse,
    sign,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SENDER = node_id(KEY)
OTHER = node_id(Ed25519PrivateKey.from_private_bytes(bytes(32)))
ME = node_id(Ed25519PrivateKey.from_private_bytes(b"\1" * 32))
PATH = "/peer/v1/forward/v1/chat/completions"
BODY = b'{"model":"llama3","messages":[{"role":"user","content":"why is the sky blue?"}]}' * 12
NOW = 1_800_000_000.5
NONCE = bytes(range(16))
COVERED = (
    "@method",
    "@path",
    "content-type",
    "content-digest",
    "masa-to",
    "masa-request-id",
    "masa-hop",
    "masa-deadline",
)


class Keys(HTTPSignatureKeyResolver):
    """The sender's, whoever is asked for; for HMAC its public half, which is what an attacker has."""

    def resolve_private_key(self, key_id):
        return KEY

    def resolve_public_key(self, key_id):
        return KEY.public_key()


class PublicAsSecret(Keys):
    def resolve_private_key(self, key_id):
        return raw_key(SENDER)


def request(body=BODY, **changes):
    fields = {
        "method": "POST",
        "path": PATH,
        "content_type": "application/json",
        "digest": content_digest(body),
        "to": ME,
        "request_id": "7f3a-0.1_B",
        "deadline_ms": 300_000,
    }
    return Signed(**(fields | changes))


def headers(now=NOW, nonce=NONCE, keyid=SENDER, key=KEY, **changes):
    return CIMultiDict(sign(request(**changes), key, keyid, now, nonce))


def accept(given, *, body=BODY, method="POST", path=PATH, now=NOW, me=ME, cache=None):
    """What a receiver does, in its order."""
    claim = parse(method, path, given)
    check_recipient(claim, me)
    key = parse_key(claim.keyid)
    check_time(claim, now)
    check_digest(claim, body)
    check_signature(claim, key)
    (ReplayCache() if cache is None else cache).add(claim, now)
    return claim


def code(*arguments, **options):
    with pytest.raises(Refused) as refused:
        accept(*arguments, **options)
    return refused.value.code


def by_library(
    body=BODY,
    *,
    algorithm=algorithms.ED25519,
    keys=Keys,
    covered=COVERED,
    life=30,
    label="masa",
    tag="masa-peer-v1",
    nonce="AAAAAAAAAAAAAAAAAAAAAA",
    keyid=SENDER,
    message=None,
    **options,
):
    """Headers that the library signed, as it is told."""
    given = {
        "Content-Type": "application/json",
        "Masa-To": ME,
        "Masa-Request-Id": "7f3a-0.1_B",
        "Masa-Hop": "1",
        "Masa-Deadline": "300000",
        "Content-Digest": content_digest(body),
    }
    message = message or SimpleNamespace(method="POST", url=f"https://10.0.0.1:4001{PATH}", headers=CIMultiDict(given))
    created = datetime.fromtimestamp(NOW, UTC)
    HTTPMessageSigner(signature_algorithm=algorithm, key_resolver=keys()).sign(
        message,
        key_id=keyid,
        created=created,
        expires=created + timedelta(seconds=life),
        nonce=nonce,
        label=label,
        tag=tag,
        covered_component_ids=covered,
        use_existing_digest=True,
        **options,
    )
    return message.headers
