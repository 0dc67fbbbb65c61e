"""Requests that are no HTTP, or mean two things at once; and seeded mutations of good ones. Pure."""

import random
from collections.abc import Iterator
from typing import NamedTuple

CANARY = "k3y-never-to-be-seen"
"""A secret in every request: no answer and no log line may show it."""

SMUGGLED = "smuggled-model"
"""The model of the request hidden in a body: no upstream may be asked for it."""

JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
END = "0\r\n\r\n"

TOKENS = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"\x0b", b":", b",", b";", b"#", b"?", b"%00", b"/../",
    b"//", b"\xff", b"\xc5\xbf", b"\xe2\x84\xaa", b"\xef\xbb\xbf", b"-1", b"0x", b"ffffffffffffffff", b"9" * 20,
    b"HTTP/2.0", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Content-Length: 0\r\n",
    b"Content-Length: 7\r\n", b"Expect: 100-continue\r\n", b"Expect: \xff\r\n", b"Host: evil.example\r\n",
    b"Origin: null\r\n", b"Content-Encoding: gzip\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"Connection: keep-alive\r\n", b"0\r\n\r\n", b"[" * 2000, b"X" * 9000, b"X: y\r\n" * 130,
)  # fmt: skip


class Case(NamedTuple):
    name: str
    data: bytes
    status: int = 400


def cases(port: int) -> list[Case]:
    """Every one must get this one answer, and nothing behind it."""
    return [*lines(port), *targets(port), *hosts(port), *lengths(port), *encodings(port), *chunks(port), *rest(port)]


def lines(port: int) -> Iterator[Case]:
    """The request line, and the lines of the head."""
    host = f"Host: 127.0.0.1:{port}"
    for name, start in {
        "no version": "GET /api/tags",
        "a tab": "GET\t/api/tags HTTP/1.1",
        "a leading blank": " GET /api/tags HTTP/1.1",
        "HTTP/0.9": "GET /api/tags HTTP/0.9",
        "HTTP/1.2": "GET /api/tags HTTP/1.2",
        "HTTP/1.10": "GET /api/tags HTTP/1.10",
        "HTTP/2.0": "GET /api/tags HTTP/2.0",
        "HTTP/9.9": "GET /api/tags HTTP/9.9",
        "http/1.1": "GET /api/tags http/1.1",
        "a fourth word": "GET /api/tags HTTP/1.1 x",
        "a method in lower case": "get /api/tags HTTP/1.1",
        "an unknown method": "SMUGGLE /api/tags HTTP/1.1",
        "CONNECT": f"CONNECT 127.0.0.1:{port} HTTP/1.1",
        "the preface of HTTP/2": "PRI * HTTP/2.0",
    }.items():
        yield Case(name, request(start, host))
    for name, line in {
        "a bare CR in a value": "X-A: one\rtwo: three",
        "a NUL in a value": "X-A: one\x00two",
        "a NUL in a name": "X\x00A: one",
        "a byte over 0x7e in a value": "X-A: \xff",
        "DEL in a value": "X-A: \x7f",
        "a byte over 0x7e in a name": "X-\xc4: one",
        "a blank in a name": "X A: one",
        "a blank before the colon": "X-A : one",
        "a vertical tab before the name": "\x0bX-A: one",
        "no colon": "X-A",
        "no name": ": one",
        "a folded value": "X-A: one\r\n two",
        "CR CR LF": "X-A: one\r",
    }.items():
        yield Case(name, request("GET /api/tags HTTP/1.1", host, line))
    yield Case("a blank before the first header", request("GET /api/tags HTTP/1.1", " X-A: one", host))
    yield Case("bare LF", request("GET /api/tags HTTP/1.1", host).replace(b"\r\n", b"\n"))


def targets(port: int) -> Iterator[Case]:
    host = f"127.0.0.1:{port}"
    for name, target in {
        "no slash": "api/tags",
        "a fragment": "/api/tags#x",
        "a fragment behind a query": "/api/tags?a#x",
        "a byte over 0x7e": "/api/tags?\xff",
        "a byte over 0x7e in the path": "/api/t\xc3\xa4gs",
        "a control": "/api/tags?\x01",
        "another authority": "http://evil.example/api/tags",
        "userinfo": f"http://user@{host}/api/tags",
        "no authority": "http:///api/tags",
        "an open bracket": "http://[::1/api/tags",
        "brackets in a name": "http://a[b]/api/tags",
        "another scheme": f"ftp://{host}/api/tags",
        "a star": "*",
    }.items():
        yield Case(f"target: {name}", request(f"GET {target} HTTP/1.1", f"Host: {host}"))


def hosts(port: int) -> Iterator[Case]:
    for name, lines in {
        "none": [],
        "two": [f"Host: 127.0.0.1:{port}", "Host: evil.example"],
        "twice": [f"Host: 127.0.0.1:{port}"] * 2,
        "empty": ["Host:"],
        "a blank": ["Host: a b<script>"],
        "a path": [f"Host: 127.0.0.1:{port}/x"],
        "userinfo": [f"Host: user@127.0.0.1:{port}"],
        "two ports": [f"Host: localhost:{port}:80"],
        "a port in letters": ["Host: localhost:http"],
        "a name behind an address": ["Host: [::1]evil.example"],
        "a list": [f"Host: 127.0.0.1:{port}, evil.example"],
        "bytes over 0x7e": ["Host: \xe4.example"],
    }.items():
        yield Case(f"host: {name}", request("GET /api/tags HTTP/1.1", *lines))


def lengths(port: int) -> Iterator[Case]:
    for name, value in {
        "a plus": "+20",
        "a minus": "-1",
        "hexadecimal": "0x14",
        "an underscore": "2_0",
        "a list": "20, 20",
        "two words": "20 20",
        "a parameter": "20;x",
        "over 64 bits": "18446744073709551636",
        "digits of another script": "\xd9\xa2\xd9\xa0",
        "nothing": "",
        "a vertical tab": "\x0b20",
    }.items():
        yield Case(f"length: {name}", hiding(port, f"Content-Length: {value}"))
    yield Case("length: two", hiding(port, "Content-Length: 0", "Content-Length: 20"))
    yield Case("length: twice", hiding(port, "Content-Length: 20", "Content-Length: 20"))
    yield Case("length: and chunked", hiding(port, "Content-Length: 4", CHUNKED, body=END))
    yield Case("length: behind chunked", hiding(port, CHUNKED, "Content-Length: 4", body=END))


def encodings(port: int) -> Iterator[Case]:
    for name, value in {
        "not last": "chunked, identity",
        "not first": "gzip, chunked",
        "repeated": "chunked, chunked",
        "another": "xchunked",
        "gzip": "gzip",
        "identity": "identity",
        "nothing": "",
        "in capitals": "Chunked",
        "in quotes": '"chunked"',
        "a vertical tab": "\x0bchunked",
        "a parameter": "chunked;x=y",
        "a folded line": "\r\n chunked",
        "a NUL": "chunked\x00",
    }.items():
        yield Case(f"encoding: {name}", hiding(port, f"Transfer-Encoding: {value}", body=END))
    yield Case("encoding: two", hiding(port, CHUNKED, "Transfer-Encoding: identity", body=END))
    yield Case("encoding: twice", hiding(port, CHUNKED, CHUNKED, body=END))
    yield Case("encoding: a blank before the colon", hiding(port, "Transfer-Encoding : chunked", body=END))
    yield Case("encoding: HTTP/1.0", hiding(port, CHUNKED, body=END).replace(b"HTTP/1.1", b"HTTP/1.0", 1))


def chunks(port: int) -> Iterator[Case]:
    for name, body in {
        "0x": "0x0\r\n\r\n",
        "a plus": "+0\r\n\r\n",
        "a minus": "-1\r\n\r\n",
        "a blank before the size": " 0\r\n\r\n",
        "no size": "\r\n\r\n",
        "not hexadecimal": "zz\r\n\r\n",
        "over 64 bits": "10000000000000000\r\n\r\n",
        "bare LF": "0\n\n",
        "CR CR LF": "0\r\r\n\r\n",
        "a bare LF in an extension": "0;a\n\r\n",
        "longer than its size": "2\r\n{}}\r\n" + END,
        "no end": "2\r\n{}" + END,
        "a trailer without a colon": "0\r\nX-A\r\n\r\n",
        "a blank before a trailer's colon": "0\r\nX-A : one\r\n\r\n",
    }.items():
        yield Case(f"chunk: {name}", hiding(port, CHUNKED, body=body))


def rest(port: int) -> Iterator[Case]:
    host = f"Host: 127.0.0.1:{port}"
    yield Case("expect: another", request("GET /api/tags HTTP/1.1", host, "Expect: 200-maybe"), 417)
    yield Case("expect: a second one", request("GET / HTTP/1.1", host, "Expect: 100-continue", "Expect: x"), 417)
    yield Case("expect: bytes over 0x7e", request("GET /nowhere HTTP/1.1", host, "Expect: \xff"))
    yield Case("too many headers", request("GET /api/tags HTTP/1.1", host, *["X-A: one"] * 200), 431)
    yield Case("a header too long", request("GET /api/tags HTTP/1.1", host, "X-A: " + "x" * 9000), 431)
    yield Case("a name too long", request("GET /api/tags HTTP/1.1", host, "X" * 9000 + ": x"), 431)
    yield Case("a target too long", request(f"GET /{'x' * 9000} HTTP/1.1", host), 431)
    yield Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + CANARY.encode() + b"\r\n\r\n")
    yield Case("an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: " + CANARY.encode() + b"\r\n\r\n")


def mutations(port: int, seed: int, count: int) -> Iterator[bytes]:
    """Good requests with one to three faults each."""
    rng = random.Random(seed)
    good = good_requests(port)
    for _ in range(count):
        data = rng.choice(good)
        for _ in range(rng.randint(1, 3)):
            data = mutated(data, rng)
        yield data


def good_requests(port: int) -> list[bytes]:
    host, body = f"Host: 127.0.0.1:{port}", f'{{"model":"llama3","messages":[{{"role":"user","content":"{CANARY}"}}]}}'
    length, chunked = f"Content-Length: {len(body)}", f"{len(body):x};x\r\n{body}\r\n0\r\nX-A: b\r\n\r\n"
    asking = "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x-custom"
    return [
        request("POST /api/chat HTTP/1.1", host, JSON, length, "X-Request-Id: one", body=body),
        request(f"POST /api/chat?key={CANARY} HTTP/1.1", host, JSON, length, "Accept-Encoding: gzip", body=body),
        request("POST /v1/messages HTTP/1.1", host, JSON, length, "Expect: 100-continue", body=body),
        request("POST /v1/api/chat HTTP/1.0", host, JSON, length, "Connection: keep-alive", body=body),
        request("POST /api/pull HTTP/1.1", host, JSON, length, body=body),
        request("POST /v1/chat/completions HTTP/1.1", host, JSON, CHUNKED, body=chunked),
        request(f"GET http://127.0.0.1:{port}/v1/models/{CANARY} HTTP/1.1", host),
        request("GET /v1/models HTTP/1.1", host, "Origin: http://localhost:3000", "Sec-Fetch-Site: same-site"),
        request("OPTIONS /v1/messages HTTP/1.1", host, "Origin: http://localhost:3000", *asking),
    ]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One fault more. What is copied is shorter than a whole request, and than the canary."""
    at, length = rng.randrange(len(data)), rng.randint(1, 12)
    piece = data[at : at + length]
    match rng.randrange(6):
        case 0:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 1:
            return data[:at] + rng.choice(TOKENS) + data[at:]
        case 2:
            return data[:at] + rng.choice(TOKENS) + data[at + length :]
        case 3:
            return data[:at] + data[at + length :]
        case 4:
            other = rng.randrange(len(data))
            return data[:other] + piece + data[other:]
        case _:
            lines = data.split(b"\r\n")
            one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[one], lines[other] = lines[other], lines[one]
            return b"\r\n".join(lines)


def request(start: str, *lines: str, body: str = "") -> bytes:
    """With the canary where a client keeps its secret."""
    head = [start, f"Authorization: Bearer {CANARY}", *lines, "", body]
    return "\r\n".join(head).encode("latin-1")


def hiding(port: int, *framing: str, body: str = "") -> bytes:
    """A request with this framing; behind its body, or in it, stands another one."""
    host = f"Host: 127.0.0.1:{port}"
    inner = f'{{"model":"{SMUGGLED}"}}'
    hidden = request("POST /api/chat HTTP/1.1", host, JSON, f"Content-Length: {len(inner)}", body=inner)
    return request("POST /api/chat HTTP/1.1", host, JSON, *framing, body=body) + hidden
