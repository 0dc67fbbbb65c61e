"""`chat`: as its users run it, on a node in a process of its own."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from masa_node.commands.answers import Said, read_unit
from masa_node.commands.chat import ANY_PATH, choose
from masa_node.commands.node_api import NodeError
from tests.commands import PATIENCE, command, ended, terminal
from tests.fakes import DIE, HANG, NDJSON, SSE, ModelServer, Script, answer
from tests.processes import RunningNode, running_node

BYE = Script(headers=SSE, chunks=[b'data: {"choices":[{"delta":{"content":"bye"},"finish_reason":"stop"}]}\n\n'])


def line(text: str, *, thinking: str = "", done: bool = False) -> bytes:
    """A unit of Ollama's stream."""
    message = {"role": "assistant", "content": text} | ({"thinking": thinking} if thinking else {})
    return json.dumps({"model": "llama3:latest", "message": message, "done": done}).encode() + b"\n"


@pytest.fixture
async def node(model_server: ModelServer, tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path, {"LLM_CHAT_URL": model_server.url, "NODE_NAME": "attic"}) as node:
        yield node


@pytest.mark.parametrize(
    ("dialect", "path"), [("ollama", "/api/chat"), ("openai", "/v1/chat/completions"), ("anthropic", "/v1/messages")]
)
async def test_chat_asks_in_a_dialect_that_the_model_is_served_in(dialect: str, path: str, tmp_path: Path) -> None:
    async with ModelServer(dialects=[dialect, "openai"]) as server:
        provider = {"PROVIDERS": "anthropic", "ANTHROPIC_API_KEY": "its-key", "LLM_ANTHROPIC_URL": server.url}
        env = provider if dialect == "anthropic" else {"LLM_CHAT_URL": server.url}
        async with running_node(tmp_path, {**env, "NODE_NAME": "attic"}) as node:
            done = await command(tmp_path, "chat", "--url", node.url, "why is", "the sky blue?")
    assert (done.code, done.out) == (0, "Hello\n")
    assert re.search(r"llama3:latest by attic-\w{6} \(local:\w+\), first word after \d+\.\d\d s\n", done.err)
    (seen,) = server.inferences
    assert seen.path == path
    assert seen.asked["stream"] is True
    assert seen.asked["messages"] == [{"role": "user", "content": "why is the sky blue?"}]


async def test_standard_input_is_the_prompt(node: RunningNode, model_server: ModelServer, tmp_path: Path) -> None:
    given = "first line\nsecond ü line\n"
    done = await command(tmp_path, "chat", "--url", node.url, given=given.encode())
    assert (done.code, done.out) == (0, "Hello\n")
    assert model_server.inferences[0].asked["messages"] == [{"role": "user", "content": given}]
    nothing = await command(tmp_path, "chat", "--url", node.url, given=b" \n")
    assert nothing.code == 2
    assert "nothing to ask" in nothing.err


async def test_thinking_and_who_answered_stay_out_of_the_answer(
    node: RunningNode, model_server: ModelServer, tmp_path: Path
) -> None:
    chunks = [line("", thinking="hm, "), line("", thinking="so"), line("blue\x1b[31m"), line(".", done=True)]
    model_server.script("/api/chat", Script(chunks=chunks))
    done = await command(tmp_path, "chat", "--url", node.url, "why?")
    assert (done.code, done.out) == (0, "blue\x1b[31m.\n")
    assert done.err.startswith("hm, so\n— llama3:latest by attic-")


async def test_the_nodes_own_error_is_shown(node: RunningNode, tmp_path: Path) -> None:
    done = await command(tmp_path, "chat", "--url", node.url, "--model", "nope", "hi")
    assert (done.code, done.out) == (1, "")
    assert done.err == "masa-node: model 'nope' not found\n"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (Script(chunks=[line("Hel"), DIE]), "the answer broke off: ollama broke off its answer"),
        (Script(chunks=[line("Hel")]), "without its end mark"),
        (Script(chunks=[line("Hel"), b'{"error":"out of memory"}\n']), "out of memory"),
        (Script(chunks=[line("Hel")], headers=NDJSON, framing="length", length=900), "cut off"),
    ],
    ids=["dies", "stops", "tells an error", "falls short"],
)  # fmt: skip
async def test_a_cut_answer_is_told(
    script: Script, said: str, node: RunningNode, model_server: ModelServer, tmp_path: Path
) -> None:
    model_server.script("/api/chat", script)
    done = await command(tmp_path, "chat", "--url", node.url, "hi")
    assert (done.code, done.out) == (1, "Hel\n")
    assert said in done.err
    assert "first word" not in done.err


async def test_how_many_peers_were_asked_is_told(tmp_path: Path) -> None:
    """A fake node: ours has no peers yet."""
    headers = {"X-Masa-Node": "abc", "X-Masa-Name": "caf%C3%A9-abc", "X-Masa-Route": "peer", "X-Masa-Asked": "3"}
    async with ModelServer(extra_headers=headers, models=["m"]) as server:
        listed = {"models": [{"name": "e", "capabilities": ["embedding"]}, {"name": "m", "dialects": ["openai"]}]}
        server.script("/api/v1/llm/models", answer(listed))
        server.next(BYE)
        done = await command(tmp_path, "chat", "--url", server.url, "hi")
    assert (done.code, done.out) == (0, "bye\n")
    assert re.fullmatch(r"— m by café-abc \(peer\), first word after \d+\.\d\d s, 3 asked\n", done.err)
    assert server.inferences[0].asked["model"] == "m"


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (None, ("chat", "/v1/messages")),
        ("llama3", ("llama3", "/api/chat")),
        ("worker", ("worker", ANY_PATH)),
        ("@cf/meta/unlisted", ("@cf/meta/unlisted", ANY_PATH)),
    ],
)
def test_a_model_and_its_path_are_chosen_by_what_is_listed(wanted: str | None, chosen: tuple[str, str]) -> None:
    listed = [
        {"name": "vectors", "dialects": ["ollama"], "capabilities": ["embedding"]},
        {"name": "chat", "dialects": ["anthropic"], "capabilities": ["completion", "tools"]},
        {"name": "llama3:latest", "dialects": ["openai", "ollama"]},
        {"name": "worker", "dialects": []},
    ]
    assert choose(listed, wanted) == chosen


def test_without_a_model_there_is_nothing_to_choose() -> None:
    with pytest.raises(NodeError, match="no model to chat with"):
        choose([], None)


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        (b'{"message":{"content":"a","thinking":"b"},"done":false}', Said("a", "b")),
        (b'{"message":{"content":""},"done":true,"done_reason":"stop"}', Said(end=True)),
        (b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}', Said("a")),
        (b'data: {"choices":[{"delta":{"reasoning_content":"b"}}]}\r', Said("", "b")),
        (b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}', Said(end=True)),
        (b'data: {"choices":[],"usage":{}}', Said()),
        (b"data: [DONE]", Said(end=True)),
        (b'{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}', Said("a", end=True)),
        (b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}', Said("a")),
        (b'data: {"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"b"}}', Said("", "b")),
        (b'data: {"type":"message_stop"}', Said(end=True)),
        (b'{"type":"message","content":[{"thinking":"b"},{"type":"text","text":"a"}]}', Said("a", "b", True)),
        (b'data: {"response":"a","p":"x"}', Said("a")),
        (b'{"result":{"response":"a"},"success":true}', Said("a")),
        (b"event: message_stop", Said()), (b": keep-alive", Said()), (b"", Said()), (b"[1]", Said()),
    ],
)  # fmt: skip
def test_a_unit_of_every_dialect_is_read(unit: bytes, said: Said) -> None:
    assert read_unit(unit) == said


async def test_the_prompt_loop_remembers_and_ctrl_c_stops_only_the_answer(
    node: RunningNode, model_server: ModelServer, tmp_path: Path
) -> None:
    async with terminal(tmp_path, "chat", "--url", node.url) as shown:
        await shown.until("> ")
        shown.type("one\n")
        assert "Hello" in await shown.until("first word after")
        await shown.until("> ")

        model_server.next(Script(chunks=[line("Wait"), HANG]))
        shown.type("two\n")
        await shown.until("Wait")
        await shown.interrupt()
        await shown.until("stopped")
        async with asyncio.timeout(PATIENCE):
            await model_server.inferences[1].abandoned.wait()
        await shown.until("> ")

        model_server.next(Script(before_head=[HANG]))
        shown.type("three\n")
        silent = await model_server.asked(3)
        await shown.interrupt()
        await shown.until("stopped")
        async with asyncio.timeout(PATIENCE):
            await silent.abandoned.wait()
        await shown.until("> ")

        shown.type("four\n")
        await shown.until("first word after")
        await shown.until("> ")
        shown.type("exit\n")
        assert await ended(shown) == 0
    said = [(turn["role"], turn["content"]) for turn in model_server.inferences[3].asked["messages"]]
    answered = [("user", "one"), ("assistant", "Hello"), ("user", "two"), ("assistant", "Wait")]
    assert said == [*answered, ("user", "four")]


async def test_the_prompt_loop_goes_on_after_an_error_and_ends_by_ctrl_d(
    node: RunningNode, model_server: ModelServer, tmp_path: Path
) -> None:
    async with terminal(tmp_path, "chat", "--url", node.url) as shown:
        await shown.until("> ")
        model_server.next(answer({"error": "out of memory"}, 500))
        shown.type("one\n")
        await shown.until("masa-node: out of memory")
        await shown.until("> ")
        model_server.next(Script(chunks=[line("red\x1b[31m"), line("", done=True)]))
        shown.type("two\n")
        steered = await shown.until("first word after")
        assert "red\N{REPLACEMENT CHARACTER}[31m" in steered
        await shown.until("> ")
        shown.type("\x04")
        assert await ended(shown) == 0
    assert [turn["content"] for turn in model_server.inferences[1].asked["messages"]] == ["two"]


async def test_ctrl_c_at_the_empty_prompt_tells_how_to_end_and_then_ends(node: RunningNode, tmp_path: Path) -> None:
    async with terminal(tmp_path, "chat", "--url", node.url) as shown:
        await shown.until("> ")
        await shown.interrupt()
        assert "Traceback" not in await shown.until("Ctrl-D or `exit` ends")
        await shown.until("> ")
        await shown.interrupt()
        assert await ended(shown) == 0


async def test_ctrl_c_ends_a_single_question_and_the_model_stops(
    node: RunningNode, model_server: ModelServer, tmp_path: Path
) -> None:
    model_server.script("/api/chat", Script(chunks=[line("Wait"), HANG]))
    async with terminal(tmp_path, "chat", "--url", node.url, "hi") as shown:
        await shown.until("Wait")
        await shown.interrupt()
        assert await ended(shown) == 130
        async with asyncio.timeout(PATIENCE):
            await model_server.inferences[0].abandoned.wait()
    assert "Traceback" not in shown.shown
