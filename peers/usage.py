"""tokens(): how many tokens an answer says it took, read off its end. Pure."""

import re

TAIL = 4096
"""Bytes of an answer's end that are looked at: every dialect puts its counts there."""

# Within a JSON string the quotes are escaped, so that what a model writes cannot match.
_INPUT = re.compile(rb'(?<!\\)"(?:prompt_eval_count|prompt_tokens|input_tokens)"\s*:\s*(\d{1,12})')
_OUTPUT = re.compile(rb'(?<!\\)"(?:eval_count|completion_tokens|output_tokens)"\s*:\s*(\d{1,12})')


def tokens(tail: bytes) -> tuple[int | None, int | None]:
    """(input, output) as Ollama, OpenAI and Anthropic spell them; None where the answer does not tell."""
    return _last(_INPUT, tail), _last(_OUTPUT, tail)


def _last(pattern: re.Pattern[bytes], tail: bytes) -> int | None:
    found = pattern.findall(tail)
    return int(found[-1]) if found else None
