"""openapi.json against the routes, the errors, the pages that show it, and a running node."""

import ast
import asyncio
import json
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
import jsonschema_rs
import pytest
from aiohttp import web
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from handlers.middlewares.errors import dialect_of, error_body
from handlers.routes import client_routes
from handlers.status import DOCS_FILES, PAGES, POLICY
from masa_node import __version__
from peers.errors import MasaError
from tests.processes import running_node

METHODS = {"GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"}
ROOT = Path(__file__).parent.parent
DOCUMENT: dict[str, Any] = json.loads(PAGES["openapi.json"])

SERVED = {
    path: (PAGES[name], kind)
    for path, name, kind in (
        ("/", "index.html", "text/html"),
        ("/docs", "docs.html", "text/html"),
        ("/openapi.json", "openapi.json", "application/json"),
        *((f"/docs/{name}", name, kind) for name, kind in DOCS_FILES.items()),
    )
}

RAISING = {"MasaError", "BadRequest", "Busy", "__init__", "refusal"}
DEFAULTS = {"busy"}
"""Codes that no call spells."""

NOT_CLIENT_API = {
    *("handlers/between.py", "handlers/calls.py", "handlers/handed.py"),
    *("masa_node/commands", "masa_node/control.py", "masa_node/joined.py", "masa_node/pausing.py"),
    "masa_node/rotating.py",
    *("peers/guests.py", "peers/network", "peers/race.py", "peers/runner.py"),
}
"""What other nodes and the commands of this machine are told: docs/protocol.md has the codes of the peer API."""

SCHEMATHESIS = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "4xx", "503"]  # a model nobody has, with eliza alone: no_upstream

[[operations]]
include-method = "POST"
checks.positive_data_acceptance.enabled = false  # but for `model`, the body is for the upstream to judge
"""


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in value:
        return value
    found = DOCUMENT
    for name in value["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in resolved(item).items():
            if method.upper() in METHODS:
                yield method.upper(), path, operation


def nested(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in the document."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            yield from nested(child)


def routes() -> set[tuple[str, str]]:
    app = web.Application()
    client_routes(app)
    found = set()
    for route in app.router.routes():
        assert route.resource
        path = route.resource.canonical
        found |= {(method, path) for method in (METHODS if route.method == "*" else {route.method})}
    return found


def test_every_route_is_documented_and_nothing_else() -> None:
    assert {(method, path) for method, path, _ in operations()} == routes()


def test_it_is_openapi_of_this_version() -> None:
    OPENAPI_31_VALIDATOR.validate(DOCUMENT)
    assert DOCUMENT["info"]["version"] == __version__


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    references = {found["$ref"] for found in nested(DOCUMENT) if "$ref" in found}
    for reference in references:
        resolved({"$ref": reference})
    components = {
        f"#/components/{kind}/{name}"
        for kind, members in DOCUMENT["components"].items()
        if kind != "securitySchemes"
        for name in members
    }
    assert references == components


def test_operations_have_names_of_their_own_and_known_tags() -> None:
    names = [found["operationId"] for _, _, found in operations() if "operationId" in found]
    assert len(names) == len(set(names))
    assert {tag for _, _, found in operations() for tag in found["tags"]} == {tag["name"] for tag in DOCUMENT["tags"]}


def test_the_examples_are_what_the_schemas_say() -> None:
    checked = 0
    for media in (found for found in nested(DOCUMENT["paths"]) if "examples" in found and "schema" in found):
        validator = jsonschema_rs.validator_for({**media["schema"], "components": DOCUMENT["components"]})
        for example in media["examples"].values():
            validator.validate(example["value"])
            checked += 1
    assert checked > 20


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("llama3", True),
        ("@cf/meta/llama-3.1-8b-instruct", True),
        ("hf.co/user/model:Q4_K_M", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        ("a..b", False),
        ("a//b", False),
        ("a b", False),
        ("ü", False),
        (7, False),
    ],
)
def test_model_names_are_judged_as_the_node_judges_them(name: object, good: bool) -> None:
    assert jsonschema_rs.is_valid(DOCUMENT["components"]["schemas"]["ModelName"], name) is good


def test_every_error_code_is_listed_and_none_besides() -> None:
    said = set(DEFAULTS)
    for file in client_api():
        said |= {code for node in ast.walk(ast.parse(file.read_text())) for code in codes(node)}
    assert set(DOCUMENT["components"]["schemas"]["Code"]["enum"]) == said


def client_api() -> Iterator[Path]:
    """The files whose errors a caller of the client API can get."""
    for package in ("handlers", "masa_node", "peers"):
        for file in (ROOT / package).rglob("*.py"):
            places = {str(place.relative_to(ROOT)) for place in (file, *file.parents) if place.is_relative_to(ROOT)}
            if not places & NOT_CLIENT_API:
                yield file


def codes(node: ast.AST) -> Iterator[str]:
    if not isinstance(node, ast.Call):
        return
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name not in RAISING:
        return
    for value in [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "code")]:
        said = value.value if isinstance(value, ast.Constant) else None
        if isinstance(said, str) and re.fullmatch(r"[a-z]+(_[a-z]+)*", said):
            yield said


def test_every_error_has_the_shape_of_its_paths_dialect() -> None:
    checked = 0
    for _, path, operation in operations():
        for status, found in operation["responses"].items():
            if status < "400" or status == "default":
                continue
            # What fails before there is a request has the same shape on every path.
            dialect = "any" if status == "431" else dialect_of(path)
            body = error_body(MasaError(int(status), "busy", "words"), dialect, "id")
            schema = resolved(found)["content"]["application/json"]["schema"]
            jsonschema_rs.validate({**schema, "components": DOCUMENT["components"]}, body)
            checked += 1
    assert checked > 200


class Page(HTMLParser):
    """What a page refers to, and what it may not have under the node's Content-Security-Policy."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.inline: list[str] = []
        self.ids: set[str] = set()
        self._in_script = False
        self.feed(PAGES[name].decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self._in_script = tag == "script"
        self.targets += [value for name, value in attrs if name in ("href", "src") and value]
        self.inline += [name for name in told if name == "style" or name.startswith("on")]
        self.inline += [tag] if tag == "style" or (tag == "script" and "src" not in told) else []
        self.ids.add(told.get("id") or "")

    def handle_data(self, data: str) -> None:
        self.inline += [data] if self._in_script and data.strip() else []

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False


@pytest.mark.parametrize(("name", "at"), [("index.html", "/"), ("docs.html", "/docs")])
def test_a_page_has_nothing_inline_and_leads_to_this_node_only(name: str, at: str) -> None:
    page = Page(name)
    assert page.inline == []
    served = {path for _, path in routes()} | {f"/docs/{file}" for file in DOCS_FILES}
    for target in page.targets:
        assert urljoin(at, target) in served or target.removeprefix("#") in page.ids, target


def test_the_script_writes_text_only_and_asks_this_node_only() -> None:
    script = PAGES["docs.js"].decode()
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "import("):
        assert unsafe not in script
    assert re.findall(r"fetch\((.*?)\)", script) == ['"openapi.json"']
    assert "url(" not in PAGES["docs.css"].decode()


async def test_the_pages_are_served(tmp_path: Path) -> None:
    async with running_node(tmp_path) as node, aiohttp.ClientSession() as session:
        for path, (body, kind) in SERVED.items():
            async with session.get(node.url + path, headers={"Accept": "text/html,*/*"}) as answer:
                assert (answer.status, answer.content_type) == (200, kind), path
                assert await answer.read() == body, path
                assert kind != "text/html" or answer.headers["Content-Security-Policy"] == POLICY
        async with session.get(node.url) as answer:
            assert await answer.text() == "Ollama is running"


async def test_keys_are_needed_where_the_document_says(tmp_path: Path) -> None:
    async with (
        running_node(tmp_path, {"LLM_CHAT_URL": "eliza", "API_KEYS": "of-this-test"}) as node,
        aiohttp.ClientSession() as session,
    ):
        for method, path, operation in operations():
            url = node.url + path.replace("{id}", "eliza").replace("{file}", "docs.js").replace("{digest}", "x")
            async with session.request(method, url, headers={"Content-Type": "application/json"}) as answer:
                needs_key = operation.get("security") != []
                assert (answer.status == 401) is needs_key, (method, path)
                assert needs_key is ("401" in operation["responses"]), (method, path)


@pytest.fixture
def strict(tmp_path: Path) -> Path:
    """A folder with the document as it must hold with eliza alone: without what only other upstreams may answer."""
    document = json.loads(json.dumps(DOCUMENT))
    for found in nested(document):
        if "200" in found:
            found.pop("default", None)
        found.pop("*/*", None)
    folder = tmp_path / "schemathesis"
    folder.mkdir()
    (folder / "openapi.json").write_text(json.dumps(document))
    (folder / "schemathesis.toml").write_text(SCHEMATHESIS)
    return folder


@pytest.mark.slow
async def test_a_running_node_does_what_the_document_says(strict: Path, tmp_path: Path) -> None:
    async with running_node(tmp_path, {"LLM_CHAT_URL": "eliza"}) as node:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", node.url),
            *("--seed", "1", "--max-examples", "15", "--continue-on-failure", "--no-color"),
            cwd=strict,
            stdout=PIPE,
            stderr=STDOUT,
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
