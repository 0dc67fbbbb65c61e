"""A `.env` file as names and values. Besides dotenv's own forms it takes `export NAME = 'value';`. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO

from dotenv.parser import Binding, parse_stream

_NEWLINE = re.compile(r"\r\n|\n|\r")
_QUOTED = re.compile(r"\s*(?:export\s+)?(?:'[^']+'|[^=#\s]+)[^\S\r\n]*=[^\S\r\n]*['\"]")
_NAME = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)")
_FINAL_SEMICOLON = re.compile(r"(?:;\s*)+(#[^\r\n]*)?\Z")


@dataclass(frozen=True, slots=True)
class Entry:
    """What one line says."""

    line: int
    name: str | None
    """None: the line cannot be read."""
    value: str = field(repr=False)

    @property
    def meant(self) -> str:
        """Which name a line that cannot be read begins with."""
        begin = _NAME.match(self.value)
        return begin[1].upper() if begin and self.name is None else ""


def parse(text: str, first_line: int = 1) -> Iterator[Entry]:
    """The lines that say something, in order. Of two with one name the later counts. Nothing is interpolated.

    What dotenv drops is read again without its final `;`, and then line by line: a quote left open takes in others.
    """
    for binding in parse_stream(StringIO(text)):
        line = first_line + binding.original.line - 1 + _blank_lines(binding.original.string)
        said = binding.original.string.strip()
        if not binding.error:
            if binding.key is not None:
                yield _entry(binding, line)
        elif (shorter := _FINAL_SEMICOLON.sub("", said)) != said:
            yield from parse(shorter, line)
        elif len(parts := _NEWLINE.split(said)) > 1:
            for number, part in enumerate(parts, line):
                yield from parse(part, number)
        else:
            yield Entry(line, None, said)


def _blank_lines(text: str) -> int:
    """dotenv counts them to the line that follows."""
    return len(_NEWLINE.findall(text[: len(text) - len(text.lstrip())]))


def _entry(binding: Binding, line: int) -> Entry:
    if binding.value is None:
        return Entry(line, None, binding.original.string.strip())
    quoted = _QUOTED.match(binding.original.string)
    return Entry(line, binding.key, binding.value if quoted else binding.value.removesuffix(";").rstrip())
