"""What the commands print: tables with colour on a terminal, plain and unbroken lines elsewhere."""

import sys

from rich.console import Console
from rich.text import Text

CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
UNBROKEN = 1000
"""Columns, where nothing wraps: what reads the output wants a row on one line."""


class Output(Console):
    """Standard output. When its reader has left, cli.main hears of it; rich would end the process itself."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    return Output(highlight=False, width=None if sys.stdout.isatty() else UNBROKEN)


def cell(value: object) -> Text:
    """Empty where nothing is known."""
    return Text("" if value is None else printable(value), overflow="fold")


def print_json(body: bytes) -> None:
    """As it is, on a line of its own."""
    sys.stdout.buffer.write(body + b"\n")
    sys.stdout.buffer.flush()


def printable(text: object) -> str:
    """Text from elsewhere, without what would steer a terminal."""
    return str(text).translate(CONTROLS)
