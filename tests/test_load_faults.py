"""Model servers that die, hang, lie and flap while 200 callers stream: an answer is one server's, or an error."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import aiohttp
import pytest

from tests.fakes import DIE, HANG, RESET, Script
from tests.histories import History, Question, Voice, Work, begins
from tests.processes import RunningNode, running_node
from tests.scripts import busy
from tests.waiting import until

CALLERS = 200
SILENCE = 2
"""Seconds after which the node gives a model server up."""
SPARE_FILES = 8
LIE = b"<html><body>Welcome to the hotel's wireless network</body></html>"
GARBAGE = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"

Ill = Callable[[Script, Random], Script]


def somewhere(move: object) -> Ill:
    """It breaks in the middle."""

    def broken(script: Script, rng: Random) -> Script:
        at = rng.randrange(len(script.chunks))
        return replace(script, chunks=[*script.chunks[:at], move, *script.chunks[at:]])

    return broken


ILLS: dict[str, Ill] = {
    "is well": lambda script, rng: script,
    "is slow": lambda script, rng: replace(script, chunks=[part for one in script.chunks for part in (0.05, one)]),
    "hangs": lambda script, rng: replace(script, before_head=[HANG]),
    "hangs in the middle": somewhere(HANG),
    "dies at once": lambda script, rng: replace(script, before_head=[DIE]),
    "dies in the middle": somewhere(DIE),
    "resets in the middle": somewhere(RESET),
    "ends too early": lambda script, rng: replace(script, framing="length", length=100_000),
    "says what is not HTTP": lambda script, rng: replace(script, before_head=[GARBAGE, DIE]),
    "lies": lambda script, rng: replace(script, headers={"Content-Type": "text/html"}, chunks=[LIE]),
    "fails": lambda script, rng: replace(script, status=500, chunks=[b'{"error":"out of memory"}']),
    "is busy": lambda script, rng: busy(),
}


class Mortal(Voice):
    """With it dies its work."""

    def hang_up(self) -> None:
        super().hang_up()
        for work in self._under_way:
            work.ended = asyncio.get_running_loop().time()
        self._under_way.clear()


class OwnHistory(History):
    """Of one node's own model servers: whatever one of them said whole is an answer, an error too."""

    def _check_answer(self, question: Question, work: list[tuple[str, Work]]) -> None:
        whole = [one.answer for _, one in work if no_break(one)]
        match question.outcome:
            case "ok":
                assert question.answer in whole, f"nobody gave {question} of {work}"
            case "error":
                assert question.answer in whole or question.code, question
            case "cut":
                only_told = question.answer.startswith(b'{"error":')  # it broke off before its first byte
                begun = any(begins(question.answer, one.answer) for _, one in work)
                assert only_told or begun, f"nobody began {question}"


def no_break(work: Work) -> bool:
    moves = {DIE, RESET, HANG} & {*work.script.before_head, *work.script.chunks}
    return not moves and work.script.length is None


@pytest.mark.parametrize(
    "rounds", [pytest.param(3, marks=pytest.mark.slow), pytest.param(30, marks=pytest.mark.reliability)]
)
async def test_whatever_model_servers_do_no_answer_is_false_and_nothing_is_left(tmp_path: Path, rounds: int) -> None:
    """In the manner of Jepsen: all is written down, and checked when it is over."""
    rng = Random(rounds)
    async with Mortal("ada") as ada, Mortal("bob") as bob, Mortal("cyd") as cyd:
        voices: list[Voice] = [ada, bob, cyd]
        env = {"LLM_CHAT_URL": ",".join(voice.url for voice in voices), "LLM_TIMEOUT": str(SILENCE)}
        async with running_node(tmp_path, env) as node:
            history = OwnHistory({voice.name: voice for voice in voices})
            await until(lambda: all_known(node, len(voices)))
            assert (await history.ask(node.url)).outcome == "ok"
            files = node.open_files()
            for voice in voices:
                voice.bend = bent(rng)
            flapping = asyncio.create_task(flap(voices, rng))
            await asyncio.gather(*(caller(history, node.url, rounds) for _ in range(CALLERS)))
            flapping.cancel()
            await asyncio.wait((flapping,))
            outcomes = Counter(one.outcome for one in history.questions)
            assert outcomes.total() == CALLERS * rounds + 1
            assert min(outcomes["ok"], outcomes["cut"], outcomes["error"]) > 0, outcomes
            await history.check(most_sends=2 * len(voices))
            await until(lambda: at_rest(node), 1)
            for voice in voices:
                voice.hang_up()
            await until(lambda: node.open_files() <= files + SPARE_FILES, 2, node.open_files)
            await serves_again(history, node, voices)
            assert not node.events("fault")
            assert not node.events("step_failed")


def bent(rng: Random) -> Callable[[Script], Script]:
    """Half of the answers are well."""

    def bend(script: Script) -> Script:
        return script if rng.random() < 0.5 else ILLS[rng.choice([*ILLS])](script, rng)

    return bend


async def caller(history: History, url: str, rounds: int) -> None:
    for _ in range(rounds):
        await history.ask(url)


async def flap(voices: list[Voice], rng: Random) -> None:
    """One of them at a time is gone for a moment."""
    while True:
        voice = rng.choice(voices)
        await asyncio.sleep(rng.uniform(0.1, 0.5))
        await voice.stop()
        try:
            await asyncio.sleep(rng.uniform(0.1, 0.5))
        finally:
            await voice.start()


async def all_known(node: RunningNode, count: int) -> bool:
    async with aiohttp.ClientSession() as session, session.get(f"{node.url}/api/v1/node") as got:
        return sum(one.get("status") == "up" for one in (await got.json())["upstreams"]) == count


async def at_rest(node: RunningNode) -> bool:
    async with aiohttp.ClientSession() as session, session.get(f"{node.url}/metrics") as got:
        text = await got.text()
    return "masa_in_flight 0.0\n" in text and "masa_queued 0.0\n" in text


async def serves_again(history: History, node: RunningNode, voices: list[Voice]) -> None:
    for voice in voices:
        voice.bend = lambda script: script

    async def answered() -> bool:
        return (await history.ask(node.url)).outcome == "ok"

    await until(answered, 40)
