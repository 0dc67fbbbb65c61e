"""One target of fuzzing under libFuzzer: `python -m tests.coverage_guided NAME SECONDS FOLDER`.

What breaks it is printed and kept in FOLDER; the exit code is then not 0.
"""

import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["peers", "handlers", "json", "email"]):
    from tests.hostile import TARGETS, Target
    from tests.http1 import ANSWER, read_alike
    from tests.spoiling import spoiled

LONGEST = 70_000
SLOW = 5
"""Seconds after which one input counts as a fault."""


def main() -> None:
    name, seconds, folder = sys.argv[1:]
    target = {**TARGETS, "an HTTP answer": Target(read_alike, ANSWER)}[name]
    (Path(folder) / "valid").write_bytes(target.valid)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        """libFuzzer's own way, or ours, which keeps JSON whole more often."""
        rng = random.Random(seed)
        return spoiled(data, rng)[:most] if rng.randrange(2) else atheris.Mutate(data, most)

    options = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={SLOW}", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *options, folder], lambda data: target.run(data), custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
