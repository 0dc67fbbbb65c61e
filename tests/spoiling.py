"""How to spoil what is valid: bits, cuts, repeats, strange values, keys that stand twice."""

import random

import msgspec

SNIPPETS = [
    *(b"NaN", b"-Infinity", b"1e400", b"-0", b"1.0", b"1e3", b"9" * 19, b"9" * 400, b"-1", b"null", b"true", b'""'),
    *(b"[]", b"{}", b'{"a":1,"a":2}', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u0000"', b'"\xff"', b'"\xed\xa0\x80"'),
    *(b"[" * 400 + b"]" * 400, b'{"a":' * 9 + b"1" + b"}" * 9, b'"' + b"x" * 5000 + b'"', b"[" * 5000),
    *(b"18446744073709551616", b"9007199254740993", b"\xef\xbb\xbf", b"\0", b"\r\n", b": ", b",", b".", b"=", b"%"),
]


def spoiled(data: bytes, rng: random.Random) -> bytes:
    """A few faults: bits, cuts, repeats, strange values in place of others, keys twice."""
    some = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(some) + 1)
        match rng.randrange(6):
            case 0 if at < len(some):
                some[at] ^= 1 << rng.randrange(8)
            case 1:
                del some[at:]
            case 2:
                some[at:at] = some[at : at + rng.randrange(1, 200)]
            case 3:
                some[at:at] = rng.choice(SNIPPETS)
            case 4:
                some[at : at + rng.randrange(1, 9)] = b""
            case _:
                some = bytearray(with_another_value(bytes(some), rng))
    return bytes(some)


def with_another_value(data: bytes, rng: random.Random) -> bytes:
    """A value of this JSON object in place of which something strange stands, or a key that stands twice."""
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return data
    pairs = [(msgspec.json.encode(name), bytes(value)) for name, value in fields.items()]
    if pairs:
        name, value = rng.choice(pairs)
        strange = rng.choice([*SNIPPETS, value, b"[" + value + b"]", *(value for _, value in pairs)])
        if rng.randrange(2):
            pairs.remove((name, value))
        pairs.append((name, strange))
    return b"{" + b",".join(name + b":" + value for name, value in pairs) + b"}"
