"""The documents say what is so: links, commands, settings, paths and the picture of the files; README's lines are run.

Everything is read when this file is imported: in an async test nothing may read from a disk.
"""

import asyncio
import re
import shlex
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from textwrap import dedent

import aiohttp
import pytest
from aiohttp import web

from config.env_file import parse
from config.fields import secret_names
from config.settings import help_table, load
from handlers.routes import client_routes
from masa_node.cli import parser
from peers.doors import DOORS
from tests.fakes import ModelServer, answer
from tests.processes import environment, running_node

ROOT = Path(__file__).parent.parent
TEXTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "bench/README.md", *(ROOT / "docs").glob("*.md"))
}
README, ARCHITECTURE = TEXTS["README.md"], TEXTS["docs/architecture.md"]
PACKAGES = ("config", "peers", "handlers", "masa_node")

OTHERS = {
    *("OLLAMA_HOST", "OLLAMA_API_KEY", "OLLAMA_API_BASE", "OLLAMA_BASE_URL", "OLLAMA_ENDPOINT"),
    *("OLLAMA_NUM_PARALLEL", "OLLAMA_KEEP_ALIVE", "OLLAMA_CONTEXT_LENGTH", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"),
    *("MASA_NAME", "NAME_FILE", "MASA_NAME_FILE", "MASA_TEST_ENGINE"),
}
"""What the documents name and is no setting: other programs' variables, placeholders, one of our tests'."""

MAY_STAND_IN_SH = {"curl", "make", "docker", "ollama", "npx", ".venv/bin/masa-node"}
"""Commands of `sh` blocks. The first and the last are run or parsed here; the others need what a test does not have."""

CLOUDFLARE_MODEL = "@cf/meta/llama-3.1-8b-instruct"
ASKED = "[{'role': 'user', 'content': 'hello'}]"
CLIENTS = {
    "`ollama`, Python": f"import ollama; print(ollama.chat('llama3', {ASKED}).message.content)",
    "`openai`, Python": "import openai; print(openai.OpenAI().chat.completions.create(model='llama3', "
    f"messages={ASKED}).choices[0].message.content)",
    "`anthropic`, Python": "import anthropic; print(anthropic.Anthropic().messages.create(model='llama3', "
    f"max_tokens=9, messages={ASKED}).content[0].text)",
    "`langchain-ollama`": "from langchain_ollama import ChatOllama; print(SETTING.invoke('hello').content)",
    "`langchain-openai`": "from langchain_openai import ChatOpenAI; print(SETTING.invoke('hello').content)",
}
"""By README's table: what is run with its setting alone, once as a variable, once as SETTING."""

NODE = shutil.which("node")
WORKER = (ROOT / "docs/worker.js").read_text()
WORKER_TOKEN = "the-token-you-made-up"
SERVE_WORKER = """
import { createServer } from "node:http";
import worker from "./worker.mjs";
const AI = {
  async run(model, input) {
    if (model.endsWith("missing")) throw new Error("5007: No such model");
    if (!input.stream) return { response: `${model} heard ${input.messages[0].content}` };
    return new Response('data: {"response":"Hello"}\\n\\ndata: [DONE]\\n\\n').body;
  },
};
const server = createServer(async (incoming, outgoing) => {
  const parts = [];
  for await (const part of incoming) parts.push(part);
  const { method, headers } = incoming;
  const body = method === "POST" ? Buffer.concat(parts) : undefined;
  const answer = await worker.fetch(new Request("http://worker.test/", { method, headers, body }), { AI, TOKEN });
  outgoing.writeHead(answer.status, Object.fromEntries(answer.headers));
  outgoing.end(Buffer.from(await answer.arrayBuffer()));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
"""


def fences(text: str, kind: str) -> list[str]:
    """The fenced blocks of one kind, also those that stand in lists."""
    return [dedent(body) for _, body in re.findall(rf"^( *)```{kind}\n(.*?)^\1```$", text, re.M | re.S)]


def spans(text: str) -> list[str]:
    """The inline code, without the fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S))


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command in `sh` blocks; a quote may go over several lines."""
    for block in fences(text, "sh"):
        command = ""
        for line in block.splitlines():
            command += line + "\n"
            try:
                words = shlex.split(command, comments=True)
            except ValueError:
                continue
            command = ""
            if words:
                yield words
        assert not command, f"a quote is left open: {command}"


def headings(text: str) -> set[str]:
    """As they are linked to."""
    told = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in told}


def masa_node_commands(text: str) -> Iterator[list[str]]:
    """The arguments of each `masa-node …`."""
    for words in (*commands(text), *(span.split() if "'" in span else shlex.split(span) for span in spans(text))):
        if words and words[0].rpartition("/")[2] == "masa-node" and len(words) > 1:
            yield words[1:]


def paths() -> set[str]:
    """Every path of the client API."""
    app = web.Application()
    client_routes(app)
    return {resource.canonical for resource in app.router.resources()}


def pictured() -> set[str]:
    """The files in the picture of docs/architecture.md."""
    found: set[str] = set()
    folders: list[str] = []
    for line in fences(ARCHITECTURE, "text")[0].splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[depth:] = [name] if name.endswith("/") else []
        if not name.endswith("/"):
            found.add("".join(folders[:depth]) + name)
    return found


def clients_tested() -> dict[str, str]:
    """README's table: client → setting, of the rows that say they are tested."""
    rows = re.findall(r"^\| (.+?) \| `(.+?)` \| tested \|$", README, re.M)
    return dict(rows)


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    text = re.sub(r"^ *```.*?^ *```$", "", TEXTS[name], flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, heading = target.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        found = (ROOT / name).parent / path if path else ROOT / name
        assert found.exists(), target
        assert not heading or heading in headings(found.read_text()), target


@pytest.mark.parametrize("name", TEXTS)
def test_commands_are_there(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for words in (*commands(TEXTS[name]), *(span.split() for span in spans(TEXTS[name]))):
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= targets, words
    for arguments in masa_node_commands(TEXTS[name]):
        if "--help" not in arguments:
            parser().parse_args(arguments)
    assert {words[0] for words in commands(TEXTS[name])} <= MAY_STAND_IN_SH


@pytest.mark.parametrize("name", TEXTS)
def test_settings_that_are_named_are_there(name: str) -> None:
    known = {setting for setting, _, _ in help_table()} | {f"{secret}_FILE" for secret in secret_names()}
    known |= {f"MASA_{setting}" for setting in known} | OTHERS
    for span in spans(TEXTS[name]):
        assert set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", span)) <= known, span
    for block in fences(TEXTS[name], "dotenv"):
        assert {entry.name for entry in parse(block)} <= known


@pytest.mark.parametrize("block", [block for text in TEXTS.values() for block in fences(text, "dotenv")])
def test_settings_can_be_used_as_they_are_shown(block: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(block)
    (tmp_path / ".env").chmod(0o600)
    loaded = load({}, cwd=tmp_path)
    assert loaded.changed()
    assert loaded.gathered.notes == ()


def test_the_paths_in_readme_are_the_nodes() -> None:
    shown = {match[1] for span in spans(README) if (match := re.fullmatch(r"(?:(?:GET|POST) )?(/\S+)", span))}
    assert shown <= paths()
    assert {door.path for door in DOORS} <= shown


def test_the_picture_shows_every_file_and_no_other() -> None:
    there = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert pictured() == {path for path in there if not path.endswith("__.py")}


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """A real node with a model server and something that stands in for Cloudflare."""
    async with ModelServer(models=("llama3:latest", "llama3.2:latest")) as server:
        whole = {"result": {"response": "Hello"}, "success": True, "errors": [], "messages": []}
        server.script(f"/workers-ai/{CLOUDFLARE_MODEL}", answer(whole))
        server.script("/workers-ai/v1/chat/completions", answer({"choices": [{"message": {"content": "Hello"}}]}))
        settings = {"LLM_CHAT_URL": server.url, "LLM_CF_URL": f"{server.url}/workers-ai/", "LLM_CF_TOKEN": "token"}
        async with running_node(tmp_path, settings) as node:
            yield node.url


async def output(folder: Path, *command: str, env: dict[str, str] | None = None) -> str:
    """What a program prints; it must end well."""
    clean = environment(folder, env or {})
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=clean, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
@pytest.mark.parametrize("name", ["README.md", "docs/ollama.md", "docs/cloudflare.md"])
async def test_curl_lines_get_an_answer(name: str, url: str, tmp_path: Path) -> None:
    lines = [words for words in commands(TEXTS[name]) if words[0] == "curl" and "localhost:8080" in " ".join(words)]
    assert len(lines) >= 3
    for words in lines:
        here = [word.replace("localhost:8080", url) for word in words[1:]]
        answered = await output(tmp_path, "curl", "-sS", "--fail", *here)
        assert ("Hel" if "-d" in words else '"llama3') in answered or "/api/v1/node" in words[1], words


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_needs_the_one_setting_of_readme(client: str, url: str, tmp_path: Path) -> None:
    setting = clients_tested()[client].replace("http://127.0.0.1:8080", url)
    name, _, value = setting.partition("=")
    env = {name: value} if name.isupper() else {}
    keys = {"OPENAI_API_KEY": "any word", "ANTHROPIC_API_KEY": "any word"}
    program = CLIENTS[client].replace("SETTING", setting)
    assert await output(tmp_path, sys.executable, "-c", program, env=keys | env) == "Hello\n"


def test_readme_says_tested_of_what_is_tested_here() -> None:
    assert set(clients_tested()) == {*CLIENTS, "anything that sends HTTP"}


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[str]:
    """docs/worker.js, with something that stands in for its AI; its URL."""
    if NODE is None:
        pytest.skip("there is no Node.js here")

    def write() -> None:
        (tmp_path / "worker.mjs").write_text(WORKER)
        (tmp_path / "serve.mjs").write_text(f'const TOKEN = "{WORKER_TOKEN}";{SERVE_WORKER}')

    await asyncio.to_thread(write)
    await output(tmp_path, NODE, "--check", "worker.mjs")
    process = await asyncio.create_subprocess_exec(NODE, tmp_path / "serve.mjs", stdin=DEVNULL, stdout=PIPE)
    assert process.stdout
    try:
        async with asyncio.timeout(10):
            port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.communicate()


async def test_the_worker_answers_a_node(worker: str, tmp_path: Path) -> None:
    body: dict[str, object] = {"model": CLOUDFLARE_MODEL, "messages": [{"role": "user", "content": "hello"}]}
    async with (
        running_node(tmp_path, {"LLM_CF_URL": worker, "LLM_CF_TOKEN": WORKER_TOKEN}) as node,
        aiohttp.ClientSession(node.url) as session,
    ):
        async with session.post("/v1/api/chat", json=body) as whole:
            told = {"success": True, "errors": [], "messages": []}
            assert await whole.json() == {"result": {"response": f"{CLOUDFLARE_MODEL} heard hello"}, **told}
            assert whole.headers["X-Masa-Route"] == "local:cloudflare"
        async with session.post("/api/v1/chat/cf", json=body | {"stream": True}) as stream:
            assert stream.content_type == "text/event-stream"
            assert await stream.text() == 'data: {"response":"Hello"}\n\ndata: [DONE]\n\n'
        async with session.post("/v1/api/chat", json=body | {"model": "@cf/meta/missing"}) as missing:
            assert (missing.status, (await missing.json())["errors"][0]["code"]) == (400, 5007)
        for headers in ({}, {"Authorization": f"Bearer {WORKER_TOKEN}x"}):
            async with session.post(worker, json=body, headers=headers) as refused:
                assert refused.status == 401
