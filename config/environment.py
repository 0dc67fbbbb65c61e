"""What the operator said, and where: the environment and `.env`, with prefix, other names and NAME_FILE."""

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from config.env_file import Entry, parse
from config.fields import secret_names, setting_names
from config.kinds import PROVIDERS
from config.problems import Problem

PREFIX = "MASA_"
OTHER_NAMES = {"LLM_CHAT_URL": ("OLLAMA_BASE_URL", "OLLAMA_ENDPOINT")}
LATER = frozenset(
    {
        "RATE_LIMIT",
        "CACHE_TTL",
        "PROMPT_LIMITS",
        "REDIS_URL",
        "DATABASE_URL",
        "LLM_MODEL",
        "LLM_MAX_RETRIES",
        "LLM_RATE_LIMIT",
        "SECRET_KEY",
        "RPC_URL",
        "STAKE_CONTRACT",
        "MIN_STAKE",
    }
)
LARGEST_ENV_FILE = 256 * 1024
LARGEST_SECRET_FILE = 64 * 1024


@dataclass(frozen=True)
class Gathered:
    """What was found, before it is understood."""

    values: dict[str, str] = field(repr=False)
    """Field name → text."""
    sources: dict[str, str]
    """Field name → where its text is from, in words."""
    files: dict[str, Path]
    """Field name → the file its text is from, where NAME_FILE names one: what is in it may change."""
    env_file: Path | None
    """The file that was read."""
    notes: tuple[str, ...]
    """What the operator should know; the node can start all the same. No values."""
    problems: tuple[Problem, ...]
    """Why the node cannot start."""


@dataclass(frozen=True)
class Place:
    """The environment, or a `.env` file."""

    label: str
    texts: Mapping[str, str] = field(repr=False)
    lines: Mapping[str, int] | None = None

    def get(self, name: str) -> str:
        """Empty when it is not set; a setting that is set to nothing is not set."""
        return self.texts.get(name, "").strip()

    def where(self, name: str) -> str:
        return f"{self.label} line {self.lines[name]}" if self.lines else self.label


@dataclass(frozen=True)
class Found:
    """A setting's text; or why there is none although it is set."""

    text: str = field(repr=False)
    source: str
    notes: tuple[str, ...] = ()
    problem: Problem | None = None
    file: Path | None = None


def gather(environ: Mapping[str, str], env_file: Path | None) -> Gathered:
    """Read `environ` and the file at `env_file`, when one is given: it must be there."""
    entries, problem = _read_env_file(env_file) if env_file else ((), None)
    file = _place(env_file, entries)
    places = (Place("environment", environ), file)
    names, secrets = setting_names(), secret_names()
    found = {name: one for name in names if (one := _find(name, places, name in secrets))}
    idle = _idle_keys(found)
    used = {names[name]: one for name, one in found.items() if name not in idle}
    unread = [entry for entry in entries if entry.name is None]
    notes = [f"{file.label} line {entry.line} cannot be read" for entry in unread if entry.meant not in names]
    notes += [note for one in used.values() for note in one.notes]
    notes += [f"{key} is set but not used; PROVIDERS={value} switches it on" for key, value in idle.items()]
    notes += [*_unknown_names(places), *_set_twice(entries, file), *_later_names(places)]
    notes += _open_to_others(env_file, file)
    problems = [one.problem for one in used.values() if one.problem]
    # A setting that was meant and is lost may be what keeps strangers out.
    problems += [
        Problem(
            entry.meant, f"({file.label} line {entry.line}) cannot be read", "close its quotes, or write NAME=value"
        )
        for entry in unread
        if entry.meant in names
    ]
    return Gathered(
        values={key: one.text for key, one in used.items() if not one.problem},
        sources={key: one.source for key, one in used.items()},
        files={key: one.file for key, one in used.items() if one.file},
        env_file=None if problem else env_file,
        notes=tuple(notes),
        problems=(problem, *problems) if problem else tuple(problems),
    )


def _read_env_file(path: Path) -> tuple[tuple[Entry, ...], Problem | None]:
    try:
        return tuple(parse(_text_of(path, LARGEST_ENV_FILE))), None
    except FileNotFoundError:
        return (), Problem("--env-file", f"({path}) does not exist", "name a file that does, or leave it out")
    except OSError as error:
        what = f"({path}) cannot be read ({error.strerror})"
        return (), Problem(path.name, what, "let this user read it, or name another file by --env-file")
    except ValueError:
        what = f"({path}) is not UTF-8 text of at most {LARGEST_ENV_FILE // 1024} KiB"
        return (), Problem(path.name, what, "save it as UTF-8, with one NAME=value on each line")


def _text_of(path: Path, most: int) -> str:
    """Raises OSError, or ValueError when it is no UTF-8 text of at most `most` bytes."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError
    return content.decode("utf-8-sig")


def _place(path: Path | None, entries: tuple[Entry, ...]) -> Place:
    named = [(entry.name, entry) for entry in entries if entry.name is not None]
    texts = {name: entry.value for name, entry in named}
    return Place(path.name if path else ".env", texts, {name: entry.line for name, entry in named})


def _find(name: str, places: tuple[Place, ...], secret: bool) -> Found | None:
    """The setting by its own name, else by another one that means it."""
    others = OTHER_NAMES.get(name, ())
    set_others = [other for other in others if any(place.get(other) for place in places)]
    own = _first(name, (PREFIX + name, name), places, secret)
    if own:
        ignored = tuple(f"{other} is not used, because {name} is set" for other in set_others)
        return replace(own, notes=own.notes + ignored)
    if set_others:
        found = _first(name, others, places, secret)
        return found and Found(found.text, found.source, (f"{set_others[0]} is used as {name}",))
    return None


def _first(name: str, spellings: tuple[str, ...], places: tuple[Place, ...], secret: bool) -> Found | None:
    for spelling in spellings:
        for place in places:
            by_file = place.get(f"{spelling}_FILE") if secret else ""
            if text := place.get(spelling):
                both = (f"{spelling}_FILE is not used, because {spelling} is set",) if by_file else ()
                source = place.where(spelling) + (f", as {spelling}" if spelling != name else "")
                return Found(text, source, both)
            if by_file:
                return _from_file(f"{spelling}_FILE", by_file)
    return None


def _from_file(name: str, path: str) -> Found:
    """A problem does not repeat the path: it may be the secret itself, written under the wrong name."""
    source = f"file {path} named by {name}"
    try:
        text = _text_of(Path(path), LARGEST_SECRET_FILE).strip()
    except OSError as error:
        what = f"names a file that cannot be read ({error.strerror})"
        return Found("", source, problem=Problem(name, what, "name a file that is there and that this user may read"))
    except ValueError:
        what = f"does not name a UTF-8 file of at most {LARGEST_SECRET_FILE // 1024} KiB"
        return Found("", source, problem=Problem(name, what, "save the secret alone, as text"))
    if not text:
        return Found("", source, problem=Problem(name, "names an empty file", "write the secret into it"))
    return Found(text, source, file=Path(path))


def _idle_keys(found: Mapping[str, Found]) -> dict[str, str]:
    """Keys of providers that are not named stay unused, right or wrong. → the PROVIDERS that would use each."""
    said = found["PROVIDERS"].text if "PROVIDERS" in found else ""
    words = {word.strip().lower() for word in said.split(",")}
    named = [provider for provider in PROVIDERS if provider in words]
    idle = [provider for provider in PROVIDERS if provider not in named and f"{provider.upper()}_API_KEY" in found]
    return {f"{provider.upper()}_API_KEY": ",".join([*named, provider]) for provider in idle}


def _unknown_names(places: tuple[Place, ...]) -> Iterator[str]:
    """Names that look like a setting's. The environment is everybody's: there only ours by their beginning."""
    known = _known_names()
    for place in places:
        for name in place.texts:
            ours = place.lines or name.startswith(("LLM_", PREFIX))
            if ours and name.isidentifier() and name not in known and not _is_later(name):
                near = min(known, key=lambda other: (distance(name.upper(), other), other))
                if distance(name.upper(), near) <= 2:
                    yield f"{place.where(name)}: {name} is not a setting; did you mean {near}?"


def _known_names() -> set[str]:
    known = {*setting_names(), *(f"{name}_FILE" for name in secret_names())}
    return known | {PREFIX + name for name in known}


def _set_twice(entries: tuple[Entry, ...], file: Place) -> Iterator[str]:
    known, first = _known_names(), dict[str, int]()
    for entry in entries:
        if entry.name in known and (line := first.setdefault(entry.name, entry.line)) != entry.line:
            yield f"{file.label} line {entry.line}: {entry.name} is set on line {line} already; the last one counts"


def _later_names(places: tuple[Place, ...]) -> Iterator[str]:
    for name in dict.fromkeys(name for place in places for name in place.texts if place.get(name)):
        if name.isidentifier() and _is_later(name):
            yield f"{name} is for a later version and has no effect yet"


def _is_later(name: str) -> bool:
    bare = name.removeprefix(PREFIX)
    return bare.startswith("NOVELAI_") or bare in LATER or bare.removesuffix("_FILE") in LATER


def _open_to_others(path: Path | None, file: Place) -> Iterator[str]:
    secrets = any(file.get(name) or file.get(PREFIX + name) for name in secret_names())
    if path and secrets and os.name == "posix" and path.stat().st_mode & 0o044:
        yield f"{file.label} holds a secret and other users can read it: chmod 600 {shlex.quote(str(path))}"


def distance(one: str, other: str) -> int:
    """Levenshtein's: how many letters to put in, take out or change; 3 stands for more than 2 where lengths tell."""
    if abs(len(one) - len(other)) > 2:
        return 3
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]
