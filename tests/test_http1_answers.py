"""Answers as servers frame them: however they are cut on their way, they are read alike, and a broken one never looks
whole."""

import asyncio
from itertools import pairwise
from random import Random

import pytest

from tests.http1 import Told, played

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = b"Content-Length: 5\r\n\r\nHello"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH, CODED = ("Content-Length", "5"), ("Transfer-Encoding", "chunked")
CLOSE = ("Connection", "close")
HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

ANSWERS = {
    "length": (OK + HELLO, Told("whole", 200, (LENGTH,), b"Hello", True)),
    "no reason phrase": (b"HTTP/1.1 200\r\n" + HELLO, Told("whole", 200, (LENGTH,), b"Hello", True)),
    "nothing": (OK + b"Content-Length: 0\r\n\r\n", Told("whole", 200, (("Content-Length", "0"),), b"", True)),
    "chunked": (OK + CHUNKED + b"5\r\nHello\r\n1\r\n!\r\n0\r\n\r\n", Told("whole", 200, (CODED,), b"Hello!", True)),
    "chunked, in capitals": (
        OK + b"Transfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
        Told("whole", 200, (("Transfer-Encoding", "Chunked"),), b"0123456789", True),
    ),
    "no chunks": (OK + CHUNKED + b"0\r\n\r\n", Told("whole", 200, (CODED,), b"", True)),
    "extensions": (
        OK + CHUNKED + b'5;a;b=c;d="e f"\r\nHello\r\n0;last=1\r\n\r\n',
        Told("whole", 200, (CODED,), b"Hello", True),
    ),
    "trailers": (
        OK + CHUNKED + b"5\r\nHello\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
        Told("whole", 200, (CODED,), b"Hello", True),
    ),
    "until it closes": (OK + b"\r\nHello", Told("whole", 200, (), b"Hello")),
    "gzip until it closes": (
        OK + b"Transfer-Encoding: gzip\r\n\r\nHello", Told("whole", 200, (("Transfer-Encoding", "gzip"),), b"Hello"),
    ),
    "connection: close": (OK + b"Connection: close\r\n" + HELLO, Told("whole", 200, (CLOSE, LENGTH), b"Hello")),
    "1.0": (b"HTTP/1.0 200 OK\r\n" + HELLO, Told("whole", 200, (LENGTH,), b"Hello")),
    "1.0, kept": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + HELLO,
        Told("whole", 200, (("Connection", "keep-alive"), LENGTH), b"Hello", True),
    ),
    "1.0 until it closes": (b"HTTP/1.0 200 OK\r\n\r\nHello", Told("whole", 200, (), b"Hello")),
    "100 before it": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + HELLO, Told("whole", 200, (LENGTH,), b"Hello", True)),
    "103 before it, twice": (HINT * 2 + OK + HELLO, Told("whole", 200, (LENGTH,), b"Hello", True)),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", Told("whole", 204, (), b"", True)),
    "304": (b"HTTP/1.1 304 Not Modified\r\n\r\n", Told("whole", 304, (), b"", True)),
    "304 and a length": (b"HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\n", Told("whole", 304, (LENGTH,), b"", True)),
    "304 and a coding": (b"HTTP/1.1 304 Same\r\n" + CHUNKED, Told("whole", 304, (CODED,), b"", True)),
    "4xx": (b"HTTP/1.1 429 Slow Down\r\n" + HELLO, Told("whole", 429, (LENGTH,), b"Hello", True)),
    "twice the same header": (
        OK + b"Set-Cookie: a\r\nSet-Cookie: b\r\n" + HELLO,
        Told("whole", 200, (("Set-Cookie", "a"), ("Set-Cookie", "b"), LENGTH), b"Hello", True),
    ),
    "bytes in a header": (OK + b"X: \xe4\xff\r\n" + HELLO, Told("whole", 200, (("X", "äÿ"), LENGTH), b"Hello", True)),
    "blanks around it": (OK + b"X: \t a b \t\r\n" + HELLO, Told("whole", 200, (("X", "a b"), LENGTH), b"Hello", True)),
    "another answer behind it": (OK + HELLO + OK + HELLO, Told("whole", 200, (LENGTH,), b"Hello")),
    "garbage behind it": (OK + HELLO + b"!?", Told("whole", 200, (LENGTH,), b"Hello")),
    "too short": (OK + b"Content-Length: 5\r\n\r\nHell", Told("broken", 200, (LENGTH,), b"Hell")),
    "no last chunk": (OK + CHUNKED + b"5\r\nHello\r\n", Told("broken", 200, (CODED,), b"Hello")),
    "half a chunk": (OK + CHUNKED + b"5\r\nHell", Told("broken", 200, (CODED,), b"Hell")),
    "half a last chunk": (OK + CHUNKED + b"5\r\nHello\r\n0\r\n", Told("broken", 200, (CODED,), b"Hello")),
    "half a trailer": (OK + CHUNKED + b"5\r\nHello\r\n0\r\nX: 1\r\n", Told("broken", 200, (CODED,), b"Hello")),
    "nothing at all": (b"", Told("dropped")),
    "half a head": (OK + b"Content-Len", Told("dropped")),
    "only 100": (b"HTTP/1.1 100 Continue\r\n\r\n", Told("dropped")),
}  # fmt: skip
"""What comes, and what the caller is told. Behind it the server sends FIN."""

REFUSED = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2": b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x80\0\4\0\1\0\0\0\5\0\xff\xff\xff",
    "HTTP/0.9": b"<html>hello</html>",
    "HTTP/3.1": b"HTTP/3.1 200 OK\r\n" + HELLO,
    "a status of two digits": b"HTTP/1.1 20 OK\r\n" + HELLO,
    "a status that is none": b"HTTP/1.1 2xx OK\r\n" + HELLO,
    "a header without a name": OK + b": x\r\n" + HELLO,
    "a name with a blank": OK + b"X : x\r\n" + HELLO,
    "a header without a colon": OK + b"X\r\n" + HELLO,
    "a header over two lines": OK + b"X: a\r\n b\r\n" + HELLO,
    "a line that ends by CR": OK + b"X: a\rY: b\r\n" + HELLO,
    "NUL in a header": OK + b"X: a\0b\r\n" + HELLO,
    "a length that is none": OK + b"Content-Length: five\r\n\r\nHello",
    "a length below zero": OK + b"Content-Length: -5\r\n\r\nHello",
    "a length with a sign": OK + b"Content-Length: +5\r\n\r\nHello",
    "an endless length": OK + b"Content-Length: " + b"9" * 40 + b"\r\n\r\nHello",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nHello!",
    "a list of lengths": OK + b"Content-Length: 5, 5\r\n\r\nHello",
    "length and coding": OK + b"Content-Length: 5\r\n" + CHUNKED + b"5\r\nHello\r\n0\r\n\r\n",
    "coding and length": OK + b"Transfer-Encoding: chunked\r\n" + HELLO,
    "a header flood": OK + b"X: a\r\n" * 1000 + HELLO,
    "an endless header": OK + b"X: " + b"a" * 300_000,
    "endless hints": HINT * 10_000,
    "an upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n\0\0",
}
LATE = {
    "a chunk's size that is none": b"5\r\nHello\r\nxyz\r\n",
    "a chunk's size below zero": b"5\r\nHello\r\n-5\r\nHello\r\n0\r\n\r\n",
    "an endless chunk's size": b"5\r\nHello\r\n" + b"f" * 40 + b"\r\nHello",
    "a chunk longer than it says": b"5\r\nHello!\r\n0\r\n\r\n",
    "an endless extension": b"5\r\nHello\r\n5;a=" + b"b" * 300_000,
    "a length behind it all": b"5\r\nHello\r\n0\r\nContent-Length: 9\r\n\r\n",
    "endless trailers": b"5\r\nHello\r\n0\r\n" + b"X: a\r\n" * 60_000,
}
"""Chunks that are none, behind one that is."""


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("poured", [False, True])
async def test_it_is_read_alike_however_it_is_cut(name: str, poured: bool) -> None:
    data, expected = ANSWERS[name]
    assert await played([data], poured=poured) == expected
    ways = [(data[:at], data[at:]) for at in range(len(data))]
    ways += [tuple(data[at : at + 1] for at in range(len(data)))]
    for pieces in ways:
        told = await played([piece for piece in pieces if piece], poured=poured)
        assert (told.how, told.status, told.headers, told.body) == (
            expected.how, expected.status, expected.headers, expected.body,
        ), pieces  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_no_answer_is_refused(name: str) -> None:
    for pieces in ([REFUSED[name]], cut(REFUSED[name], name)):
        assert (await played(pieces)).how == "not http"


@pytest.mark.parametrize("name", LATE)
async def test_what_is_no_chunk_breaks_the_answer(name: str) -> None:
    data = OK + CHUNKED + LATE[name]
    told = await played(cut(data, name))
    assert told.how == "not http"
    assert told.body.startswith(b"Hello")
    assert not told.kept


def cut(data: bytes, seed: str) -> list[bytes]:
    rng = Random(seed)
    return [data[start:end] for start, end in pairwise(sorted({0, len(data), *rng.choices(range(len(data)), k=20)}))]


@pytest.mark.parametrize("name", ["length", "chunked", "until it closes", "204", "half a chunk"])
async def test_to_head_there_is_a_head_alone(name: str) -> None:
    data, expected = ANSWERS[name]
    told = await played([data[: data.index(b"\r\n\r\n") + 4]], bodiless=True)
    assert (told.how, told.status, told.headers, told.body) == ("whole", expected.status, expected.headers, b"")


async def test_a_reset_in_the_middle_is_a_break_whatever_the_framing() -> None:
    for head in (b"\r\n", b"Content-Length: 9\r\n\r\n", CHUNKED + b"9\r\n"):
        told = await played([OK + head + b"Hello"], "reset")
        assert (told.how, told.body) == ("broken", b"Hello")


async def test_pieces_are_handed_over_as_they_come() -> None:
    told = await asyncio.gather(*(played([OK + CHUNKED, b"1\r\na\r\n", b"1\r\nb\r\n", b"0\r\n\r\n"]) for _ in range(3)))
    assert [one.body for one in told] == [b"ab"] * 3
