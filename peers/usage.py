"""tokens(): how many tokens an answer says it took, read off its end. Pure."""

import re

TAIL = 2048
"""Bytes of an answer's end that are looked at: every dialect puts its counts there."""

_INPUT = (b'"prompt_eval_count"', b'"prompt_tokens"', b'"input_tokens"')
_OUTPUT = (b'"eval_count"', b'"completion_tokens"', b'"output_tokens"')
_NUMBER = re.compile(rb"\s*:\s*(\d{1,12})")


def tokens(tail: bytes | bytearray) -> tuple[int | None, int | None]:
    """(input, output) as Ollama, OpenAI and Anthropic spell them; None where the answer does not tell."""
    return _last(_INPUT, tail), _last(_OUTPUT, tail)


def _last(names: tuple[bytes, ...], tail: bytes | bytearray) -> int | None:
    """The number behind the last of `names`. Searched from the end: a pattern over it all costs ten times as much."""
    last, count = -1, None
    for name in names:
        place = tail.rfind(name)
        while place > last:
            # Within a JSON string the quotes are escaped, so that what a model writes does not count.
            number = None if tail[place - 1 : place] == b"\\" else _NUMBER.match(tail, place + len(name))
            if number is not None:
                last, count = place, int(number[1])
                break
            place = tail.rfind(name, 0, place)
    return count
