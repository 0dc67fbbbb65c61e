"""peek(): what routing reads of a body, and what it refuses (docs/security.md C-18; docs/promises.md C4, D11)."""

import asyncio
import gzip
import json
import tracemalloc
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.doors import BY_PATH
from peers.errors import BadRequest
from peers.peek import check_model, inflate, peek
from peers.wire import Peek
from tests.asking import ask, code
from tests.nodes import running
from tests.raw import get, post

CHAT = BY_PATH["/api/chat"]
SHOW = BY_PATH["/api/show"]
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """300 MiB in 1.3."""
    packer = zlib.compressobj(1, wbits=zlib.MAX_WBITS | 16)
    begin = packer.compress(b'{"model":"llama3","x":"')
    return begin + b"".join(packer.compress(bytes(MIB)) for _ in range(300)) + packer.flush()


def refused(body: bytes, door=CHAT) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        peek(body, door)
    return caught.value


PLAIN = gzip.compress(b"plain", mtime=0)


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "seen"),
        [
            (b'{"model":"llama3"}', Peek("llama3", None)),
            (b' {\n"model" : "llama3:8b" , "stream" : false }\n', Peek("llama3:8b", False)),
            (b'{"model":"a","stream":true,"model":"b","stream":false}', Peek("b", False)),
            (b'{"m\\u006fdel":"\\u0061"}', Peek("a", None)),
            (b'{"model":"a","stream":null}', Peek("a", None)),
            (b'{"model":"a","stream":1}', Peek("a", None)),
            (b'{"model":"a","messages":[{"Model":"b","STREAM":1}]}', Peek("a", None)),
            (b'{"model":"a","models":"b","streams":true,"mode":1}', Peek("a", None)),
            (b'{"model":"a","x":1e999,"y":' + b"9" * 400 + b"}", Peek("a", None)),
        ],
    )
    def test_seen(self, body, seen):
        assert peek(body, CHAT) == seen

    @pytest.mark.parametrize(
        "body",
        [b"", b" ", b"[]", b'"model"', b"null", b"7", b"{", b'{"model":"a"', b'{"model":"a"}x', b'{"model":"a"}{}',
         b"{'model':'a'}", b'{"model":"a",}', b'{"model":NaN}', b'{"model":"a"}\0', b"\xef\xbb\xbf" + b'{"model":"a"}',
         '{"model":"a"}'.encode("utf-16"), '{"model":"a"}'.encode("utf-32"), b'{"model":"a\xff"}', b'{"\xff":1}',
         b'{"model":"\\ud800"}', b"model=a", b'{"model":"a", // x\n}'],
    )  # fmt: skip
    def test_what_is_no_json_object(self, body):
        error = refused(body)
        assert (error.status, error.code) == (400, "invalid_body")

    @pytest.mark.parametrize("value", [b"null", b"7", b"true", b"[]", b"{}", b'["a"]'])
    def test_a_model_is_a_string(self, value):
        assert refused(b'{"model":%b}' % value).code == "invalid_body"
        assert refused(b'{"model":"a","model":%b}' % value).code == "invalid_body"

    @pytest.mark.parametrize(
        "key",
        ["Model", "MODEL", "mOdEl", "Stream", "STREAM", "\u017ftream", "\\u017ftream", "S\\u0054REAM", "\\u004dodel"],
    )
    @pytest.mark.parametrize("body", ['{"model":"a","stream":true,"%s":"b"}', '{"%s":"b","model":"a"}', '{"%s":"b"}'])
    def test_case_variants_are_refused(self, key, body):
        """Go takes them for the real thing, long s for s and the Kelvin sign for k included."""
        error = refused((body % key).encode())
        assert (error.status, error.code) == (400, "invalid_body")
        assert "lower case" in error.text

    def test_every_fold_that_go_knows(self):
        """Go folds a key by Unicode's simple folding; no character but these has one in common with ASCII."""
        twins = {
            chr(at) for at in range(0x110000) if not 0xD800 <= at < 0xE000 and chr(at).casefold() in list("modelstrank")
        }
        assert {twin for twin in twins if not twin.isascii()} == {"\u017f", "\u212a"}

    @pytest.mark.parametrize(
        ("body", "model"),
        [
            (b'{"model":"a"}', "a"),
            (b'{"name":"a"}', "a"),
            (b'{"model":"a","name":"b"}', "a"),
            (b'{"name":"b","model":"a"}', "a"),
        ],
    )
    def test_show_also_takes_a_name(self, body, model):
        assert peek(body, SHOW).model == model

    @pytest.mark.parametrize(
        "body", [b'{"name":"a","Model":"b"}', b'{"Name":"a"}', b'{"name":"a","NAME":"b"}', b'{"model":"","name":"a"}']
    )
    def test_a_name_that_could_be_another(self, body):
        assert refused(body, SHOW).status == 400

    def test_elsewhere_a_name_is_not_ours(self):
        assert peek(b'{"model":"a","name":"b","Name":"c"}', CHAT).model == "a"
        assert refused(b'{"name":"a"}', CHAT).code == "invalid_body"

    @given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
    def test_nothing_else_is_raised(self, body):
        for whole in (body, b'{"model":' + body + b"}", b'{"model":"a",' + body + b"}"):
            with suppress(BadRequest):
                model = peek(whole, CHAT).model
                assert json.loads(whole.decode(errors="replace"))["model"] == model

    @pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
    @pytest.mark.parametrize("at_top", [True, False])
    def test_a_nesting_bomb(self, opening, at_top):
        bomb = opening * (1 << 20)
        assert refused(bomb if at_top else b'{"model":"a","x":' + bomb).code == "invalid_body"
        if opening == b"[":
            assert refused(b'{"model":"a","x":%b%b}' % (b"[" * 10**6, b"]" * 10**6)).code == "invalid_body"

    def test_ten_thousand_keys(self):
        body = json.dumps({f"key{number}": number for number in range(10_000)} | {"model": "a"}).encode()
        assert peek(body, CHAT).model == "a"


class TestModelNames:
    @pytest.mark.parametrize(
        "name",
        ["llama3", "llama3:latest", "qwen2.5-coder:7b-instruct-q4_K_M", "hf.co/bartowski/Llama-3.2-1B-GGUF:IQ3_M",
         "@cf/meta/llama-3.1-8b-instruct", "gpt-4o-2024-08-06", "models/gemini", "a" * 128, "ft:gpt-4o:org::id", "."],
    )  # fmt: skip
    def test_good(self, name):
        assert check_model(name) == name

    @pytest.mark.parametrize(
        ("name", "where"),
        [("", "empty"), ("a" * 129, "128"), ("../../api/delete", "position 1"), ("@cf/../../client/v4", "position 5"),
         ("http://evil.example/", "position 6"), ("ä", "position 1"), ("ａ", "position 1"), ("~", "position 1"),
         ("\u0661", "position 1"),
         *((name, "position 2") for name in ("a//b", "a..b", "a\n", "a b", "a?x", "a#x", "a%2e%2e", "a\\b", "a\0",
                                             "a;b", "a&b", "a\u2024\u2024", "a\u200b", "a\r\nX: y"))],
    )  # fmt: skip
    def test_bad_and_where(self, name, where):
        with pytest.raises(BadRequest) as caught:
            check_model(name)
        assert (caught.value.status, caught.value.code) == (400, "invalid_model")
        assert where in caught.value.text
        assert len(name) < 2 or name not in caught.value.text

    @given(st.text(max_size=40))
    def test_what_passes_stays_in_its_path(self, name):
        try:
            check_model(name)
        except BadRequest:
            return
        assert name.isascii()
        assert not set(name) & set("?#%\\ \r\n\t\0")
        assert ".." not in name
        assert "//" not in name


class TestInflate:
    @pytest.mark.parametrize(
        ("pack", "encoding"),
        [(gzip.compress, "gzip"), (gzip.compress, " GZIP "), (gzip.compress, "x-gzip"), (zlib.compress, "deflate"),
         (bytes, "identity"), (bytes, "")],
    )  # fmt: skip
    def test_a_plain_copy(self, pack, encoding):
        assert inflate(pack(b"plain"), encoding, 5) == b"plain"

    @pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "gzip,br", "*", "\x7f"])
    def test_others_are_415(self, encoding):
        with pytest.raises(BadRequest) as caught:
            inflate(b"x", encoding, 5)
        assert (caught.value.status, caught.value.code) == (415, "unsupported_encoding")

    @pytest.mark.parametrize(
        "body",
        [b"", b"x", b'{"model":"a"}', PLAIN[:-1], PLAIN[:-8] + b"\0" * 8, PLAIN + PLAIN, PLAIN + b"x",
         zlib.compress(b"plain")[:-1]],
    )  # fmt: skip
    def test_broken_or_more_than_one(self, body):
        with pytest.raises(BadRequest) as caught:
            inflate(body, "gzip", 100)
        assert (caught.value.status, caught.value.code) == (400, "invalid_body")

    def test_a_bomb_is_not_inflated_further_than_the_limit(self, bomb):
        """docs/promises.md C4."""
        tracemalloc.start()
        try:
            with pytest.raises(BadRequest) as caught:
                inflate(bomb, "gzip", 4 * MIB)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (caught.value.status, caught.value.code) == (413, "body_too_large")
        assert most < 12 * MIB


class TestWhatUpstreamsTake:
    """What one JSON reader refuses and others do not is for the upstream to judge."""

    @pytest.mark.parametrize("text", [b'"\\ud800"', b"NaN", b'["\\udfff", Infinity]'])
    def test_odd_values_elsewhere_pass(self, text):
        assert peek(b'{"x":%b,"model":"llama3","stream":true}' % text, CHAT) == Peek("llama3", True)

    def test_variants_are_still_refused(self):
        assert refused(b'{"x":"\\ud800","model":"llama3","Model":"y"}').code == "invalid_body"

    def test_a_model_with_half_a_pair_is_no_name(self):
        assert refused(b'{"model":"\\ud800"}').code in ("invalid_body", "invalid_model")

    @pytest.mark.parametrize(("body", "where"), [(b'{"model":"a"', "character 13"), (b"\xff", "byte 1")])
    def test_the_error_says_where(self, body, where):
        assert where in refused(body).text

    def test_a_byte_order_mark_is_named(self):
        assert "begins with a byte order mark" in refused(b'\xef\xbb\xbf{"model":"llama3"}').text
        assert peek('{"model":"llama3","x":"\ufeff"}'.encode(), CHAT) == Peek("llama3", None)


class TestAtTheDoor:
    @pytest.fixture
    async def node(self, model_server, tmp_path):
        async with running(tmp_path, LLM_CHAT_URL=model_server.url, MAX_BODY_BYTES="2MiB") as node:
            yield node

    async def test_bombs_cost_little_and_others_are_served(self, node, model_server, bomb):
        """docs/promises.md C4: many at once."""
        assert len(bomb) < 2 << 20  # so that it is its inflated size that is over the limit
        tracemalloc.start()
        bombs = [ask(node.port, post(node.port, "/api/chat", bomb, {"Content-Encoding": "gzip"})) for _ in range(30)]
        health, *answers = await asyncio.gather(ask(node.port, get(node.port, "/health")), *bombs)
        assert health.status == 200
        assert {(answer.status, code(answer)) for answer in answers} == {(413, "body_too_large")}
        assert model_server.inferences == []
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 256 << 20  # one bomb inflated would be more

    async def test_names_never_leave_the_path(self, node, model_server):
        """docs/promises.md D11: on every door the upstream sees only the paths of this node's own asking."""
        names = [
            "../../api/delete",
            "@cf/../../client/v4",
            "a/../b",
            "..",
            "x?y",
            "x#y",
            "%2e%2e/x",
            "/api/delete",
            "@cf/./x",
        ]
        for path in BY_PATH:
            before = len(model_server.requests)
            for name in names:
                answer = await ask(node.port, post(node.port, path, json.dumps({"model": name}).encode()))
                assert answer.status in (400, 404, 503)
            paths = {seen.path for seen in model_server.requests[before:]}
            assert paths <= {path, "/api/chat", "/api/tags", "/api/ps", "/api/version", "/v1/models", "/v1/messages"}
        assert not [seen for seen in model_server.requests if ".." in seen.target]

    async def test_a_cloudflare_name_is_joined_as_it_is(self, model_server, tmp_path):
        async with running(tmp_path, LLM_CF_URL=f"{model_server.url}/ai/run/", LLM_CF_TOKEN="t") as node:
            for name in ("@cf/meta/llama-3.1-8b", "@cf/../../client/v4", "@cf/a/b/c", "@cf/.a/b", "@hf/a/.b", "@cf/a"):
                await ask(node.port, post(node.port, "/api/v1/chat/cf", json.dumps({"model": name}).encode()))
        assert [seen.target for seen in model_server.inferences] == ["/ai/run/@cf/meta/llama-3.1-8b"]
