"""The built-in eliza: how each dialect writes it and what it refuses."""

import gzip
import json
import re
import zlib
from typing import Any

import ollama
import openai
import pytest

from peers.doors import BY_PATH
from peers.upstreams.doctor_script import INTRODUCTION
from peers.upstreams.eliza import MAX_BODY, Eliza
from peers.wire import Call, Reply

USER = {"role": "user", "content": "why is the sky blue?"}
LATER = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello."}, USER]
FIRST = f"{INTRODUCTION} What do you think yourself?"
SECOND = "Which answer would you like to hear?"
AT = "2023-11-14T22:13:20Z"
CHATS = ("/api/chat", "/v1/chat/completions", "/v1/messages")


def call(path: str, body: Any, **more: Any) -> Call:
    """`eliza` is asked on `path`; a body in bytes goes as it is."""
    door = BY_PATH[path]
    streams = body.get("stream", door.streams) if isinstance(body, dict) else door.streams
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Call(**({"id": "r1", "door": door, "model": "eliza", "stream": streams, "body": data} | more))


def eliza(**more: Any) -> Eliza:
    return Eliza(**({"now": lambda: 1700000000.0, "pace": 0} | more))


async def read(reply: Reply) -> bytes:
    return b"".join([chunk async for chunk in reply.chunks])


async def whole(path: str, body: Any, status: int = 200, **more: Any) -> Any:
    """The answer as JSON."""
    reply = await eliza().open(call(path, body, **more))
    assert (reply.status, reply.headers["content-type"]) == (status, "application/json")
    return json.loads(await read(reply))


async def events(path: str, body: dict[str, Any]) -> list[Any]:
    """The stream's events, as JSON where they are; each named event under its own type."""
    reply = await eliza().open(call(path, body | {"stream": True}))
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
    found = []
    for block in (await read(reply)).decode().removesuffix("\n\n").split("\n\n"):
        name, data = re.fullmatch(r"(?:event: (.+)\n)?data: (.+)", block).groups()
        found.append(data if data == "[DONE]" else json.loads(data))
        assert name is None or name == found[-1]["type"]
    return found


@pytest.mark.parametrize("path", CHATS)
async def test_it_introduces_itself_once(path: str) -> None:
    async def text(messages: list[dict[str, str]]) -> str:
        return json.dumps(await whole(path, {"messages": messages, "max_tokens": 99, "stream": False}))

    assert FIRST in await text([{"role": "system", "content": "be brief"}, USER])
    later = await text(LATER)
    assert SECOND in later
    assert INTRODUCTION not in later


@pytest.mark.parametrize("path", ["/api/chat", "/v1/api/chat", "/api/v1/chat"])
async def test_ollama_chat(path: str) -> None:
    head = {"model": "eliza", "created_at": AT}
    counts = {"load_duration": 0, "prompt_eval_count": 7, "prompt_eval_duration": 0, "eval_duration": 0}
    end = {"done": True, "total_duration": 0} | counts
    said = {"message": {"role": "assistant", "content": SECOND}}
    assert await whole(path, {"messages": LATER, "stream": False}) == head | said | end | {
        "done_reason": "stop",
        "eval_count": 7,
    }
    reply = await eliza().open(call(path, {"messages": LATER, "options": {"num_predict": 2}}))
    assert reply.headers == {"content-type": "application/x-ndjson"}
    parts = [{"message": {"role": "assistant", "content": text}} for text in ("Which", " answer", "")]
    assert [json.loads(line) for line in (await read(reply)).splitlines()] == [
        head | parts[0] | {"done": False},
        head | parts[1] | {"done": False},
        head | parts[2] | end | {"done_reason": "length", "eval_count": 2},
    ]


async def test_durations_are_nanoseconds_of_this_clock() -> None:
    clock = iter((10.0, 10.0, 12.5, 12.5))
    reply = await eliza(now=lambda: next(clock)).open(
        call("/api/generate", {"prompt": "hi", "options": {"num_predict": 1}})
    )
    last = json.loads((await read(reply)).splitlines()[-1])
    assert (last["response"], last["total_duration"], last["eval_duration"]) == ("", 2_500_000_000, 2_500_000_000)


@pytest.mark.parametrize(("path", "part"), [("/api/chat", "message"), ("/api/generate", "response")])
@pytest.mark.parametrize("body", [{}, {"messages": [], "prompt": ""}, {"messages": None, "stream": False}])
async def test_ollama_without_a_question_is_loaded(path: str, part: str, body: dict[str, Any]) -> None:
    loaded = await whole(path, body)
    assert (loaded["done"], loaded["done_reason"]) == (True, "load")
    assert loaded[part] in ("", {"role": "assistant", "content": ""})


async def test_openai_chat() -> None:
    head = {"id": "chatcmpl-r1", "created": 1700000000, "model": "eliza"}
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    body = {"messages": LATER, "max_completion_tokens": 2, "n": 3}
    message = {"role": "assistant", "content": "Which answer", "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}
    answered = head | {"object": "chat.completion", "choices": [choice], "usage": usage}
    assert await whole("/v1/chat/completions", body) == answered
    deltas = [{"role": "assistant", "content": ""}, {"content": "Which"}, {"content": " answer"}, {}]
    reasons = [None, None, None, "length"]
    head |= {"object": "chat.completion.chunk"}
    chunks = [
        head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}
        for delta, reason in zip(deltas, reasons, strict=True)
    ]
    counted = body | {"stream_options": {"include_usage": True}}
    assert await events("/v1/chat/completions", body) == [*chunks, "[DONE]"]
    assert await events("/v1/chat/completions", counted) == [*chunks, head | {"choices": [], "usage": usage}, "[DONE]"]


async def test_openai_completions() -> None:
    def choice(text: str, reason: str | None) -> dict[str, Any]:
        return head | {"choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": reason}]}

    head = {"id": "cmpl-r1", "object": "text_completion", "created": 1700000000, "model": "eliza"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    body = {"prompt": ["hello"], "max_tokens": 1}
    assert await whole("/v1/completions", body) == choice("I", "length") | {"usage": usage}
    assert await events("/v1/completions", body) == [choice("I", None), choice("", "length"), "[DONE]"]


async def test_openai_responses() -> None:
    asked = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
    stream = await events("/v1/responses", {"input": [asked], "instructions": "be brief", "max_output_tokens": 2})
    kinds = "created in_progress output_item.added content_part.added output_text.delta output_text.delta"
    kinds += " output_text.done content_part.done output_item.done incomplete"
    assert [event["type"] for event in stream] == [f"response.{kind}" for kind in kinds.split()]
    assert [event["sequence_number"] for event in stream] == list(range(10))
    begun, ended = stream[0]["response"], stream[-1]["response"]
    assert (begun["id"], begun["status"], begun["output"], begun["usage"]) == ("resp_r1", "in_progress", [], None)
    part = {"type": "output_text", "text": "I am", "annotations": []}
    item = {"id": "msg_r1", "type": "message", "status": "incomplete", "role": "assistant", "content": [part]}
    place = {"item_id": "msg_r1", "output_index": 0, "content_index": 0}
    assert [event["delta"] for event in stream[4:6]] == ["I", " am"]
    assert all(place.items() <= event.items() for event in stream[3:8])
    assert (stream[6]["text"], stream[7]["part"], stream[8]["item"]) == ("I am", part, item)
    assert (ended["status"], ended["output"]) == ("incomplete", [item])
    assert ended["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [ended["usage"][key] for key in ("input_tokens", "output_tokens", "total_tokens")] == [3, 2, 5]
    full = await whole("/v1/responses", {"input": USER["content"]})
    assert (full["status"], full["output"][0]["content"][0]["text"]) == ("completed", FIRST)


async def test_anthropic_messages() -> None:
    head = {"id": "msg_r1", "type": "message", "role": "assistant", "model": "eliza"}
    stop = {"stop_reason": "max_tokens", "stop_sequence": None}
    body = {"system": [{"type": "text", "text": "be brief"}], "messages": LATER, "max_tokens": 2}
    content = {"content": [{"type": "text", "text": "Which answer"}], "usage": {"input_tokens": 9, "output_tokens": 2}}
    assert await whole("/v1/messages", body) == head | content | stop
    begun = {
        "content": [],
        "usage": {"input_tokens": 9, "output_tokens": 0},
        "stop_reason": None,
        "stop_sequence": None,
    }
    deltas = [{"type": "text_delta", "text": text} for text in ("Which", " answer")]
    assert await events("/v1/messages", body) == [
        {"type": "message_start", "message": head | begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    assert (await whole("/v1/messages", body | {"max_tokens": 99}))["stop_reason"] == "end_turn"
    assert await whole("/v1/messages/count_tokens", {"messages": LATER}) == {"input_tokens": 7}


async def test_words_are_counted_across_slices() -> None:
    body = {"messages": [{"role": "user", "content": "ab " * 50_000}], "system": "x"}
    assert await whole("/v1/messages/count_tokens", body) == {"input_tokens": 50_001}


def refused(path: str, text: str) -> Any:
    if path.startswith("/v1/messages"):
        return {"type": "error", "error": {"type": "invalid_request_error", "message": text}, "request_id": "r1"}
    error = {"message": text, "type": "invalid_request_error", "param": None, "code": "invalid_body"}
    return {"error": text if "/api/" in path else error}


@pytest.mark.parametrize("path", sorted({path for path in BY_PATH if "embed" not in path and path != "/api/show"}))
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"messages":"SECRET","prompt":{},"input":1}',
        b'{"messages":["SECRET"],"prompt":1,"input":null}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"messages":[{"role":"user","content":"\xff"}]}',
    ],
)
async def test_a_broken_body_is_refused_in_its_dialect(path: str, body: bytes) -> None:
    error = await whole(path, body, 400)
    text = re.search('the body cannot be read: eliza needs a JSON object with `.+`[^"]*', json.dumps(error))[0]
    assert error == refused(path, text)
    assert "SECRET" not in text


@pytest.mark.parametrize(
    ("path", "body"),
    [(path, {"messages": messages, "max_tokens": 9}) for path in CHATS[1:] for messages in (None, [])]
    + [("/v1/messages", {"messages": LATER, "max_tokens": most}) for most in (None, 0)]
    + [("/v1/responses", {"messages": LATER}), ("/v1/responses", {"input": []}), ("/v1/completions", {})],
)
async def test_what_a_path_needs_must_be_there(path: str, body: dict[str, Any]) -> None:
    assert "needs a JSON object with" in json.dumps(await whole(path, body, 400))


@pytest.mark.parametrize("path", [path for path in BY_PATH if "embed" in path])
async def test_it_has_no_embeddings(path: str) -> None:
    text = "eliza has no embeddings: it is a pattern program, no language model"
    assert await whole(path, {"input": "x"}, 400) == refused(path, text)


async def test_it_answers_to_its_own_name_alone() -> None:
    for path in CHATS:
        body = {"messages": LATER, "max_tokens": 9, "stream": False}
        assert "eliza" in json.dumps(await whole(path, body, 404, model="llama3"))
        tagged = 200 if path == "/api/chat" else 404
        assert "eliza" in json.dumps(await whole(path, body, tagged, model="eliza:latest"))


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("Deflate", zlib.compress)])
async def test_packed_bodies(encoding: str, pack: Any) -> None:
    async def ask(body: bytes, status: int) -> Any:
        return await whole("/api/chat", body, status, headers={"content-encoding": encoding}, stream=False)

    packed = pack(json.dumps({"messages": LATER}).encode())
    assert (await ask(packed, 200))["message"]["content"] == SECOND
    assert (await ask(packed[:-9], 400)).keys() == (await ask(b"no", 400)).keys() == {"error"}
    assert (await ask(pack(b" " * (MAX_BODY + 1)), 413)).keys() == {"error"}
    assert (await whole("/api/chat", packed, 415, headers={"content-encoding": "zstd"})).keys() == {"error"}


async def test_a_stream_is_paced_between_its_words_and_stops_when_closed() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    reply = await eliza(sleep=sleep, pace=0.5).open(call("/v1/chat/completions", {"messages": LATER, "stream": True}))
    for _ in range(4):
        await anext(reply.chunks)
    await reply.chunks.aclose()
    assert [chunk async for chunk in reply.chunks] == []
    assert pauses == [0.5, 0.5]


async def test_how_it_is_listed() -> None:
    model, shown = Eliza.model, await whole("/api/show", {"model": "eliza"})
    assert (model.name, model.context, model.loaded) == ("eliza", shown["model_info"]["eliza.context_length"], True)
    tags = ollama.ListResponse(models=[model.entries["tags"]]).models[0]
    ps = ollama.ProcessResponse(models=[model.entries["ps"]]).models[0]
    assert re.fullmatch("[0-9a-f]{64}", model.digest)
    assert (tags.model, tags.digest, ps.name, ps.digest) == ("eliza", model.digest) * 2
    listed = openai.types.Model.model_validate(model.entries["models"], strict=True)
    assert (listed.id, listed.object) == ("eliza", "model")
    assert ollama.ShowResponse(**shown).details == tags.details
