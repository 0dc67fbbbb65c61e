"""Meaning, however its bytes are cut into chunks; and the end of a stream, wherever it breaks off (promise B4)."""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peers import meaning as module
from peers import units
from peers.meaning import Meaning
from peers.units import EDGE, Ending, Events, Unit
from tests.answers import (
    CREATED,
    DONE,
    HTML,
    MISSION,
    NDJSON,
    OPEN,
    ROLE,
    SSE,
    START,
    STREAMING,
    call,
    delta,
    event,
    line,
    recorded,
    streamed,
)

KINDS = (NDJSON, SSE, "application/json", "text/html")
PIECES = st.sampled_from(
    [
        *(OPEN, ROLE, START, CREATED, DONE, HTML, b"{}", b"\n", b"\r", b"\r\n", b" ", b"\xef\xbb\xbf", b":", b"data"),
        *(b"data: ", b"event: error", b"event: ping", b": keep-alive\n\n", b'{"error":"no"}\n', b'{"a":"\\ud800'),
        *(
            line(message={"content": "Hi"}),
            line(response="Hi", done=True),
            delta(content="Hi"),
            b"data: {\ndata: }",
            b"data: {\r\ndata: }\r\n\r\n",
        ),
        *(event({"type": "message_stop"}, "message_stop"), b'{"choices":[', b'{"text":"a"}', b"]}", b"x" * 40),
        *(chunk for path in STREAMING for chunk in recorded(path, True)[1]),
        *(chunk for path in STREAMING for chunk in recorded(path, False)[1]),
    ]
)
BODIES = st.lists(PIECES | st.binary(max_size=8), max_size=12).map(b"".join)
FEW = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(judge: Meaning, chunks: list[bytes]) -> tuple[object, ...]:
    said = [judge.feed(chunk) for chunk in chunks]
    settled = judge.verdict
    assert all(verdict == settled for verdict in said if verdict), "a verdict stays"
    return settled, judge.finish(), judge.ended()


def cut(body: bytes, places: list[int]) -> list[bytes]:
    at = sorted({0, len(body), *(place % (len(body) + 1) for place in places)})
    return [body[start:end] for start, end in pairwise(at)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that short bodies reach."""
    monkeypatch.setattr(units, "LONGEST", 150)
    monkeypatch.setattr(units, "MOST", 400)
    monkeypatch.setattr(units, "LINE", 9)
    monkeypatch.setattr(module, "WHOLE", 200)


def same_however_cut(path: str, kind: str, stream: bool, body: bytes, places: list[int]) -> None:
    def judge() -> Meaning:
        return Meaning(call(path, stream), 200, {"content-type": kind})

    at_once = outcome(judge(), [body])
    assert outcome(judge(), [body[at : at + 1] for at in range(len(body))]) == at_once
    assert outcome(judge(), [*cut(body, places), b""]) == at_once


ANY = {
    "path": st.sampled_from([*STREAMING, MISSION, "/api/embed", "/api/show", "/v1/messages/count_tokens"]),
    "kind": st.sampled_from(KINDS),
    "stream": st.booleans(),
    "body": BODIES,
    "places": st.lists(st.integers(0, 2000), max_size=6),
}


@FEW
@given(**ANY)
def test_chunks_make_no_difference(path, kind, stream, body, places):
    same_however_cut(path, kind, stream, body, places)


@FEW
@given(**ANY)
def test_chunks_make_no_difference_to_limits(small, path, kind, stream, body, places):
    same_however_cut(path, kind, stream, body, places)


@pytest.mark.parametrize("path", STREAMING)
@pytest.mark.parametrize("breaks", [b"\r\n", b"\r"])
def test_line_breaks_make_no_difference(path, breaks):
    kind, chunks = recorded(path, True)
    same_however_cut(path, kind, True, b"".join(chunks).replace(b"\n", breaks), [5, 50, 99])
    judge = Meaning(call(path), 200, {"content-type": kind})
    assert outcome(judge, [b"".join(chunks).replace(b"\n", breaks)]) == ("meaningful", "meaningful", True)


class TestEvents:
    """What the WHATWG's HTML standard says of an event stream."""

    @pytest.mark.parametrize(
        ("body", "found"),
        [
            (b"data: a\n\n", [Unit(b"a")]),
            (b"\xef\xbb\xbfdata: a\n\n", [Unit(b"a")]),
            (b"\n\xef\xbb\xbfdata: a\n\n", []),
            (b"data:a\r\rdata: b\r\n\r\n", [Unit(b"a"), Unit(b"b")]),
            (b"event: x\r\ndata:  a\r\n:comment\r\nid: 7\r\ndata: b\r\n\r\n", [Unit(b" a\nb", b"x")]),
            (b"event: x\n\ndata\n\n", [Unit(b"")]),
            (b"event: x\nevent: y\ndata: a:b\n\ndata: c\n\n", [Unit(b"a:b", b"y"), Unit(b"c")]),
            (b" data: a\n\nData: a\n\ndata : a\n\n", []),
            (b"data: a\n\ndata: unfinished\n", [Unit(b"a")]),
        ],
    )
    def test_are_read_so(self, body, found):
        for chunks in ([body], [body[at : at + 1] for at in range(len(body))]):
            events = Events()
            assert [unit for chunk in chunks for each in (chunk, b"") for unit in events.feed(each)] == found
            assert list(events.rest()) == []


def test_a_byte_order_mark_in_pieces():
    same_however_cut("/v1/messages", "application/json", False, b'\n\xef\xbb\xbf{"content":[{}]}', [2])
    assert streamed("/api/chat", b"\xef\xbb\xbf" + line(message={"content": "a"})) == "meaningful"


def ended(*chunks: bytes) -> bool:
    ending = Ending()
    for chunk in chunks:
        ending.feed(chunk)
    return ending.marked()


LONG = '"Lorem ipsum"' * 99
OLLAMA_CONTEXT = line(response="", done=True, done_reason="stop", context=[*range(999)], total_duration=8, eval_count=2)
COMPLETED = {"response": {"status": "completed", "output": [{"type": "message", "content": [{"text": LONG}]}]}}
TYPE = {"type": "response.completed"}


class TestEnds:
    @pytest.mark.parametrize("path", STREAMING)
    def test_a_stream_that_breaks_off_has_no_end(self, path):
        body = b"".join(recorded(path, True)[1])
        judge = Meaning(call(path), 200, {"content-type": recorded(path, True)[0]})
        whole = len(body.rstrip(b"\n"))
        breaks = [at for at in range(len(body)) if self.step(judge, body[at : at + 1])]
        assert breaks[0] >= whole - 1
        assert breaks[-1] == len(body) - 1

    def step(self, judge: Meaning, byte: bytes) -> bool:
        judge.feed(byte)
        return judge.ended()

    @pytest.mark.parametrize(
        "body",
        [
            OLLAMA_CONTEXT,
            line(message={"content": LONG}, done=True),
            event(COMPLETED | TYPE),
            event(TYPE | COMPLETED),
            event(COMPLETED | TYPE | {"sequence_number": 9}, "response.completed"),
            event({"type": "response.failed", "response": {}}),
            event({"type": "response.incomplete", "response": {}}) + DONE,
            b'data: {"type": "message_stop"          }\n\n',
            b'data: {"type":"message_stop","metrics":{"inputTokenCount":8,"latency":1231}}\n\n',
            b"data:[DONE]",
            b"data: [DONE]\r\n\r\n",
            DONE + b"\n" * 999,
        ],
    )
    def test_marks(self, body):
        assert ended(OPEN, body)
        assert ended(OPEN + body)
        assert ended(*((OPEN + body)[at : at + 1] for at in range(len(OPEN + body))))

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            OPEN,
            ROLE,
            line(message={"content": '"done":true'}, done=False),
            line(message={"tool_calls": [{"function": {"arguments": {"done": True}}}]}, done=False),
            line(message={"tool_calls": [{"function": {"arguments": {"done": True, "x": LONG}}}]}, done=False),
            b'{"error":"out of memory"}\n',
            delta(content='data: [DONE]\n\n{"done":true}'),
            delta(content='{"type":"message_stop"}'),
            event({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
            event({"type": "error", "error": {}}, "error"),
            b"event: message_stop\n",
            b'data: {"type":"message_stop"}',
            b"data: [DONE",
            DONE + delta(content="more"),
            line(message={}, done=True) + OPEN,
        ],
    )
    def test_no_marks(self, body):
        assert not ended(body)
        assert not ended(DONE, body) or not body
        assert not ended(*(body[at : at + 1] for at in range(len(body))))

    @given(body=BODIES, places=st.lists(st.integers(0, 2000), max_size=6))
    def test_chunks_make_no_difference(self, body, places):
        assert ended(*cut(body, places)) == ended(body)

    def test_little_is_kept(self):
        ending = Ending()
        for _ in range(99):
            ending.feed(b"x" * 65536)
        assert sum(map(len, (ending._head, ending._tail))) == 2 * EDGE
