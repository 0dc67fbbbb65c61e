"""An answer's head, as aiohttp writes it. Pure."""

from collections.abc import Mapping
from http import HTTPStatus

REASONS = {status.value: status.phrase for status in HTTPStatus}
BODILESS = (204, 304)


def framed(status: int, headers: dict[str, str]) -> tuple[dict[str, str], bool, bool]:
    """With the framing of its body; whether that is chunks; whether there is no body.

    `headers`: the upstream's in lower case, of whose framing only the length is taken.
    """
    length, empty = headers.get("content-length"), status in BODILESS
    chunked = length is None and not empty
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
    elif status == 204:
        headers.pop("content-length", None)
    if not empty and length != "0":
        headers.setdefault("content-type", "application/octet-stream")
    return headers, chunked, empty


def status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {REASONS.get(status, '')}\r\n"


def lines(headers: Mapping[str, str]) -> str:
    """Each of them as one line. Raises ValueError for one that would be more."""
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not text.count("\n") == text.count("\r") == len(headers):
        raise ValueError("a line break in a header")
    return text
