"""Meaning: from which unit on a peer's answer counts, in each dialect, whole or streamed."""

import pytest

from peers.doors import DOORS
from peers.meaning import WHOLE
from tests.answers import (
    CREATED,
    DONE,
    JSON,
    MESSAGE,
    MISSION,
    MODEL,
    NDJSON,
    OPEN,
    ROLE,
    SSE,
    START,
    STREAMING,
    block,
    delta,
    event,
    line,
    meaning,
    recorded,
    streamed,
    whole,
)


class TestUsualAnswers:
    @pytest.mark.parametrize("path", STREAMING)
    def test_a_stream_counts_from_its_first_word(self, path):
        kind, chunks = recorded(path, True)
        judge = meaning(path, kind)
        first = next(at for at, chunk in enumerate(chunks) if b"Hel" in chunk)
        assert [judge.feed(chunk) for chunk in chunks[: first + 1]] == [None] * first + ["meaningful"]

    @pytest.mark.parametrize("path", STREAMING)
    def test_a_stream_without_a_word_counts_from_its_end(self, path):
        kind, chunks = recorded(path, True, ())
        judge = meaning(path, kind)
        said = [judge.feed(chunk) for chunk in chunks]
        assert said == [None] * (len(chunks) - 1) + ["meaningful"]

    @pytest.mark.parametrize("door", [door for door in DOORS if door.dialect != "any"], ids=lambda door: door.path)
    def test_an_answer_in_one_piece_counts_when_it_is_whole(self, door):
        kind, chunks = recorded(door.path, False)
        judge = meaning(door.path, kind, stream=False)
        assert [judge.feed(chunk) for chunk in chunks] == [None]
        assert judge.finish() == "meaningful"
        assert judge.ended()

    @pytest.mark.parametrize("path", ["/api/v1/chat", MISSION, "/api/v1/chat/cf"])
    @pytest.mark.parametrize("spoken", STREAMING)
    @pytest.mark.parametrize("stream", [True, False])
    def test_the_missions_doors_take_every_dialect(self, path, spoken, stream):
        kind, chunks = recorded(spoken, stream)
        judge = meaning(path, kind, stream)
        for chunk in chunks:
            judge.feed(chunk)
        assert judge.finish() == "meaningful"
        assert judge.ended()


def item(kind: str, **parts: str) -> dict[str, object]:
    return {"type": kind} | {name: [{"type": "some_text", "text": text}] for name, text in parts.items()}


class TestFirstUnits:
    @pytest.mark.parametrize(
        ("path", "unit"),
        [
            ("/api/chat", line(message={"content": " "}, done=False)),
            ("/api/chat", line(message={"content": "", "thinking": "Hm"}, done=False)),
            ("/api/chat", line(message={"content": "", "tool_calls": [{"function": {"name": "f"}}]}, done=False)),
            ("/api/chat", line(message=MESSAGE, done=True)),
            ("/api/chat", line(message=MESSAGE, done=True, done_reason="load")),
            ("/api/generate", line(response="", done=True, done_reason="unload")),
            ("/api/generate", line(response="", thinking="Hm", done=False)),
            ("/v1/chat/completions", delta(content="a")),
            ("/v1/chat/completions", delta(content='{"error":1}')),
            ("/v1/chat/completions", delta(reasoning_content="Hm")),
            ("/v1/chat/completions", delta(reasoning="Hm", content=None)),
            ("/v1/chat/completions", delta(refusal="no")),
            ("/v1/chat/completions", delta(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": ""}}])),
            ("/v1/chat/completions", delta(content=None) + DONE),
            ("/v1/chat/completions", b'data: {"choices":[{"delta":{"content":"\\ud83d"},"logprobs":[NaN]}]}\n\n'),
            ("/v1/completions", event({"choices": [{"text": "a"}]})),
            ("/v1/responses", event({"type": "response.reasoning_summary_text.delta", "delta": "Hm"})),
            ("/v1/responses", event({"type": "response.refusal.delta", "delta": "no"})),
            ("/v1/responses", event({"type": "response.function_call_arguments.delta", "delta": "{"})),
            ("/v1/responses", event({"type": "response.output_item.added", "item": {"type": "function_call"}})),
            ("/v1/responses", event({"type": "response.content_part.done", "part": {"type": "x", "text": "a"}})),
            ("/v1/responses", event({"type": "response.output_item.done", "item": item("message", content="a")})),
            ("/v1/responses", event({"type": "response.output_item.done", "item": item("reasoning", summary="a")})),
            ("/v1/responses", event({"type": "response.incomplete", "response": {"status": "incomplete"}})),
            ("/v1/messages", block("content_block_delta", delta={"type": "thinking_delta", "thinking": "Hm"})),
            ("/v1/messages", block("content_block_delta", delta={"type": "input_json_delta", "partial_json": "{"})),
            ("/v1/messages", block("content_block_start", content_block={"type": "tool_use", "name": "f"})),
            ("/v1/messages", START + block("message_stop")),
            (MISSION, event({"response": "Hel", "p": "abcd"})),
            (MISSION, event({"response": "", "choices": [{"delta": {"content": "Hi"}}]})),
            (MISSION, event({"response": None, "tool_calls": [{"name": "f", "arguments": {}}]})),
        ],
    )
    def test_counts(self, path, unit):
        assert streamed(path, unit) == "meaningful"

    @pytest.mark.parametrize(
        ("path", "unit"),
        [
            ("/api/chat", OPEN),
            ("/api/chat", b"\n\r\n  \n"),
            ("/api/chat", line(response="of another path", done=False)),
            ("/api/generate", line(response="", done=False)),
            ("/api/generate", line(message={"content": "of another path"}, done=False)),
            ("/v1/chat/completions", ROLE),
            ("/v1/chat/completions", b": keep-alive\n\n: OPENROUTER PROCESSING\r\n\r\n"),
            ("/v1/chat/completions", b"data:\n\ndata\n\nid: 7\nretry: 10\n\nevent: ping\ndata: now\n\n"),
            ("/v1/chat/completions", event({"choices": [], "prompt_filter_results": [{}]})),
            ("/v1/chat/completions", event({"choices": [{"delta": {}, "finish_reason": "stop"}]})),
            ("/v1/chat/completions", b'data: {"choices":[{"delta":{"content":"unfinished"}}]}\n'),
            ("/v1/chat/completions", event({"choices": [{"delta": {"content": [], "tool_calls": [None]}}, 7]})),
            ("/v1/chat/completions", START + block("content_block_delta", delta={"text": "of another dialect"})),
            ("/v1/responses", CREATED + event({"type": "response.in_progress"}) + event({"type": "response.queued"})),
            ("/v1/responses", event({"type": "response.output_item.added", "item": {"type": "message"}})),
            ("/v1/responses", event({"type": "response.output_item.added", "item": {"type": "reasoning"}})),
            ("/v1/responses", event({"type": "response.content_part.added", "part": {"type": "x", "text": ""}})),
            ("/v1/responses", event({"type": "response.output_text.delta", "delta": ""})),
            ("/v1/responses", event({"type": "response.output_item.done", "item": item("message", content="")})),
            ("/v1/responses", event({"type": "response.completed"})),
            ("/v1/messages", START + event({"type": "ping"}, "ping")),
            ("/v1/messages", block("content_block_start", content_block={"type": "text", "text": ""})),
            ("/v1/messages", block("content_block_delta", delta={"type": "input_json_delta", "partial_json": ""})),
            ("/v1/messages", block("a_new_kind", delta={"text": "unknown"})),
            (MISSION, event({"response": "", "usage": {"total_tokens": 3}})),
        ],
    )
    def test_does_not_count(self, path, unit):
        judge = meaning(path, NDJSON if path.startswith("/api") else SSE)
        assert judge.feed(unit) is None
        assert judge.finish() == "empty"

    def test_the_last_line_of_json_needs_no_end(self):
        judge = meaning("/api/chat", NDJSON)
        assert judge.feed(b"\xef\xbb\xbf" + line(message={"content": "a"}, done=True)[:-1]) is None
        assert judge.finish() == "meaningful"
        assert judge.ended()


class TestWhole:
    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/api/chat", {"message": MESSAGE, "done": True, "done_reason": "load"}),
            ("/api/embed", {"model": "LLAMA3:latest", "embeddings": [[0.0]]}),
            ("/api/embeddings", {"embedding": [0, 0]}),
            ("/api/show", {"details": {"family": "llama"}}),
            ("/v1/chat/completions", {"choices": [{"message": {"content": None, "tool_calls": [{"id": "1"}]}}]}),
            ("/v1/chat/completions", {"choices": [{"message": {"content": ""}, "finish_reason": "length"}]}),
            ("/v1/embeddings", {"data": [{"embedding": "AAAA"}]}),
            ("/v1/responses", {"error": None, "status": "completed", "output": []}),
            ("/v1/messages", {"type": "message", "content": [], "stop_reason": "end_turn"}),
            ("/v1/messages", b"\n\n \n\xef\xbb\xbf" + b'{"content":[{"type":"text","text":"\\ud83d"}]}'),
            ("/v1/messages/count_tokens", {"input_tokens": 0}),
            (MISSION, {"result": {"response": "Hi"}, "success": True, "errors": [], "messages": []}),
            (MISSION, {"response": "Hi"}),
        ],
    )
    def test_counts(self, path, body):
        assert whole(path, body) == "meaningful"

    @pytest.mark.parametrize(
        ("path", "body", "why"),
        [
            ("/api/chat", b"", "empty"),
            ("/api/chat", {"done": True}, "empty"),
            ("/api/chat", {"message": MESSAGE, "done": False}, "empty"),
            ("/api/chat", {"response": "of another path", "done": True}, "empty"),
            ("/api/chat", {"model": "qwen3", "message": {"content": "Hi"}, "done": True}, "wrong_model"),
            ("/api/embed", {"model": MODEL, "embeddings": []}, "empty"),
            ("/api/show", {"license": "MIT", "details": {}}, "empty"),
            ("/v1/chat/completions", {"choices": []}, "empty"),
            ("/v1/chat/completions", {"choices": [{"message": {"role": "assistant"}}]}, "empty"),
            ("/v1/chat/completions", {"choices": [{"message": {"content": "a"}}], "error": {"code": 1}}, "error"),
            ("/v1/embeddings", {"data": []}, "empty"),
            ("/v1/responses", {"status": "failed", "output": []}, "error"),
            ("/v1/responses", {"status": "in_progress", "output": []}, "empty"),
            ("/v1/messages", {"type": "error", "message": "no"}, "error"),
            ("/v1/messages", {"content": []}, "empty"),
            ("/v1/messages/count_tokens", {"input_tokens": True}, "empty"),
            (MISSION, {"result": None, "success": False, "errors": []}, "error"),
            (MISSION, {"result": None, "success": True, "errors": []}, "empty"),
            (MISSION, {"result": {"response": "Hi"}, "errors": [{"code": 5007}]}, "error"),
            (MISSION, {"model": "qwen3", "message": {"content": "Hi"}, "done": True}, "wrong_model"),
            (MISSION, {"status": "ok"}, "empty"),
        ],
    )
    def test_does_not_count(self, path, body, why):
        assert whole(path, body) == why

    def test_a_longer_one_counts_by_the_look_of_its_begin(self):
        answer = b'{"data":[[' + b"0.1," * (WHOLE // 4)
        judge = meaning("/v1/embeddings", JSON, stream=False)
        assert judge.feed(answer[:WHOLE]) is None
        assert judge.feed(answer[WHOLE : WHOLE + 1]) == "meaningful"
        assert judge.finish() == "meaningful"
        assert whole("/v1/embeddings", b'{"x":"\\"data\\"' + b"x" * WHOLE + b'","data":[]}') == "too_long"


class TestHeads:
    @pytest.mark.parametrize("status", [101, 199, 300, 304, 400, 404, 429, 500, 503])
    def test_a_status_other_than_2xx(self, status):
        assert meaning("/api/chat", NDJSON, status=status).verdict == "not_ok"

    def test_an_encoding(self):
        assert meaning("/api/chat", NDJSON, **{"content-encoding": "gzip"}).verdict == "encoded"
        assert meaning("/api/chat", NDJSON, **{"content-encoding": "Identity"}).verdict is None

    @pytest.mark.parametrize(
        ("path", "kind", "stream", "good"),
        [
            ("/api/chat", "Application/X-NDJSON; charset=utf-8", True, True),
            ("/api/chat", JSON, True, True),
            ("/api/chat", JSON, False, True),
            ("/api/chat", NDJSON, False, False),
            ("/api/chat", SSE, True, False),
            ("/v1/messages", SSE, True, True),
            ("/v1/messages", SSE, False, False),
            ("/v1/messages", NDJSON, True, False),
            ("/api/embed", NDJSON, True, False),
            ("/v1/messages/count_tokens", SSE, True, False),
            (MISSION, NDJSON, False, True),
            (MISSION, SSE, True, True),
            (MISSION, "text/html", True, False),
            ("/api/chat", "text/plain", True, False),
            ("/api/chat", "", True, False),
        ],
    )
    def test_the_types_of_a_dialect(self, path, kind, stream, good):
        assert meaning(path, kind, stream).verdict == (None if good else "wrong_type")

    def test_what_is_settled_stays_so(self):
        judge = meaning("/api/chat", "text/html")
        assert judge.feed(line(message={"content": "a"})) == judge.finish() == "wrong_type"
