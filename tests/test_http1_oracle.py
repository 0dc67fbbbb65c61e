"""Our HTTP client beside aiohttp's: what a server sends over real sockets is the same to both, or ours is stricter."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random

import aiohttp
import pytest

from peers.http1.client import Client
from peers.http1.connection import Connection
from peers.http1.dial import dial
from tests.http1 import ENDS, REQUEST, Bucket, Told, played, read
from tests.spoiling import spoiled
from tests.test_http1_answers import ANSWERS, LATE, REFUSED

SEEDS = 12
OF_EACH = 30
"""Answers by one seed."""
WITHIN = 5.0

OUR_STRICTNESS = {"a header over two lines"}
"""What aiohttp takes and we do not: RFC 9112 §5.2 lets a client refuse it."""
THEIRS = {"garbage behind it"}
"""What aiohttp refuses and we take: the answer itself is whole, and what came behind it is never read."""


class Scripted:
    """Sends the same to everybody who asks, in pieces, and closes."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
            for piece in self.pieces:
                writer.write(piece)
                await writer.drain()
            writer.write_eof()
            await reader.read()  # until the other side has seen all, lest a reset overtake it
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    script = Scripted()
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    async with server:
        yield script


async def ours(port: int) -> Told:
    async def there(place: int, connection: Connection) -> None:
        await dial(connection, "127.0.0.1", place)

    client, body = Client[int](there, kept=5), Bucket()
    try:
        answer = await client.ask(port, REQUEST, b"{}", connect=WITHIN, silence=WITHIN)
        try:
            await read(answer, body)
            how = "whole"
        except OSError as error:
            how = ENDS[type(error)]
        finally:
            answer.close()
    except OSError as error:
        return Told(ENDS[type(error)])
    finally:
        client.close()
    return Told(how, answer.status, tuple(answer.headers.items()), body.content)


async def theirs(port: int) -> Told:
    connector, body = aiohttp.TCPConnector(force_close=True), Bucket()
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        try:
            url, data = f"http://127.0.0.1:{port}/", b"{}"
            async with asyncio.timeout(WITHIN), session.post(url, data=data, allow_redirects=False) as answer:
                try:
                    while piece := await answer.content.readany():
                        body.write(piece)
                    how = "whole"
                except aiohttp.ClientError:
                    how = "broken"
        except (aiohttp.ClientError, OSError):
            return Told("refused")
    raw = ((name.decode(), value.decode("latin-1")) for name, value in answer.raw_headers)
    return Told(how, answer.status, tuple(raw), body.content)


async def both(script: Scripted, pieces: list[bytes]) -> tuple[Told, Told]:
    script.pieces = pieces
    return await ours(script.port), await theirs(script.port)


@pytest.mark.parametrize("name", [*ANSWERS, *REFUSED, *LATE])
async def test_what_stands_in_our_tables_is_the_same_to_aiohttp(name: str) -> None:
    late = ANSWERS["no chunks"][0].partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + LATE.get(name, b"")
    data = ANSWERS[name][0] if name in ANSWERS else REFUSED.get(name, late)
    async with scripted() as script:
        us, them = await both(script, [data])
    if name in OUR_STRICTNESS | {"an upgrade"}:
        assert (us.how, them.how) == ("not http", "whole")
    elif name in THEIRS:
        assert us.how == "whole"
    else:
        assert (us.how == "whole") == (them.how == "whole")
        if us.how == "whole":
            assert us == them


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_well_formed_answer_is_the_same_to_both(seed: int) -> None:
    rng = Random(seed)
    async with scripted() as script:
        for _ in range(OF_EACH):
            pieces = cut(well_formed(rng), rng)
            us, them = await both(script, pieces)
            assert us == them, pieces
            assert us.how == "whole", pieces


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_spoiled_answer_is_taken_by_us_only_if_aiohttp_takes_it_too(seed: int) -> None:
    rng = Random(seed)
    async with scripted() as script:
        for _ in range(OF_EACH):
            pieces = cut(spoiled(well_formed(rng), rng), rng)
            us, them = await both(script, pieces)
            if us.how == "whole" != them.how:
                us, them = await both(script, [await ours_alone(b"".join(pieces), us)])
            if us.how == "whole":
                assert us == them, pieces


async def ours_alone(data: bytes, told: Told) -> bytes:
    """Without what comes behind the answer, which aiohttp may refuse and we never read."""
    short, long = 0, len(data)
    while short < long:
        middle = (short + long) // 2
        found = await played([data[:middle]])
        short, long = (short, middle) if (found.how, found.body) == ("whole", told.body) else (middle + 1, long)
    return data[:long]


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_an_answer_that_ends_early_is_broken_to_both(seed: int) -> None:
    rng = Random(seed)
    async with scripted() as script:
        for _ in range(OF_EACH):
            data = well_formed(rng, closed=False)
            pieces = cut(data[: rng.randrange(len(data))], rng)
            us, them = await both(script, pieces)
            assert us.how != "whole", pieces
            assert them.how != "whole", pieces


def well_formed(rng: Random, closed: bool = True) -> bytes:
    """An answer by the book, in one of its shapes. `closed`: it may end where the connection does."""
    status = rng.choice([200, 200, 200, 201, 404, 429, 500, 503])
    lines = [f"HTTP/1.{rng.choice('01' if closed else '1')} {status} {rng.choice(['OK', 'Not So Good', ''])}"]
    lines += [
        f"{rng.choice(['X-One', 'x-two', 'Server', 'Via'])}:{' ' * rng.randrange(3)}{'v' * rng.randrange(30)}"
        for _ in range(rng.randrange(5))
    ]
    body = rng.randbytes(rng.choice([0, 1, 17, 1000, 70_000]))
    shapes = ["length", *(["chunked"] if "1.1" in lines[0] else []), *(["close"] if closed else [])]
    shape = rng.choice(shapes)
    if shape == "length":
        lines.append(f"{rng.choice(['Content-Length', 'content-length'])}: {len(body) or 1}")
        body = body or b"!"
    if shape == "chunked":
        lines.append("Transfer-Encoding: chunked")
        body = chunked(body, rng)
    if rng.random() < 0.3:
        lines.append(f"Connection: {rng.choice(['close', 'keep-alive'])}")
    hints = b"".join(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" for _ in range(rng.choice([0, 0, 0, 1, 3])))
    return hints + "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes, rng: Random) -> bytes:
    content = b""
    while body:
        size = rng.choice([1, 5, 300, len(body)])
        piece, body = body[:size], body[size:]
        extension = rng.choice(["", "", ";a", ";a=b", ';a="b c"'])
        content += f"{rng.choice(['', '00'])}{len(piece):{rng.choice('xX')}}{extension}\r\n".encode() + piece + b"\r\n"
    return content + b"0\r\n" + rng.choice([b"", b"", b"X-Sum: 1\r\n", b"A: b\r\nC: d\r\n"]) + b"\r\n"


def cut(data: bytes, rng: Random) -> list[bytes]:
    places = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(rng.choice([0, 1, 5])))})
    return [data[start:end] for start, end in pairwise(places)]
