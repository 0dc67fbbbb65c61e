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

CHAT = """Talk to a model through a running node. The answer goes to standard output; who gave it, how soon, and
what the model thinks first go to standard error.

Without PROMPT, on a terminal: a prompt loop that remembers the conversation. `exit` or Ctrl-D ends it, Ctrl-C
stops the answer only. Elsewhere the whole of standard input is the prompt."""
CHAT_EXAMPLES = """examples:
  masa-node chat
  masa-node chat "why is the sky blue?"
  masa-node chat --model qwen3:8b < question.txt > answer.txt"""
MODELS = "List the models that can be asked for through a running node: where each is, and what it is spoken to as."
STATUS = "Show a running node: its name and id, its upstreams and what is wrong with them, and how busy it is."
PEERS = "List who is in the network with a running node: name, state, models, when last heard, where, why not asked."
DOCTOR = """Look at all a node needs, with or without one running: settings, folder and key, port, upstreams (each is
asked for real), clock, open files. Exit code 0: nothing failed; 1: something did; 2: the configuration is wrong."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    arguments = parser().parse_args(argv)
    try:
        code = importlib.import_module(f"masa_node.commands.{arguments.command}").main(arguments)
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
    for name, does, description in (
        ("models", "list the models in reach, and where they are", MODELS),
        ("status", "show how a running node is", STATUS),
        ("peers", "list the members of the node's network, with their state", PEERS),
    ):
        _ask(commands, name, does, description)
    _membership(commands)
    _doctor(commands)
    return top


def _run(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    run = commands.add_parser(
        "run",
        help="start the node",
        description="Start the node and serve until Ctrl-C or SIGTERM, then finish running answers (30 s at most).",
        epilog=_SettingsHelp("%(prog)s"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("--env-file", metavar="F", help="settings file to read instead of .env in the working directory")


def _chat(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    chat = commands.add_parser(
        "chat",
        help="talk to a model",
        description=CHAT,
        epilog=CHAT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    chat.add_argument("--model", metavar="M", help="which model (default: the first one the node lists)")
    _where(chat)
    chat.add_argument(
        "prompt", nargs="*", metavar="PROMPT", help="ask this and leave (default: standard input, or a prompt loop)"
    )


def _ask(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, does: str, description: str
) -> None:
    command = commands.add_parser(name, help=does, description=description)
    _where(command)
    command.add_argument("--json", action="store_true", help="print the node's own JSON")


def _membership(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    invite = commands.add_parser("invite", help="print a token by which another machine joins this node's network")
    invite.add_argument("--address", metavar="H:P", help="where the other machine reaches this one (default: found)")
    join = commands.add_parser("join", help="join a network by its token")
    join.add_argument("token", nargs="?", metavar="TOKEN", help="the token; `-`: standard input (or JOIN_TOKEN_FILE)")
    commands.add_parser("leave", help="leave the network")


def _doctor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    doctor = commands.add_parser(
        "doctor", help="check configuration, keys, upstreams, ports; every finding says what to do", description=DOCTOR
    )
    doctor.add_argument(
        "--env-file", metavar="F", help="settings file to read instead of .env in the working directory"
    )
    doctor.add_argument("--json", action="store_true", help="print a list of {check, status, what, remedy}")


def _where(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--url", metavar="U", help="the node (default: HOST and PORT of the settings, else http://127.0.0.1:8080)"
    )
    command.add_argument(
        "--key", metavar="K", help="an API key of the node (default: the first of API_KEYS, for a node of this machine)"
    )


class _SettingsHelp(str):
    """The settings, read from config only when this help is printed: argparse then fills in `%(prog)s`."""

    __slots__ = ()

    def __mod__(self, _: object) -> str:
        from config.settings import help_table

        rows = [f"  {name:<26} {meaning} [{default}]" for name, default, meaning in help_table()]
        return "settings (environment, or .env):\n" + "\n".join(rows)


if __name__ == "__main__":
    main()
