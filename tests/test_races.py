"""`masa-node races` as its users run it: on a fleet, while a race runs, and as they end."""

import asyncio
import json
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from masa_node.commands.races import race_text
from tests.calls import ask, get
from tests.commands import MASA_NODE, command, ended, terminal, unused_port
from tests.fakes import ModelServer
from tests.fleet import fleet
from tests.nodes import Running
from tests.processes import environment
from tests.scripts import NDJSON, Script
from tests.waiting import until

ANSWER = b'{"model":"llama3","message":{"role":"assistant","content":"blue"},"done":false}\n'
END = b'{"model":"llama3","message":{"role":"assistant","content":""},"done":true}\n'


@pytest.fixture
async def held() -> asyncio.Event:
    """Set: the slow model answers."""
    return asyncio.Event()


@pytest.fixture
async def three(tmp_path: Path, held: asyncio.Event) -> AsyncIterator[list[Running]]:
    """One without a model, one that answers, and one that does when `held` is set."""
    async with ModelServer() as quick, ModelServer() as slow:
        quick.script("/api/chat", Script(headers=NDJSON, chunks=[ANSWER, END]))
        slow.script("/api/chat", Script(headers=NDJSON, chunks=[held, ANSWER, END]))
        settings = {"LLM_CHAT_URL": quick.url}, {"LLM_CHAT_URL": slow.url}
        async with fleet(tmp_path, {"NODE_NAME": "asker"}, *settings) as nodes:
            yield nodes


@pytest.fixture
async def waiting(tmp_path: Path, held: asyncio.Event) -> AsyncIterator[list[Running]]:
    """One without a model, and one that answers when `held` is set."""
    async with ModelServer() as slow:
        slow.script("/api/chat", Script(headers=NDJSON, chunks=[held, ANSWER, END]))
        async with fleet(tmp_path, {"NODE_NAME": "asker"}, {"LLM_CHAT_URL": slow.url}) as nodes:
            yield nodes


async def test_nothing_yet_and_no_node(tmp_path: Path) -> None:
    async with fleet(tmp_path, {}) as (node,):
        done = await command(tmp_path, "races", "--url", node.url)
        as_json = await command(tmp_path, "races", "--url", node.url, "--json")
    assert done.code == as_json.code == 0
    assert done.out.startswith("no race yet")
    assert json.loads(as_json.out) == {"races": []}
    gone = await command(tmp_path, "races", "--follow", "--url", f"127.0.0.1:{unused_port()}")
    assert (gone.code, gone.out) == (1, "")
    assert "no node answers" in gone.err


async def test_who_was_asked_who_won_and_why_the_other_lost(three: list[Running], tmp_path: Path) -> None:
    asker, quick, slow = three
    answered = await ask(asker.url, "/api/chat", stream=True)
    assert answered.body == ANSWER + END
    done = await command(tmp_path, "races", "--url", asker.url)
    as_json = await command(tmp_path, "races", "--url", asker.url, "--json")
    first, *others = done.out.splitlines()
    assert f"llama3  won by {quick.node.who.shown} after " in first
    assert first.endswith(", 2 asked")
    told = {line.split()[0]: line for line in others}
    assert told.keys() == {quick.node.who.shown, slow.node.who.shown}
    assert "  won at " in told[quick.node.who.shown]
    assert told[slow.node.who.shown].rstrip().endswith("ms: another one answered first")
    assert all("  asked at " in line for line in others)
    assert json.loads(as_json.out) == (await get(asker.url, "/api/v1/races")).told
    assert json.loads(as_json.out)["races"][0]["id"] == answered.headers["X-Request-Id"]


async def test_one_that_runs_is_shown_as_running(waiting: list[Running], held: asyncio.Event, tmp_path: Path) -> None:
    asker, slow = waiting
    asking = asyncio.create_task(ask(asker.url, "/api/chat", stream=True))
    await until(lambda: len(asker.node.asking.races) == 1 and len(asker.node.asking.races[0].asked) == 1)
    done = await command(tmp_path, "races", "--url", asker.url)
    assert "llama3  is running, 1 asked so far" in done.out
    assert f"{slow.node.who.shown}  asked at " in done.out
    assert "is running (silent)" in done.out
    held.set()
    assert (await asking).status == 200


async def test_followed_each_is_shown_as_it_ends(waiting: list[Running], held: asyncio.Event, tmp_path: Path) -> None:
    """Those before it are not; one that ran when it began is."""
    asker, slow = waiting
    held.set()
    await ask(asker.url, "/api/chat", stream=True)
    held.clear()
    asking = asyncio.create_task(ask(asker.url, "/api/chat", stream=True))
    await until(lambda: len(asker.node.asking.races) == 2)
    async with terminal(tmp_path, "races", "--follow", "--url", asker.url) as shown:
        await shown.until("Ctrl-C leaves")
        held.set()
        await asking
        assert "won by" not in await shown.until(f"won by {slow.node.who.shown}")
        await shown.until("won at")
        await shown.interrupt()
        assert await ended(shown) == 0
        assert "won" not in shown.shown


@pytest.mark.slow
async def test_followed_as_json_it_is_one_object_a_line(three: list[Running], tmp_path: Path) -> None:
    asker = three[0]
    process = await asyncio.create_subprocess_exec(
        *(*MASA_NODE, "races", "--follow", "--json", "--url", asker.url),
        cwd=tmp_path, env=environment(tmp_path, {}), stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    assert process.stdout
    assert process.stderr
    async with asyncio.timeout(20):
        assert b"Ctrl-C" in await process.stderr.readline()
        ids, told = [], []
        for _ in range(2):
            ids.append((await ask(asker.url, "/api/chat", stream=True)).headers["X-Request-Id"])
            told.append(json.loads(await process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert [race["id"] for race in told] == ids
    assert all(race["outcome"] == "won" for race in told)
    assert (process.returncode, out, err) == (0, b"", b"")


ASKED = {"node": "n1", "name": "attic", "at_ms": 0, "times": 1, "outcome": "lost", "doing": "silent", "ended_ms": 400}
RACE = {"id": "r", "model": "llama3", "stream": True, "at": 0, "outcome": "won", "winner": "n1", "ms": 400}


def shown_as(race: dict[str, Any], *asked: dict[str, Any]) -> str:
    screen = Console(width=1000)
    with screen.capture() as captured:
        screen.print(race_text({**RACE, **race, "asked": [{**ASKED, **one} for one in asked]}))
    return captured.get()


@pytest.mark.parametrize(
    ("race", "asked", "words"),
    [
        ({}, {"outcome": "won"}, ["llama3  won by attic after 400 ms, 1 asked", "attic  asked at 0 ms  won at 400 ms"]),
        ({}, {}, ["lost at 400 ms: another one answered first"]),
        ({}, {"times": 3, "outcome": "busy", "why": "it has no free place"},
         ["asked at 0 ms, 3 times  busy at 400 ms: it has no free place"]),
        ({"outcome": "race_timeout", "ms": 30000}, {"outcome": "silent", "doing": "loading", "ended_ms": 30000},
         ["nobody answered: race_timeout after 30.0 s", "silent until the end (loading) at 30.0 s"]),
        ({"outcome": "left"}, {"outcome": "left"}, ["its caller left after 400 ms", "stopped at 400 ms: the"]),
        ({"outcome": "passed_on"}, {"outcome": "definitive"},
         ["refused by the model server of attic", "its model server refused the request itself at 400 ms"]),
        ({"outcome": "running", "winner": None}, {"outcome": "running", "doing": "queued", "ended_ms": None},
         ["is running, 1 asked so far", "is running (queued)"]),
        ({"winner": "n9"}, {}, ["won by n9"]),
        ({}, {"name": "\x1b[2Jevil", "why": "\x07", "outcome": "bad\x1b_answer"}, ["\ufffd[2Jevil", "bad\ufffd_"]),
    ],
)  # fmt: skip
def test_what_became_of_it_is_said_in_words(race: dict[str, Any], asked: dict[str, Any], words: list[str]) -> None:
    text = shown_as(race, asked)
    for fact in words:
        assert fact in text
    assert "\x1b" not in text
    assert "\x07" not in text


@pytest.mark.parametrize("odd", [{}, {"asked": None, "at": "x", "ms": None}, {"asked": [1, {}], "winner": 7}])
def test_what_an_other_version_says_is_shown_as_far_as_it_goes(odd: dict[str, Any]) -> None:
    screen = Console(width=200)
    with screen.capture() as captured:
        screen.print(race_text(odd))
    assert captured.get()
