"""Reaching an own model server: how it falls and rises, and what becomes of one exchange with it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from peers.errors import MasaError, UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from peers.upstreams.link import Link, open_link
from peers.upstreams.ollama import LOOK_WHEN_DOWN, LOOK_WHEN_UP, Address
from peers.upstreams.ollama import ModelServer as Server
from tests.calls import call, opened
from tests.conftest import StartServer
from tests.fakes import DIE, HANG, RESET, ModelServer, Script, answer

At = Callable[..., Server]


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    async with open_link(0.2) as link:
        yield link


@pytest.fixture
def at(link: Link) -> At:
    """The upstream at a URL, as LLM_CHAT_URL names it."""
    return lambda url, **more: Server(link, Address.parse(url), **({"name": "ollama", "parallel": 1} | more))


@pytest.fixture
async def upstream(model_server: ModelServer, at: At) -> Server:
    """One that was looked at, and is up."""
    upstream = at(model_server.url)
    await upstream.refresh()
    return upstream


# How it falls and rises


async def test_it_is_down_while_it_is_gone_and_comes_back(model_server: ModelServer, upstream: Server) -> None:
    await model_server.stop()
    assert await upstream.refresh() == LOOK_WHEN_DOWN
    assert (upstream.status, list(upstream.models)) == ("down", ["llama3:latest"])
    assert upstream.why == (
        "ollama refused the connection. Is it running where LLM_CHAT_URL says? `masa-node doctor` looks."
    )
    await model_server.start()
    assert await upstream.refresh() == LOOK_WHEN_UP
    assert (upstream.status, upstream.why) == ("up", "")


async def test_a_call_finds_it_gone_and_back_before_the_next_look(model_server: ModelServer, upstream: Server) -> None:
    await model_server.stop()
    with pytest.raises(UpstreamUnreachable):
        await upstream.open(call())
    assert (upstream.status, upstream.places.taken) == ("down", 0)
    await model_server.start()
    assert (await opened(upstream, call()))[0] == 200
    assert (upstream.status, upstream.why) == ("up", "")


async def test_one_that_was_found_is_told_how_to_start(at: At) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    upstream = at(f"http://127.0.0.1:{port}", found=True)
    await upstream.refresh()
    assert "`ollama serve`" in upstream.why


async def test_silence_counts_as_down(
    model_server: ModelServer, upstream: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peers.upstreams.ollama.PROBE_SECONDS", 0.05)
    model_server.script("/api/version", Script(before_head=[HANG]))
    assert await upstream.refresh() == LOOK_WHEN_DOWN
    assert "did not answer in time" in upstream.why


async def test_a_hang_up_counts_as_down(model_server: ModelServer, upstream: Server) -> None:
    model_server.script("/api/version", Script(before_head=[DIE]))
    assert await upstream.refresh() == LOOK_WHEN_DOWN
    assert "dropped the connection" in upstream.why


async def test_a_host_name_that_leads_nowhere(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    upstream = at("http://nowhere.example:11434")
    await upstream.refresh()
    assert "leads nowhere" in upstream.why


@pytest.mark.parametrize(
    ("tags", "left"),
    [(answer({"models": []}), []), (answer({"error": "oh"}, 500), ["llama3:latest"]), (answer([]), ["llama3:latest"])],
    ids=["emptied", "failing", "not readable"],
)
async def test_a_list_that_cannot_be_read_changes_nothing(
    model_server: ModelServer, upstream: Server, tags: Script, left: list[str]
) -> None:
    model_server.script("/api/tags", tags)
    await upstream.refresh()
    assert (upstream.status, list(upstream.models)) == ("up", left)


# One exchange


async def test_a_kept_connection_that_was_closed_is_tried_once_more(
    model_server: ModelServer, upstream: Server
) -> None:
    model_server.next(answer({"first": True}), Script(before_head=[DIE]), answer({"third": True}))
    assert (await opened(upstream, call()))[1] == b'{"first":true}'
    assert (await opened(upstream, call()))[1] == b'{"third":true}'
    assert len(model_server.inferences) == 3


async def test_idle_connections_that_were_closed_cost_nothing(model_server: ModelServer, upstream: Server) -> None:
    await opened(upstream, call())
    model_server.hang_up()
    await model_server.until(lambda: model_server.open_connections == 0)
    assert (await opened(upstream, call()))[0] == 200
    assert upstream.status == "up"


async def test_it_is_not_tried_a_third_time(model_server: ModelServer, upstream: Server) -> None:
    model_server.next(answer({}), *[Script(before_head=[DIE])] * 3)
    await opened(upstream, call())
    with pytest.raises(UpstreamUnreachable):
        await upstream.open(call())
    assert len(model_server.inferences) == 3


GARBAGE = Script(before_head=[b"SSH-2.0-OpenSSH_9.2\r\n", DIE])
ODD_HEADER = Script(headers={"Content-Type": "text/caf\xe9"}, chunks=[b"{}"])


@pytest.mark.parametrize(
    ("script", "kind", "said"),
    [
        (Script(before_head=[DIE]), UpstreamUnreachable, "dropped the connection before its answer"),
        (Script(before_head=[RESET]), UpstreamUnreachable, "dropped the connection before its answer"),
        (Script(before_head=[b"HTTP/1.1 200 OK\r\nCont", DIE]), UpstreamUnreachable, "dropped the connection"),
        (Script(before_head=[HANG]), UpstreamTimeout, "LLM_TIMEOUT"),
        (GARBAGE, UpstreamBroken, "not HTTP"),
        (ODD_HEADER, UpstreamBroken, "broken header"),
    ],
    ids=["closed", "reset", "half a head", "silent", "not HTTP", "a byte outside ASCII"],
)
async def test_an_exchange_that_gets_no_answer(
    model_server: ModelServer, at: At, script: Script, kind: type[MasaError], said: str
) -> None:
    """On a new connection each is tried once, and leaves no place taken."""
    upstream = at(model_server.url)
    model_server.next(script)
    with pytest.raises(kind, match=said):
        await upstream.open(call())
    assert (len(model_server.inferences), upstream.places.taken) == (1, 0)
    assert upstream.status == ("down" if kind is UpstreamUnreachable else "unknown")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    model_servers: StartServer, model_server: ModelServer, at: At, status: int
) -> None:
    elsewhere = await model_servers()
    model_server.next(Script(status=status, headers={"Location": f"{elsewhere.url}/api/chat"}))
    upstream = at(model_server.url)
    with pytest.raises(UpstreamBroken, match="redirect, which is not followed") as raised:
        await upstream.open(call())
    assert (raised.value.status, elsewhere.requests, upstream.places.taken) == (502, [], 0)


async def test_a_look_follows_no_redirect_either(model_servers: StartServer, at: At) -> None:
    elsewhere = await model_servers()
    server = await model_servers()
    for path in ("/api/version", "/v1/models", "/v1/messages"):
        server.script(path, Script(status=302, headers={"Location": elsewhere.url + path}))
    upstream = at(server.url)
    await upstream.refresh()
    assert (upstream.status, elsewhere.requests) == ("down", [])


async def test_what_leaves_says_that_a_node_sends_it_and_no_more(model_server: ModelServer, upstream: Server) -> None:
    await opened(upstream, call())
    sent = {name.lower(): value for name, value in model_server.inferences[0].headers}
    assert sent == {
        "host": f"127.0.0.1:{model_server.port}",
        "content-type": "application/json",
        "content-length": str(len(call().body)),
        "accept-encoding": "identity",
        "user-agent": "masa-node",
        "masa-hop": "1",
    }


async def test_a_place_is_taken_until_the_answer_is_closed(model_server: ModelServer, upstream: Server) -> None:
    reply = await upstream.open(call())
    assert (upstream.places.taken, upstream.places.free) == (1, False)
    reply.close()
    reply.close()
    assert (upstream.places.taken, upstream.places.free) == (0, True)
