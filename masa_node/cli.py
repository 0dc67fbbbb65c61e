"""masa-node: the command line. Each command lives in masa_node/commands and is imported only when it is asked for."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from masa_node import __version__

DESCRIPTION = "One address for language models: your own model server, Cloudflare, hosted providers."
EPILOG = """examples:
  masa-node run                                  start the node; an Ollama on this machine is found by itself
  masa-node chat "why is the sky blue?"          ask it something
  LLM_CHAT_URL=http://10.0.0.5:11434 masa-node run

Settings come from the environment and from .env in the working directory: docs/settings.md, or `masa-node run --help`.
Exit codes: 0 fine, 1 failed, 2 usage or configuration error."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    arguments = parser().parse_args(argv)
    command = importlib.import_module(f"masa_node.commands.{arguments.command}")
    try:
        code = command.main(arguments)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # Whoever read our output has left, as `masa-node models | head` does.
        sys.stderr.close()
        code = 0
    sys.exit(code)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        "masa-node", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"masa-node {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _run(commands)
    _chat(commands)
    for name, does in (
        ("models", "list the models in reach, and where they are"),
        ("status", "show how a running node is"),
    ):
        _ask(commands, name, does)
    doctor = commands.add_parser(
        "doctor", help="check configuration, keys, upstreams, ports; every finding says what to do"
    )
    doctor.add_argument("--env-file", metavar="F", help="settings file to read instead of .env")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    return top


def _run(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    run = commands.add_parser(
        "run",
        help="start the node",
        description="Start the node and serve until Ctrl-C or SIGTERM, then finish running answers (30 s at most).",
        epilog=_SettingsHelp(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("--env-file", metavar="F", help="settings file to read instead of .env in the working directory")


def _chat(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    chat = commands.add_parser(
        "chat",
        help="talk to a model",
        description="Talk to a model through a running node. Without PROMPT: `exit` or Ctrl-D ends, Ctrl-C an answer.",
    )
    chat.add_argument("--model", metavar="M", help="which model (default: the first one the node lists)")
    _where(chat)
    chat.add_argument("prompt", nargs="*", metavar="PROMPT", help="ask this and leave; without it, a prompt loop")


def _ask(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, does: str) -> None:
    command = commands.add_parser(name, help=does)
    _where(command)
    command.add_argument("--json", action="store_true", help="print the node's JSON")


def _where(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--url", metavar="U", help="the node (default: HOST and PORT of the settings, else http://127.0.0.1:8080)"
    )
    command.add_argument("--key", metavar="K", help="an API key of the node (default: the first of API_KEYS)")


class _SettingsHelp(str):
    """The settings, read from config only when this help is printed."""

    __slots__ = ()

    def __mod__(self, _: object) -> str:
        from config.settings import help_table

        rows = [f"  {name:<26} {meaning} [{default}]" for name, default, meaning in help_table()]
        return "settings (environment, or .env):\n" + "\n".join(rows)


if __name__ == "__main__":
    main()
