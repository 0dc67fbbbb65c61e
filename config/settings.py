"""load(): the settings of one node from its environment and `.env`, or everything that is wrong with them at once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ByteSize, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from config.conflicts import conflicts
from config.environment import PREFIX, Gathered, gather
from config.fields import Settings, Shown, setting_names
from config.kinds import masked_url
from config.problems import ConfigError, Problem, in_words

__all__ = ["ConfigError", "Gathered", "Loaded", "Problem", "Settings", "help_table", "load", "shown"]


@dataclass(frozen=True)
class Loaded:
    """Settings, and where they are from."""

    settings: Settings
    gathered: Gathered

    def changed(self) -> list[tuple[str, str, str]]:
        """Every setting that is not at its default: name, value as people may see it, source."""
        return [
            (name, shown(value), self.gathered.sources[field])
            for name, field in setting_names().items()
            if field in self.gathered.values
            and (value := getattr(self.settings, field)) != _default(Settings.model_fields[field])
        ]


def load(environ: Mapping[str, str], env_file: Path | None = None, cwd: Path = Path()) -> Loaded:
    """Read `environ` and `env_file`, or else the `.env` in `cwd` when there is one. Raises ConfigError."""
    usual = cwd / ".env"
    file = cwd / env_file if env_file else usual if os.path.exists(usual) else None
    gathered = gather(environ, file)
    return Loaded(_understand(gathered), gathered)


def help_table() -> list[tuple[str, str, str]]:
    """Every setting: name, default, description."""
    fields = [(name, Settings.model_fields[field]) for name, field in setting_names().items()]
    return [(name, _shown_default(field), field.description or "") for name, field in fields]


def shown(value: Any) -> str:
    """A value as people may see it: secrets, and what may hide in a URL, are masked."""
    match value:
        case None | ():
            return "–"
        case SecretStr():
            return "***"
        case tuple():
            return ", ".join(dict.fromkeys(map(shown, value)))
        case bool():
            return str(value).lower()
        case ByteSize():
            units = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("", 1))
            return next(f"{value // size}{unit}" for unit, size in units if value % size == 0)
        case float():
            return f"{value:g}"
        case _:
            return masked_url(text) if "://" in (text := str(value)) else text


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def _shown_default(field: FieldInfo) -> str:
    words = [marker.text for marker in field.metadata if isinstance(marker, Shown)]
    return words[0] if words else shown(_default(field))


def _understand(gathered: Gathered) -> Settings:
    """Raises ConfigError. A setting that fails by itself does not hide what is wrong between the others."""
    settings, found = _validated(gathered.values)
    problems = [*gathered.problems, *(_in_words(error, gathered) for error in found)]
    failed = {problem.name.removeprefix(PREFIX).removesuffix("_FILE").lower() for problem in problems}
    failed |= {problem.name.lower() for problem in problems}
    sound = settings or _validated({field: text for field, text in gathered.values.items() if field not in failed})[0]
    if sound:
        problems += [problem for fields, problem in conflicts(sound) if failed.isdisjoint(fields)]
    if settings is None or problems:
        raise ConfigError(tuple(problems))
    return settings


def _validated(values: Mapping[str, str]) -> tuple[Settings | None, list[ErrorDetails]]:
    try:
        return Settings.model_validate(values), []
    except ValidationError as error:
        return None, error.errors(include_url=False, include_input=False)


def _in_words(error: ErrorDetails, gathered: Gathered) -> Problem:
    field = str(error["loc"][0])
    info = Settings.model_fields[field]
    default = _shown_default(info)
    example = str(info.examples[0]) if info.examples else None if default == "–" else default
    return in_words(error, gathered.sources.get(field, "default"), example)
