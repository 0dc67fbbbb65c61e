"""Meaning: no format of a liar ever counts, nor costs memory (promise B1); and whose refusals are final."""

import tracemalloc

import pytest

from peers.meaning import definitive, same_refusal
from peers.units import LINE, LONGEST, MOST
from tests.answers import DONE, HTML, JSON, MISSION, NDJSON, SSE, STREAMING, event, line, meaning, streamed, whole


class TestLiars:
    """Each format of promise B1, told by every dialect's streams and whole answers."""

    @pytest.mark.parametrize("path", [*STREAMING, MISSION])
    @pytest.mark.parametrize("kind", [NDJSON, SSE, JSON])
    @pytest.mark.parametrize(
        ("body", "whys"),
        [
            (b"", {"empty"}),
            (HTML, {"malformed", "empty"}),
            (b"{}", {"empty"}),
            (b"data: {}\n\n" + DONE, {"empty", "malformed"}),
            (b"[]\n", {"malformed", "empty"}),
            (b'{"error":"no"}\n', {"error", "empty"}),
            (event({"error": {"message": "no"}}), {"error", "malformed"}),
            (b"event: error\ndata: {}\n\n", {"error", "malformed"}),
            (b'{"model":"llama3","message":{"content":"He', {"malformed", "empty"}),
            (b"\x1f\x8b\x08\x00\x00", {"malformed", "empty"}),
            (b"[" * 10000, {"malformed", "empty"}),
            (b'{"choices":' * 10000, {"malformed", "empty"}),
            (b'{"choices":' + b"9" * 10000 + b"}\n", {"malformed", "empty"}),
            (b'{"message":{"content":"\xff"}}\n', {"malformed", "empty"}),
            (DONE, {"empty", "malformed"}),
            (event({"type": "message_stop"}, "message_stop"), {"empty", "malformed"}),
            (event({"type": "response.failed", "response": {}}), {"error", "empty", "malformed"}),
            (event({"object": "error", "message": "no"}), {"error", "malformed"}),
        ],
    )
    def test_never_count(self, path, kind, body, whys):
        judge = meaning(path, kind)
        judge.feed(body)
        assert judge.finish() in whys | {"wrong_type"}

    @pytest.mark.parametrize("name", ["llama3:8b", "llama", "qwen3:latest", ""])
    def test_another_model_in_ollamas_dialect(self, name):
        unit = line(model=name, message={"content": "a"}, done=False)
        assert streamed("/api/chat", unit) == "wrong_model"
        assert streamed(MISSION, unit, NDJSON) == "wrong_model"

    @pytest.mark.parametrize("name", ["llama3", "LLAMA3", "llama3:latest", "Llama3:Latest"])
    def test_spellings_of_the_model(self, name):
        assert streamed("/api/chat", line(model=name, message={"content": "a"})) == "meaningful"

    def test_other_dialects_answer_with_dated_names(self):
        body = {"model": "llama3-2026-01-02", "choices": [{"message": {"content": "a"}}]}
        assert whole("/v1/chat/completions", body) == whole(MISSION, body) == "meaningful"

    @pytest.mark.parametrize("path", ["/api/chat", "/v1/messages"])
    @pytest.mark.parametrize("piece", [b"\n", b": keep-alive\n\n", b"\0", b'{"x":"' + b"x" * 999, b"{}\n"])
    def test_an_endless_stream_ends_and_costs_no_memory(self, path, piece):
        kind = NDJSON if path.startswith("/api") else SSE
        judges = [meaning(path, kind), meaning(path, JSON)]
        chunk = piece * (65536 // len(piece))
        tracemalloc.start()
        for judge in judges:
            for _ in range(2 * MOST // len(chunk)):
                judge.feed(chunk)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert {judge.verdict for judge in judges} <= {"too_long", "malformed"}
        assert peak < 2 * MOST + LONGEST

    @pytest.mark.parametrize("path", ["/api/chat", "/v1/messages"])
    def test_many_short_lines_cost_no_time(self, path):
        assert streamed(path, b"\n" * (MOST // LINE)) is None
        assert streamed(path, b"\n" * (MOST // LINE + 1)) == "too_long"

    def test_an_event_of_many_lines_is_bounded(self):
        judge = meaning("/v1/messages", SSE)
        data = b"data: " + b"x" * (LONGEST // 2 - 1) + b"\n"
        assert [judge.feed(piece) for piece in (data, data, b"data\n")] == [None, None, "too_long"]

    def test_what_is_no_json_object_is_told_from_its_first_byte(self):
        assert meaning("/api/chat", JSON).feed(HTML[:1]) == "malformed"

    def test_a_response_that_failed_is_an_error(self):
        assert streamed("/v1/responses", event({"type": "response.failed", "response": {}})) == "error"

    def test_a_long_unit_is_not_waited_for(self):
        judge = meaning("/api/chat", NDJSON)
        assert judge.feed(b'{"x":"' + b"x" * (LONGEST - 6)) is None
        assert judge.feed(b"x") == "too_long"


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "body", "so"),
        [(400, b"{}", True), (413, b"<html>", True), (422, b"{}", True), (400, b" \n", False), (404, b"{}", False),
         (403, b"{}", False), (429, b"{}", False), (500, b"{}", False), (200, b"{}", False)],
    )  # fmt: skip
    def test_definitive(self, status, body, so):
        assert definitive(status, body) is so

    def test_two_agree(self):
        one = (400, b'{"type":"error","error":{"message":"no tools"},"request_id":"req_1"}')
        other = (400, b'{"request_id":"req_2","type":"error","error":{"message":"no tools"}}')
        assert same_refusal(one, other)
        assert same_refusal((413, HTML), (413, HTML))

    @pytest.mark.parametrize("other", [(422, b'{"error":"a"}'), (400, b'{"error":"b"}'), (400, b"a"), (400, b"[]")])
    def test_two_do_not(self, other):
        assert not same_refusal((400, b'{"error":"a"}'), other)
        assert not same_refusal((400, b"b"), other)
