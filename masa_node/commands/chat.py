"""`masa-node chat`: ask a model through a node. The answer alone goes to standard output, as it comes."""

import argparse
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from http.client import HTTPResponse
from typing import Any
from urllib.parse import unquote

from rich.console import Console
from rich.text import Text

from masa_node.commands.answers import units
from masa_node.commands.node_api import NodeApi, NodeError, read_object, with_node
from masa_node.commands.screen import printable

PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
"""By dialect, the preferred first."""
ANY_PATH = "/v1/api/chat"
"""For a model nobody lists: it goes to the chat path of whichever upstream takes it."""
ANSWER_TOKENS = 4096
"""The Anthropic dialect wants a limit."""
HOW_TO_END = "Ctrl-D or `exit` ends, and so does Ctrl-C once more"

Turn = dict[str, str]


def main(arguments: argparse.Namespace) -> int:
    return with_node(arguments, lambda node: _chat(node, arguments))


def _chat(node: NodeApi, arguments: argparse.Namespace) -> None:
    prompt = " ".join(arguments.prompt)
    looped = not prompt and sys.stdin.isatty()
    if not prompt and not looped:
        prompt = sys.stdin.buffer.read().decode(errors="replace")
    if not looped and not prompt.strip():
        raise NodeError("nothing to ask: write the prompt behind `masa-node chat`, or into its standard input", code=2)
    model, path = choose(read_object(node.get("/api/v1/llm/models")).get("models"), arguments.model)
    conversation = Conversation(node, model, path, Screen())
    if looped:
        _loop(conversation)
    else:
        conversation.ask(prompt)


def choose(listed: Any, wanted: str | None) -> tuple[str, str]:
    """The model and the path to ask it at: the one wanted, else the first that chats. Raises NodeError."""
    models = [model for model in listed or () if isinstance(model, dict) and isinstance(model.get("name"), str)]
    if wanted is not None:
        named = [model for model in models if model["name"] in (wanted, f"{wanted}:latest")]
        spoken = [dialect for model in named for dialect in model.get("dialects", ())]
        return wanted, _path(spoken)
    chatting = [model for model in models if "completion" in model.get("capabilities", ["completion"])]
    if not chatting:
        raise NodeError(
            "the node has no model to chat with; `masa-node status` says why, `masa-node doctor` what to do"
        )
    return chatting[0]["name"], _path(chatting[0].get("dialects", ()))


def _path(spoken: Iterable[str]) -> str:
    spoken = set(spoken)
    return next((path for dialect, path in PATHS.items() if dialect in spoken), ANY_PATH)


class Conversation:
    """What was said so far, with one model."""

    def __init__(self, node: NodeApi, model: str, path: str, screen: "Screen") -> None:
        self.node = node
        self.model = model
        self.path = path
        self.screen = screen
        self.turns: list[Turn] = []

    def ask(self, prompt: str) -> None:
        """Show the answer as it comes, and who gave it. What has come of a broken one is kept. Raises NodeError."""
        turns = [*self.turns, {"role": "user", "content": prompt.encode(errors="replace").decode()}]
        body: dict[str, object] = {"model": self.model, "messages": turns, "stream": True}
        if self.path == PATHS["anthropic"]:
            body["max_tokens"] = ANSWER_TOKENS
        asked_at, first, answer = time.monotonic(), None, ""
        try:
            with self.node.asked("POST", self.path, body, within=None) as response:
                for said in units(response):
                    self.screen.think(said.thinking)
                    self.screen.say(said.text)
                    answer += said.text
                    if first is None and said.text:
                        first = time.monotonic() - asked_at
        finally:
            self.screen.end_line()
            if answer:
                self.turns = [*turns, {"role": "assistant", "content": answer.encode(errors="replace").decode()}]
        self.screen.note(_signature(self.model, response, first))


def _signature(model: str, response: HTTPResponse, first: float | None) -> str:
    name = unquote(response.headers.get("X-Masa-Name") or "a node without a name")
    route = response.headers.get("X-Masa-Route") or "its route unknown"
    word = "no word in it" if first is None else f"first word after {first:.2f} s"
    asked = response.headers.get("X-Masa-Asked")
    return f"— {model} by {name} ({route}), {word}" + (f", {asked} asked" if asked else "")


def _loop(conversation: Conversation) -> None:
    """Until `exit`, Ctrl-D, or Ctrl-C twice at an empty prompt. A failed answer does not end it."""
    screen = conversation.screen
    screen.note(f"{conversation.model} at {conversation.node.url} — `exit` or Ctrl-D ends, Ctrl-C stops an answer")
    told = False
    while True:
        try:
            prompt = screen.prompt()
        except EOFError:
            screen.note("")
            return
        except KeyboardInterrupt:
            screen.note("")
            if told:
                return
            screen.note(HOW_TO_END)
            told = True
            continue
        told = False
        if prompt.strip() == "exit":
            return
        if prompt.strip():
            _ask_in_loop(conversation, prompt)


def _ask_in_loop(conversation: Conversation, prompt: str) -> None:
    try:
        conversation.ask(prompt)
    except KeyboardInterrupt:
        conversation.screen.note("— stopped")
    except NodeError as error:
        conversation.screen.note(f"masa-node: {error}")


class Screen:
    """Answers to standard output; what is said about them, and thinking, dim to standard error."""

    def __init__(self) -> None:
        with suppress(ImportError):
            import readline  # noqa: F401 - input() then edits lines and remembers them
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.open_line = False
        self.thought = False

    def prompt(self) -> str:
        if sys.stdout.isatty():
            return input("> ")
        print("> ", end="", file=sys.stderr, flush=True)
        return input()

    def say(self, text: str) -> None:
        if not text:
            return
        self._end_thinking()
        sys.stdout.write(printable(text) if sys.stdout.isatty() else text.encode(errors="replace").decode())
        sys.stdout.flush()
        self.open_line = not text.endswith("\n")

    def think(self, text: str) -> None:
        if text:
            self.console.print(Text(printable(text), style="dim"), end="")
            self.thought = True

    def end_line(self) -> None:
        self._end_thinking()
        if self.open_line:
            print(flush=True)
            self.open_line = False

    def note(self, text: str) -> None:
        self.console.print(Text(printable(text), style="dim"))

    def _end_thinking(self) -> None:
        if self.thought:
            self.console.print()
            self.thought = False
