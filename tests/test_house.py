"""The rules of docs/architecture.md that a machine can hold: the arrow, who spawns tasks, what pure files leave alone.

An exception to a rule is one more line in a list below, with its reason.
"""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ARROW = ("config", "peers", "handlers", "masa_node")
"""A package imports itself and what stands before it."""

PURE = {
    "peers/doors.py",
    "peers/conversation.py",
    "peers/errors.py",
    "peers/guests.py",
    "peers/meaning.py",
    "peers/network/active.py",
    "peers/network/announcer.py",
    "peers/network/catalogue.py",
    "peers/network/certificates.py",
    "peers/network/choice.py",
    "peers/network/clock.py",
    "peers/network/contacts.py",
    "peers/network/exchange.py",
    "peers/network/frames.py",
    "peers/network/hints.py",
    "peers/network/intake.py",
    "peers/network/liveness.py",
    "peers/network/membership.py",
    "peers/network/offers.py",
    "peers/network/outlook.py",
    "peers/network/pairing.py",
    "peers/network/pairs.py",
    "peers/network/policy.py",
    "peers/network/reach.py",
    "peers/network/records.py",
    "peers/network/replay.py",
    "peers/network/roster.py",
    "peers/network/rotation.py",
    "peers/network/rumours.py",
    "peers/network/seal.py",
    "peers/network/signatures.py",
    "peers/network/stake.py",
    "peers/network/standing.py",
    "peers/network/strangers.py",
    "peers/network/table.py",
    "peers/network/terms.py",
    "peers/network/tokens.py",
    "peers/network/trust.py",
    "peers/network/whereabouts.py",
    "peers/pace.py",
    "peers/peek.py",
    "peers/plan.py",
    "peers/race_log.py",
    "peers/runner.py",
    "peers/senses.py",
    "peers/units.py",
    "peers/upstreams/doctor_script.py",
    "peers/upstreams/eliza_bodies.py",
    "peers/upstreams/eliza_voices.py",
    "peers/usage.py",
    "peers/waves.py",
    "peers/wire.py",
}
IMPURE_MODULES = {"aiohttp", "asyncio", "random", "socket", "time"}

MAY_SPAWN = {
    "config/settings.py",  # its gather() reads the environment
    "masa_node/fast_path_connection.py",  # a plain request, for as long as its caller's connection
    "masa_node/loops.py",
    "masa_node/tls_accept.py",  # a handshake for each connection, while the listener is open
    "peers/asking.py",  # some peers asked at once whether they serve a model, for as long as one call
    "peers/network/agreeing.py",  # a session with each peer that is asked often, while the network is open
    "peers/network/carrier.py",  # an exchange for each peer, so that a slow one delays nobody
    "peers/network/dialbacks.py",  # a peer's addresses at once, while it waits for the answer
    "peers/network/fetching.py",  # two model lists at once, while the network is open
    "peers/network/handing.py",  # a secret handed to all members at once
    "peers/network/outbox.py",  # what peers are to stop is told them all at once, while the network is open
    "peers/network/rotating.py",  # members that came back are handed the secret, while the network is open
    "peers/network/vigil.py",  # peers that are silent in their answers are asked, while the network is open
    "peers/race.py",  # a task for each runner, ended or cancelled with the race
    "peers/upstreams/own.py",  # all servers asked at once, for as long as one call
}
SPAWNERS = {"TaskGroup", "create_task", "ensure_future", "gather", "run_coroutine_threadsafe"}

MAY_SLEEP = {"masa_node/loops.py", "masa_node/commands/races.py"}  # the latter polls its node, which tells nobody

MAY_CATCH_ANYTHING = {
    "masa_node/fast_path_connection.py",  # as aiohttp does for its handlers: the fault is logged, its caller hears 500
    "masa_node/loops.py",
}

MOST_LINES = 300

REGISTRIES = re.compile(
    r"pypi\.(org|python)|pythonhosted\.org|registry\.(npmjs|yarnpkg)|index\.crates|proxy\.golang|--(extra-)?index-url"
)
BESIDE_THE_PROJECT, MAY_LOOK_BESIDE = re.compile(r"\.\./shared"), {".ci/run"}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(), name)


def python_files(*folders: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py"))


HOUSE = python_files(*ARROW)
EVERYTHING = [*HOUSE, *(name for name in python_files("tests", "bench") if "/.home/" not in name)]


def imports(name: str) -> Iterator[str]:
    """The first part of each module that a file imports; `from . import` is its own package."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0] if not node.level else name.split("/")[0]


def last_name(node: ast.expr) -> str:
    """`sleep` of `sleep` and of `asyncio.sleep`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def calls(name: str) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree(name)) if isinstance(node, ast.Call))


def called(name: str) -> set[str]:
    return {last_name(call.func) for call in calls(name)}


def imported_names(name: str) -> set[str]:
    """What `from … import` brings in, under its own name: an alias does not hide it."""
    froms = (node for node in ast.walk(tree(name)) if isinstance(node, ast.ImportFrom))
    return {alias.name for node in froms for alias in node.names}


def draws(name: str) -> bool:
    """Whether it makes chance itself; `Random` may be the type of an argument."""
    nodes = [*ast.walk(tree(name))]
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "random"]
    taken = {alias.name for node in froms for alias in node.names}
    whole = any(alias.name == "random" for node in nodes if isinstance(node, ast.Import) for alias in node.names)
    return whole or taken != {"Random"} or "Random" in called(name)


def catches_anything(name: str) -> bool:
    """`except:`, `except Exception`, `except BaseException`, and the same by `suppress`; not what only cleans up."""
    handlers = (node for node in ast.walk(tree(name)) if isinstance(node, ast.ExceptHandler))
    caught = [handler.type for handler in handlers if not raises_on(handler)]
    suppressed = [argument for call in calls(name) if last_name(call.func) == "suppress" for argument in call.args]
    return None in caught or bool(
        {"Exception", "BaseException"} & {last_name(kind) for kind in flat(caught, suppressed)}
    )


def raises_on(handler: ast.ExceptHandler) -> bool:
    """Whether it ends in a bare `raise`."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def flat(*groups: list[ast.expr | None] | list[ast.expr]) -> Iterator[ast.expr]:
    for kind in (kind for group in groups for kind in group if kind):
        yield from kind.elts if isinstance(kind, ast.Tuple) else [kind]


def is_empty_container(value: ast.expr | None) -> bool:
    """A container that starts empty can only be there to be filled."""
    match value:
        case ast.List(elts=[]) | ast.Dict(keys=[]):
            return True
        case ast.Call(func=func, args=[], keywords=[]):
            return last_name(func) in {"list", "dict", "set", "deque", "Counter", "OrderedDict"}
        case ast.Call(func=func):
            return last_name(func) in {"defaultdict", "WeakSet", "WeakKeyDictionary", "WeakValueDictionary"}
    return False


def module_state(name: str) -> list[int]:
    """The lines where a module keeps state: a container made empty, or a function that rebinds a global."""
    kept = [
        node.lineno
        for node in tree(name).body
        if isinstance(node, ast.Assign | ast.AnnAssign) and is_empty_container(node.value)
    ]
    return kept + [node.lineno for node in ast.walk(tree(name)) if isinstance(node, ast.Global)]


def repository() -> list[str]:
    """Every file that git has or would take."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    listed = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(name for name in set(names.split("\0")) if (ROOT / name).is_file())


def naming(pattern: re.Pattern[str]) -> set[str]:
    """The files of the repository that `pattern` is found in."""
    return {name for name in repository() if pattern.search((ROOT / name).read_text(errors="replace"))}


@pytest.mark.parametrize("name", HOUSE)
def test_imports_follow_the_arrow(name: str) -> None:
    allowed = ARROW[: ARROW.index(name.split("/")[0]) + 1]
    assert {found for found in imports(name) if found in (*ARROW, "tests", "bench")} <= set(allowed)


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_files_have_no_clock_no_chance_and_no_sockets(name: str) -> None:
    assert set(imports(name)) & IMPURE_MODULES <= (set() if draws(name) else {"random"})


@pytest.mark.parametrize(
    ("breaks", "allowed"),
    [
        pytest.param(lambda name: SPAWNERS & (called(name) | imported_names(name)), MAY_SPAWN, id="spawns tasks"),
        pytest.param(lambda name: "sleep" in called(name) | imported_names(name), MAY_SLEEP, id="sleeps"),
        pytest.param(catches_anything, MAY_CATCH_ANYTHING, id="catches anything"),
        pytest.param(module_state, set(), id="keeps state in a module"),
    ],
)
def test_only_files_on_the_list_do_it(breaks: Callable[[str], object], allowed: set[str]) -> None:
    assert {name for name in HOUSE if breaks(name)} <= allowed


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_file_says_its_subject_first_and_is_not_too_long(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    assert len(lines) <= MOST_LINES
    if lines or not name.endswith("__init__.py"):
        assert ast.get_docstring(tree(name))


def test_nothing_names_a_package_registry() -> None:
    assert naming(REGISTRIES) == set()


def test_nothing_but_ci_looks_beside_the_project() -> None:
    assert naming(BESIDE_THE_PROJECT) <= MAY_LOOK_BESIDE


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("try: ...\nexcept (ValueError, Exception): ...", True),
        ("try: ...\nexcept: ...", True),
        ("with contextlib.suppress(BaseException): ...", True),
        ("try: ...\nexcept Exception as error:\n    raise ValueError from error", True),
        ("try: ...\nexcept (ValueError, KeyError): ...", False),
        ("try: ...\nexcept BaseException:\n    clean_up()\n    raise", False),
    ],
)
def test_catches_anything_sees_every_spelling(source: str, found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "tree", lambda name: ast.parse(source))
    assert catches_anything("any.py") is found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import random", True),
        ("import random\nfrom random import Random", True),
        ("from random import choice", True),
        ("from random import Random\nrng = Random()", True),
        ("from random import Random\ndef pick(rng: Random) -> int: ...", False),
    ],
)
def test_drawing_is_told_from_naming_the_type(source: str, found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "tree", lambda name: ast.parse(source))
    assert draws("any.py") is found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("seen: dict[str, int] = {}", True),
        ("seen = collections.defaultdict(list)", True),
        ("def set():\n    global seen\n    seen = 1", True),
        ("NAMES = {'a': 1}\ndef f():\n    seen = []", False),
    ],
)
def test_module_state_is_seen(source: str, found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "tree", lambda name: ast.parse(source))
    assert bool(module_state("any.py")) is found
