"""What is wrong with a setting, in words, with the remedy. Values are never shown."""

from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from config.kinds import Wrong

_WORDS = {
    "int_parsing": "is not a whole number",
    "int_parsing_size": "is not a whole number of a possible size",
    "int_from_float": "is not a whole number",
    "float_parsing": "is not a number",
    "finite_number": "is not a finite number",
    "bool_parsing": "is neither true nor false",
    "greater_than": "is not above {gt}",
    "greater_than_equal": "is below {ge}",
    "less_than_equal": "is above {le}",
    "literal_error": "is not one of {expected}",
    "byte_size": "is not a number of bytes",
    "string_unicode": "is not UTF-8 text",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """`NAME what: remedy.`"""

    name: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name} {self.what}: {self.remedy}."


class ConfigError(Exception):
    """Everything that is wrong with the configuration, at once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems

    def report(self) -> str:
        """All of it, as the terminal shows it."""
        return "\n".join(["masa-node: the configuration is wrong:", *(f"  {problem}" for problem in self.problems)])


def in_words(error: ErrorDetails, source: str, example: str | None) -> Problem:
    """pydantic's finding about one setting as a Problem. `source` says where its value came from."""
    name = str(error["loc"][0]).upper()
    context: dict[str, Any] = error.get("ctx", {})
    wrong = context.get("error")
    if isinstance(wrong, Wrong):
        what, remedy = wrong.what, wrong.remedy
    else:
        what, remedy = _WORDS.get(error["type"], "is not understood").format_map(context), None
    if remedy is None:
        remedy = (
            f"write for example {name}={example}, or leave it out" if example else "write it again, or leave it out"
        )
    entry = f"entry {int(error['loc'][1]) + 1} " if len(error["loc"]) > 1 else ""
    return Problem(name, f"({source}) {entry}{what}", remedy)
