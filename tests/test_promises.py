"""docs/security.md and docs/promises.md: what code and tests cite has its entry there, and what they name is here."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = {name: (ROOT / name).read_text() for name in ("docs/security.md", "docs/promises.md")}
FILES = [
    path
    for folder in ("config", "peers", "handlers", "masa_node", "tests", "bench")
    for path in (ROOT / folder).rglob("*.py")
]
ENTRY = {"docs/security.md": r"^### (C-\d+) ", "docs/promises.md": r"^\| ([A-E]\d+) \|"}
NUMBER = {"docs/security.md": r"C-\d+", "docs/promises.md": r"[A-E]\d+"}
WITHOUT_A_PAGE = re.compile(r"\b(?:SECURITY|PROMISES)\s+(?:C-|[A-E])\d")
"""Citations of documents that a reader of this project does not have."""


def cited(text: str, page: str) -> set[str]:
    """The numbers that `text` cites from the page: `PAGE C-1, C-20 … C-23`."""
    number = NUMBER[page]
    found: set[str] = set()
    for numbers in re.findall(rf"{re.escape(page)}\s+({number}(?:(?:,| …| and)\s+{number})*)", text):
        for first, last in re.findall(rf"({number})(?:\s…\s+({number}))?", numbers):
            letter, start = split(first)
            found |= {f"{letter}{at}" for at in range(start, split(last or first)[1] + 1)}
    return found


def split(number: str) -> tuple[str, int]:
    """C-15 as (`C-`, 15)."""
    letter = number.rstrip("0123456789")
    return letter, int(number.removeprefix(letter))


def entries(page: str) -> list[str]:
    return re.findall(ENTRY[page], PAGES[page], re.M)


def parts(page: str) -> list[str]:
    """The text of each entry."""
    return re.split(ENTRY[page], PAGES[page], flags=re.M)[2::2]


def named_tests(text: str) -> list[str]:
    return re.findall(r"`(test_\w+\.py(?:::\w+)*)`", text)


@cache
def defined_in(file: str) -> set[str]:
    """Every name under which pytest knows a test of the file, or a class of them."""
    found: set[str] = set()
    for node in ast.parse((ROOT / "tests" / file).read_text()).body:
        if isinstance(node, ast.ClassDef):
            found |= {node.name} | {f"{node.name}::{inner.name}" for inner in node.body if is_test(inner)}
        elif is_test(node):
            found.add(node.name)
    return found


def is_test(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")


@pytest.mark.parametrize("page", PAGES)
def test_what_is_cited_has_its_entry(page: str) -> None:
    told = {str(path.relative_to(ROOT)): cited(path.read_text(), page) - {*entries(page)} for path in FILES}
    assert {name: missing for name, missing in told.items() if missing} == {}


def test_nothing_is_cited_that_a_reader_does_not_have() -> None:
    assert [str(path.relative_to(ROOT)) for path in FILES if WITHOUT_A_PAGE.search(path.read_text())] == []


@pytest.mark.parametrize("page", PAGES)
def test_an_entry_stands_once_and_in_order(page: str) -> None:
    numbers = [split(entry) for entry in entries(page)]
    assert len(numbers) > 10
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_is_named_is_there(page: str) -> None:
    for part in parts(page):
        assert named_tests(part), part
    for name in named_tests(PAGES[page]):
        file, _, test = name.partition("::")
        assert (ROOT / "tests" / file).is_file(), name
        assert not test or test in defined_in(file), name


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_is_there(page: str) -> None:
    named = re.findall(r"`((?:config|peers|handlers|masa_node|bench|tests)/[\w/.]+)`", PAGES[page])
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    ("page", "said", "numbers"),
    [
        ("docs/security.md", " C-1, C-20 … C-23; C-3", {"C-1", "C-20", "C-21", "C-22", "C-23"}),
        ("docs/security.md", " C-2,\nC-15 and C-17).", {"C-2", "C-15", "C-17"}),
        ("docs/promises.md", " B11", {"B11"}),
        ("docs/promises.md", " C10, D3; C-15", {"C10", "D3"}),
        ("docs/promises.md", " say how", set()),
    ],
)
def test_citations_are_read_whole(page: str, said: str, numbers: set[str]) -> None:
    assert cited(f"Why ({page}{said}", page) == numbers
