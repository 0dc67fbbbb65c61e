"""A name that nobody here lists is not answered by another model, and only names that can be asked for are listed."""

from pathlib import Path

from tests.calls import ask, get
from tests.conftest import StartServer
from tests.nodes import running


async def test_of_several_servers_that_take_any_name_none_stands_in(model_servers: StartServer, tmp_path: Path) -> None:
    """A model is never swapped for another; the only server's own word is still asked for."""
    one = await model_servers(models=["qwen3-8b"], dialects=["openai"])
    two = await model_servers(models=["gemma-3"], dialects=["openai"])
    async with running(tmp_path, LLM_CHAT_URL=f"{one.url},{two.url}") as node:
        answered = await ask(node.url, "/v1/chat/completions", "gema-3")
    assert (answered.status, one.inferences, two.inferences) == (404, [], [])
    assert "gemma-3 (ollama2)" in answered.told["error"]["message"]


async def test_names_that_nobody_could_ask_for_are_not_listed(model_servers: StartServer, tmp_path: Path) -> None:
    odd = ["My Model (Q4).gguf", "C:\\models\\a.gguf", "a+b", "x" * 129, "\u202egnp", "a/../b", "good"]
    server = await model_servers(models=odd, dialects=["openai"])
    async with running(tmp_path, LLM_CHAT_URL=server.url) as node:
        assert [model["id"] for model in (await get(node.url, "/v1/models")).told["data"]] == ["good"]
