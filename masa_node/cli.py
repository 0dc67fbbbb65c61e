"""masa-node: the command line. Each command lives in masa_node/commands and is imported only when it is asked for."""

import argparse
import gc
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
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
RACES = """Show the last races of a running node, the newest last: each call that went to peers, who was asked when, who
won, and why each of the others lost."""
DEMO = """A whole network on this machine, by real sockets and TLS on loopback: the node that is asked has no model, the
others serve the built-in `eliza`, each at a pace of its own. Shows the answer as it comes, then who was asked, who won,
and when the others stopped. Needs nothing, reads no setting, and leaves nothing behind."""
DOCTOR = """Look at all a node needs, with or without one running: settings, folder and key, port, upstreams (each is
asked for real), clock, open files. Exit code 0: nothing failed; 1: something did; 2: the configuration is wrong."""

ROTATE = """Make a new secret for this node's network, and hand it to every member that is there. The old one counts for
24 hours more, so that whoever is away meanwhile gets the new one when it is back; tokens made with it work until then,
too. --without: the old one counts only for the members known here but those named, so neither they nor anybody with
their token can take part any more: the way to remove a lost machine. --now: the old one counts for nobody, and whoever
is away must join anew. Members whose NETWORK_SECRET is set keep the new one in MASA_DIR and go by that."""

PAUSE = """Stop serving peers, for a while or until `masa-node resume`. Running answers finish, peers know within
5 seconds, and a restart keeps it. The node's own callers are answered as before, by peers too."""

STAKE = """Membership by certificates, for a network whose members do not belong to one owner. One machine is the
authority: it says who may take part, until when, and who no longer may. Its key is made in MASA_DIR/authority by the
first `stake issue`, and the public half of it, NETWORK_ID, names the network. Back that folder up: whoever has the
key is the authority, and without it nobody can be let in or shut out any more."""
STAKE_EXAMPLES = """a network, from its beginning:
  member$     masa-node stake show                      prints this node's id; send it to the authority
  authority$  masa-node stake issue ID --days 90        prints a certificate and the NETWORK_ID; send both back
  member$     NETWORK_ID=... STAKE_CERTIFICATE_FILE=member.cert BOOTNODES=host:4001 masa-node run
  member$     masa-node stake show                      until when it holds, or why it does not
  authority$  masa-node stake list
  authority$  masa-node stake revoke ID                 members learn it by gossip

The authority's own node takes part like any other: masa-node stake issue self"""
ISSUE = """Print a certificate for a node, alone on standard output; what to do with it goes to standard error. It is
no secret: it serves the node it names and no other. To renew one, issue the next; several may hold at once."""
REVOKE = """Revoke all certificates of a node that have not ended: sign a new deny-list and hand it to the node that
runs on this folder, from which the others have it by gossip. Without one it is kept, and the next `run` takes it up."""
SHOW = """Show this node's id, which network it may take part in, by what, and until when; or why not, and the remedy.
On an authority's machine also the id of its network. Needs no running node. Exit code 1: the certificate does not
hold."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    arguments = parser().parse_args(argv)
    try:
        code = _command(arguments.command).main(arguments)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # Whoever read our output has left, as `masa-node models | head` does.
        sys.stderr.close()
        code = 0
    sys.exit(code)


def _command(name: str) -> ModuleType:
    gc.disable()  # what is imported stays: to look through it again and again is a tenth of a node's start
    try:
        return importlib.import_module(f"masa_node.commands.{name}")
    finally:
        gc.enable()


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
    races = _ask(commands, "races", "list the last races: who was asked, who won, why each lost", RACES)
    races.add_argument(
        "--follow", action="store_true", help="show new ones as they end, until Ctrl-C (with --json one in each line)"
    )
    _demo(commands)
    _membership(commands)
    _serving(commands)
    _stake(commands)
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
    run.add_argument(
        "--env-file", metavar="F", type=_said, help="settings file to read instead of .env in the working directory"
    )


def _chat(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    chat = commands.add_parser(
        "chat",
        help="talk to a model",
        description=CHAT,
        epilog=CHAT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    chat.add_argument("--model", metavar="M", type=_said, help="which model (default: the first one the node lists)")
    _where(chat)
    chat.add_argument(
        "prompt", nargs="*", metavar="PROMPT", help="ask this and leave (default: standard input, or a prompt loop)"
    )


def _said(text: str) -> str:
    """An option's value; "" is what a script's empty variable leaves, and means no default."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: say which, or leave the option out")
    return text


def _ask(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, does: str, description: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=does, description=description)
    _where(command)
    command.add_argument("--json", action="store_true", help="print the node's own JSON")
    return command


def _demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    demo = commands.add_parser("demo", help="show a whole network on this machine answer a question", description=DEMO)
    demo.add_argument("--nodes", metavar="N", type=_nodes, default=4, help="how many, from 2 to 20 (default: 4)")
    demo.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C, and say what to try with it")
    demo.add_argument("prompt", nargs="*", metavar="PROMPT", help="what to ask (default: why the sky is blue)")


def _nodes(text: str) -> int:
    count = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
    if not 2 <= count <= 20:
        raise argparse.ArgumentTypeError("a demo has from 2 to 20 nodes")
    return count


def _membership(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    invite = commands.add_parser("invite", help="print a token by which another machine joins this node's network")
    invite.add_argument(
        "--address", metavar="H:P", type=_said, help="where the other machine reaches this one (default: found)"
    )
    join = commands.add_parser("join", help="join a network by its token, and leave the one this node is in")
    join.add_argument("token", nargs="?", metavar="TOKEN", help="the token; `-`: standard input (or JOIN_TOKEN_FILE)")
    commands.add_parser("leave", help="leave the network, and forget its secret")
    rotate = commands.add_parser(
        "rotate", help="give the network a new secret, and leave out a lost machine", description=ROTATE
    )
    rotate.add_argument(
        "--without",
        metavar="NAME",
        type=_said,
        nargs="+",
        action="extend",
        default=[],
        help="leave these out at once: ids, beginnings of ids, or names as `masa-node peers` shows them",
    )
    rotate.add_argument("--now", action="store_true", help="let the old secret count no more, for nobody")


def _serving(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    pause = commands.add_parser("pause", help="serve no peers for a while", description=PAUSE)
    pause.add_argument(
        "--for",
        dest="duration",
        metavar="TIME",
        type=_said,
        help="how long: 90s, 30m, 1h, 2d (default: until `masa-node resume`)",
    )
    commands.add_parser("resume", help="serve peers again")


def _stake(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    raw = argparse.RawDescriptionHelpFormatter
    stake = commands.add_parser(
        "stake",
        help="certificates: issue, revoke, list those of an authority; show this node's own",
        description=STAKE,
        epilog=STAKE_EXAMPLES,
        formatter_class=raw,
    )
    actions = stake.add_subparsers(dest="action", required=True, metavar="ACTION")
    issue = actions.add_parser("issue", help="print a certificate for a node", description=ISSUE)
    issue.add_argument("node", metavar="NODE", help="the node's id, as its own `stake show` prints it; or `self`")
    issue.add_argument("--amount", metavar="A", type=int, default=1, help="its stake, 1 or more (default: 1)")
    issue.add_argument("--days", metavar="D", type=int, default=90, help="its life, 1 to 365 (default: 90)")
    revoke = actions.add_parser("revoke", help="revoke a node's certificates", description=REVOKE)
    revoke.add_argument("node", metavar="NODE", help="the node's id, its first 6 characters or more, or `self`")
    listed = actions.add_parser("list", help="list what this authority issued")
    shown = actions.add_parser("show", help="show this node's own stake", description=SHOW)
    for command in (listed, shown):
        command.add_argument("--json", action="store_true", help="print JSON; times in Unix seconds")


def _doctor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    doctor = commands.add_parser(
        "doctor", help="check configuration, keys, upstreams, ports; every finding says what to do", description=DOCTOR
    )
    doctor.add_argument(
        "--env-file", metavar="F", type=_said, help="settings file to read instead of .env in the working directory"
    )
    doctor.add_argument("--json", action="store_true", help="print a list of {check, status, what, remedy}")


def _where(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--url",
        metavar="U",
        type=_said,
        help="the node (default: HOST and PORT of the settings, else http://127.0.0.1:8080)",
    )
    command.add_argument(
        "--key",
        metavar="K",
        type=_said,
        help="an API key of the node (default: the first of API_KEYS, for a node of this machine)",
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
