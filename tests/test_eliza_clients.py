"""The official clients read all that the built-in eliza answers."""

import json
from typing import Any

import anthropic
import ollama
import openai
import pytest
from aiohttp import web

from peers.doors import BY_PATH
from peers.upstreams.doctor_script import INTRODUCTION
from peers.upstreams.eliza import Eliza
from peers.wire import Call

USER = {"role": "user", "content": "why is the sky blue?"}
LATER = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello."}, USER]
FIRST = f"{INTRODUCTION} What do you think yourself?"
SECOND = "Which answer would you like to hear?"


async def door(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    peek = json.loads(body)
    streams = peek.get("stream", BY_PATH[request.path].streams)
    reply = await Eliza(pace=0).open(Call("r1", BY_PATH[request.path], peek["model"], streams, body))
    out = web.StreamResponse(status=reply.status, headers=reply.headers)
    await out.prepare(request)
    async for chunk in reply.chunks:
        await out.write(chunk)
    return out


@pytest.fixture
async def url(aiohttp_server: Any) -> str:
    app = web.Application()
    app.router.add_post("/{any:.+}", door)
    return str((await aiohttp_server(app)).make_url(""))


@pytest.fixture
def openai_client(url: str) -> openai.AsyncOpenAI:
    """Made outside the loop, since what it imports on first use is read from the disk; the same below."""
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)


@pytest.fixture
def anthropic_client(url: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=0)


async def test_the_ollama_client(url: str) -> None:
    async with ollama.AsyncClient(host=url) as client:
        assert (await client.chat("eliza", [USER])).message.content == FIRST
        parts = [part async for part in await client.chat("eliza:latest", LATER, stream=True)]
        assert "".join(part.message.content for part in parts) == SECOND
        assert (parts[-1].done_reason, parts[-1].eval_count) == ("stop", 7)
        assert (await client.generate("eliza", USER["content"])).response == FIRST
        assert (await client.generate("eliza")).done_reason == "load"
        assert (await client.show("eliza")).modelinfo["general.architecture"] == "eliza"
        with pytest.raises(ollama.ResponseError, match="no embeddings"):
            await client.embed("eliza", "x")


async def test_the_openai_client(openai_client: openai.AsyncOpenAI) -> None:
    async with openai_client as client:
        chat = client.chat.completions
        assert (await chat.create(model="eliza", messages=[USER])).choices[0].message.content == FIRST
        usage = {"include_usage": True}
        parts = [p async for p in await chat.create(model="eliza", messages=LATER, stream=True, stream_options=usage)]
        assert "".join(part.choices[0].delta.content or "" for part in parts[:-1]) == SECOND
        assert parts[-1].usage.completion_tokens == 7
        assert (await client.completions.create(model="eliza", prompt=USER["content"])).choices[0].text == FIRST
        assert (await client.responses.create(model="eliza", input=USER["content"])).output_text == FIRST
        async with client.responses.stream(model="eliza", input=LATER) as stream:
            deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            assert "".join(deltas) == (await stream.get_final_response()).output_text == SECOND
        with pytest.raises(openai.BadRequestError, match="no embeddings"):
            await client.embeddings.create(model="eliza", input="x")


async def test_the_anthropic_client(anthropic_client: anthropic.AsyncAnthropic) -> None:
    asked = {"model": "eliza", "messages": LATER}
    async with anthropic_client as client:
        message = await client.messages.create(**asked, max_tokens=2)
        assert (message.content[0].text, message.stop_reason) == ("Which answer", "max_tokens")
        async with client.messages.stream(**asked, max_tokens=99) as stream:
            assert "".join([text async for text in stream.text_stream]) == SECOND
            assert (await stream.get_final_message()).usage.output_tokens == 7
        assert (await client.messages.count_tokens(**asked)).input_tokens == 7
        with pytest.raises(anthropic.NotFoundError, match="one model here"):
            await client.messages.create(model="claude", messages=LATER, max_tokens=9)
