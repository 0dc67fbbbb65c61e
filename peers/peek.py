"""peek(): what routing must know of a body, without changing a byte of it (docs/security.md C-18). Pure."""

import json
import re
import zlib
from codecs import BOM_UTF8

import msgspec

from peers.errors import BadRequest
from peers.wire import Door, Peek

NAME = re.compile(r"[A-Za-z0-9@._:/-]{1,128}", re.ASCII)
READ = {"model", "name", "stream"}
_TOP = msgspec.json.Decoder(dict[str, msgspec.Raw])
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def peek(body: bytes, door: Door) -> Peek:
    """Read `model` and `stream` off the top level of a JSON object.

    Exact duplicate keys: the last one counts, as it does upstream. Case variants are refused, since upstreams written
    in Go would take them for the real thing. Raises BadRequest.
    """
    top = _top_level(body)
    field = "name" if door.operation == "show" and "model" not in top else "model"
    _refuse_variants(top, {field, "model", "stream"})
    return Peek(_model(top.get(field)), _flag(top.get("stream")))


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """A throw-away plain copy of a compressed body, for peek() alone. Raises BadRequest: 415, 413, 400 when broken."""
    kind = encoding.strip().lower()
    if kind in ("", "identity"):
        return body
    if kind not in ("gzip", "x-gzip", "deflate"):
        raise BadRequest(
            "unsupported_encoding", "send the body as it is, or with Content-Encoding gzip or deflate", status=415
        )
    # 32 more than the window bits: zlib and gzip heads are told apart by zlib itself.
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error:
        raise BadRequest("invalid_body", "the compressed body is broken") from None
    if len(plain) > limit:
        raise BadRequest("body_too_large", f"the body is over {limit} bytes (MAX_BODY_BYTES) when inflated", status=413)
    # Two streams one behind the other: an upstream that reads both would see another body than we.
    if not inflater.eof or inflater.unused_data:
        raise BadRequest("invalid_body", "the compressed body is not whole, or more than one stream")
    return plain


def askable(name: str) -> bool:
    """Whether callers can ask for this name; one that they cannot is not listed."""
    return NAME.fullmatch(name) is not None and ".." not in name and "//" not in name


def check_model(name: str) -> str:
    """The name, if it stays within its path. Raises BadRequest `invalid_model`, which says where it does not."""
    if not name:
        raise BadRequest("invalid_model", "`model` is empty; GET /api/v1/llm/models lists the names")
    if len(name) > 128:
        raise BadRequest("invalid_model", "`model` is longer than 128 characters")
    matched = NAME.match(name)
    good = matched.end() if matched else 0
    if good < len(name):
        raise BadRequest(
            "invalid_model", f"`model` has a character at position {good + 1} that is none of A-Z a-z 0-9 @ . _ : / -"
        )
    for bad in ("..", "//"):
        if bad in name:
            raise BadRequest("invalid_model", f"`model` has `{bad}` at position {name.index(bad) + 1}")
    return name


def _top_level(body: bytes) -> dict[str, msgspec.Raw]:
    if not body:
        raise BadRequest("invalid_body", "the body is missing; send a JSON object with a `model`")
    try:
        return _TOP.decode(body)
    except _DECODE_ERRORS:
        return _lenient(body)


def _lenient(body: bytes) -> dict[str, msgspec.Raw]:
    """What msgspec is too strict for and upstreams are not, as half of a surrogate pair in some text."""
    try:
        top = json.loads(body.decode())
        if isinstance(top, dict):
            return {
                key: msgspec.Raw(json.dumps(value).encode()) for key, value in top.items() if key.casefold() in READ
            }
    except UnicodeDecodeError as error:
        raise BadRequest("invalid_body", f"the body is not UTF-8 (at byte {error.start + 1})") from None
    except json.JSONDecodeError as error:
        if body.startswith(BOM_UTF8):
            text = "the body begins with a byte order mark, which JSON never has (RFC 8259 section 8.1); leave it out"
            raise BadRequest("invalid_body", text) from None
        raise BadRequest("invalid_body", f"the body is not JSON (at character {error.pos + 1})") from None
    except (RecursionError, ValueError):
        raise BadRequest("invalid_body", "the body is nested too deep, or has a number too long, to be read") from None
    raise BadRequest("invalid_body", "the body is not a JSON object")


def _refuse_variants(top: dict[str, msgspec.Raw], names: set[str]) -> None:
    for key in top:
        if key not in names and key.casefold() in names:
            raise BadRequest("invalid_body", f"write `{key.casefold()}` in lower case; this body spells it otherwise")


def _model(raw: msgspec.Raw | None) -> str:
    if raw is None:
        raise BadRequest("invalid_body", "the body has no `model`; GET /api/v1/llm/models lists the names")
    try:
        name = msgspec.json.decode(raw, type=str)
    except _DECODE_ERRORS:
        raise BadRequest("invalid_body", "`model` is not a string") from None
    return check_model(name)


def _flag(raw: msgspec.Raw | None) -> bool | None:
    """What else `stream` may be is for the upstream to judge; here it counts as unsaid."""
    return {b"true": True, b"false": False}.get(bytes(raw)) if raw is not None else None
