"""masa-node with some constants changed: `python -P altered_node.py [--spoken LOW,HIGH] [--no-container] COMMAND …`."""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

RECORDS = "peers.network.records"


def speak(versions: str) -> None:
    """A release that speaks these versions of the peer protocol: others take the constant over when they are loaded."""
    spec = find_spec(RECORDS)
    assert spec
    assert spec.origin
    source = Path(spec.origin).read_text()
    assert source.count("\nSPOKEN = (1, 1)\n") == 1
    altered = source.replace("\nSPOKEN = (1, 1)\n", f"\nSPOKEN = ({versions})\n")
    sys.modules[RECORDS] = module = ModuleType(RECORDS)
    module.__file__ = spec.origin
    exec(compile(altered, spec.origin, "exec"), module.__dict__)


def leave_container() -> None:
    """Announce the machine's own addresses: where tests run in a container, their namespaces are no containers."""
    from masa_node import surroundings

    surroundings.in_container = lambda root: False


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spoken")
    parser.add_argument("--no-container", action="store_true")
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    if asked.spoken:
        speak(asked.spoken)
    if asked.no_container:
        leave_container()
    from masa_node import cli

    sys.argv = ["masa-node", *asked.command]
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
