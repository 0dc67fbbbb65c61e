"""Where a call goes among nodes that have models of their own: whose place is taken, who is asked, who never is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from peers.network.certificates import network_id
from tests.calls import ask
from tests.contest import plainly
from tests.fakes import Script, busy
from tests.fleet import QUIET, fleet
from tests.histories import History, Question, Voice
from tests.nodes import Running, running
from tests.waiting import until

ONE, BOTH = ("llama3:latest",), ("llama3:latest", "other:latest")


class Neighbours:
    """Nodes with the same model and one place each; the first is asked."""

    def __init__(self, nodes: list[Running], voices: list[Voice]) -> None:
        self.url = nodes[0].url
        self.voices = voices
        self.history = History({one.node.who.id: voice for one, voice in zip(nodes, voices, strict=True)})

    @property
    def sends(self) -> list[int]:
        return [len(voice.work) for voice in self.voices]

    async def together(self, count: int, asked: int, **more: object) -> list[Question]:
        """So many questions; none is answered before so many have reached a model server."""
        gate, before = asyncio.Event(), sum(self.sends)
        for voice in self.voices:
            voice.bend = lambda script: replace(script, before_head=[gate])
        asking = [asyncio.create_task(self.history.ask(self.url, **more)) for _ in range(count)]  # type: ignore[arg-type]
        await until(lambda: sum(self.sends) - before == asked)
        gate.set()
        return await asyncio.gather(*asking)

    def bend(self, script: Script) -> None:
        for voice in self.voices:
            voice.bend = lambda _: script


@asynccontextmanager
async def neighbours(
    folder: Path, number: int, models: tuple[str, ...] = ONE, **first: str
) -> AsyncIterator[Neighbours]:
    """`models`: of all but the first; `first`: settings of that one."""
    async with plainly(), AsyncExitStack() as stack:
        voices = [Voice("own"), *(Voice(f"peer{number}", models=models) for number in range(1, number))]
        for voice in voices:
            await stack.enter_async_context(voice)
        settings = [{"LLM_CHAT_URL": voice.url} for voice in voices]
        settings[0] |= first
        yield Neighbours(await stack.enter_async_context(fleet(folder, *settings)), voices)


def routes(questions: list[Question]) -> list[str]:
    assert [question.outcome for question in questions] == ["ok"] * len(questions)
    return sorted(question.headers["X-Masa-Route"] for question in questions)


async def test_two_machines_do_two_questions_at_once(tmp_path: Path) -> None:
    """Neither is answered before both are at work: together they take the time of one."""
    async with neighbours(tmp_path, 2) as two:
        assert routes(await two.together(2, 2)) == ["local:ollama", "peer"]
        assert two.sends == [1, 1]
        # All places are taken: the third one waits in the own server's queue.
        assert routes(await two.together(3, 3)) == ["local:ollama", "local:ollama", "peer"]
        for word in ("off", "missing"):
            narrowed = await two.together(2, 2, headers={"X-Masa-Ask": word})
            assert routes(narrowed) == ["local:ollama", "local:ollama"]
        assert (await two.history.ask(two.url, headers={"X-Masa-Ask": "of"})).status == 400
        await two.voices[0].stop()
        assert routes([await two.history.ask(two.url) for _ in range(2)]) == ["peer", "peer"]
        await two.history.check(most_sends=2)


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "leaves"), [("missing", True), ("off", False)])
async def test_no_header_widens_what_the_operator_allows(tmp_path: Path, setting: str, leaves: bool) -> None:
    async with neighbours(tmp_path, 2, BOTH, PEER_ASK=setting) as two:
        narrowed = await two.together(2, 2, headers={"X-Masa-Ask": "busy"})
        assert routes(narrowed) == ["local:ollama", "local:ollama"]
        for voice in two.voices:
            voice.bend = lambda script: script
        told = {}
        for word in ("busy", "missing", "off"):
            got = await two.history.ask(two.url, model="other", headers={"X-Masa-Ask": word})
            told[word] = got.outcome == "ok"
        assert told == {"busy": leaves, "missing": leaves, "off": False}
        assert two.sends[1] == 2 * leaves


@pytest.mark.slow
async def test_a_clique_whose_servers_are_all_full_passes_nothing_round(tmp_path: Path) -> None:
    """docs/promises.md B9: own server, each peer once, and the own server's last word."""
    async with neighbours(tmp_path, 4) as four:
        four.bend(busy(503, 2))
        got = await four.history.ask(four.url)
        assert (got.status, got.headers["X-Masa-Route"]) == (503, "local:ollama")
        assert four.sends == [2, 1, 1, 1]


@pytest.mark.slow
async def test_a_node_that_names_a_member_as_its_model_server_asks_it_once(tmp_path: Path) -> None:
    """docs/promises.md B9: it is a node, and so a peer and no upstream; one hop and no more."""
    async with plainly(), AsyncExitStack() as stack:
        voice = await stack.enter_async_context(Voice("ada"))
        folders = [tmp_path / "a", tmp_path / "b"]
        for folder in folders:
            await asyncio.to_thread(folder.mkdir)
        has, lacks = await stack.enter_async_context(fleet(folders[0], {"LLM_CHAT_URL": voice.url}, {}))
        (names,) = await stack.enter_async_context(fleet(folders[1], {"LLM_CHAT_URL": lacks.url}))
        history = History({has.node.who.id: voice})
        assert routes([await history.ask(lacks.url)]) == ["peer"]
        assert (await history.ask(names.url)).status in (404, 502, 503)
        assert len(voice.work) == 1


async def test_without_a_stake_of_its_own_a_node_asks_nobody_and_says_so(tmp_path: Path) -> None:
    authority = Ed25519PrivateKey.generate()
    quiet = {name: value for name, value in QUIET.items() if name != "NETWORK_SECRET"}
    async with running(tmp_path, NETWORK_ID=network_id(authority), **quiet) as node:
        await node.node.joined.settled()
        answered = await ask(node.url, "/api/chat", "llama3")
        assert (answered.status, answered.told["code"]) == (403, "not_staked")
        assert "masa-node stake issue" in answered.told["error"]
