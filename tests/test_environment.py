"""The reading of the environment and `.env`: which value wins, where it is from, and what the operator is told."""

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.env_file import Entry, parse
from config.environment import Gathered, distance, gather
from config.fields import setting_names

PIECES = st.sampled_from(
    ["export ", "PORT", "LLM_CF_TOKEN", "=", " = ", "'", '"', ";", "#", "\\", "\n", "\r\n", "\r", " x", "\u2028"]
)
ENV_TEXT = st.text() | st.lists(PIECES | st.text(max_size=3), max_size=30).map("".join)


def told(environ: dict[str, str], env_text: str, folder: Path, mode: int = 0o600) -> Gathered:
    file = folder / ".env"
    file.write_text(env_text)
    file.chmod(mode)
    return gather(environ, file)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("PORT=1", "1"),
        ("PORT=1 # comment", "1"),
        ("PORT=1; # comment", "1"),
        ("  PORT = 1 ;  ", "1"),
        ("export PORT=1;", "1"),
        ("export PORT = '1';", "1"),
        ('export PORT = "1" ; # comment', "1"),
        ("PORT='1;'", "1;"),
        ("PORT=a#b$HOME${X}", "a#b$HOME${X}"),
        ('PORT="a\nb";', "a\nb"),
        ("PORT=1\r\n", "1"),
        ("\ufeffPORT=1", "1"),
        ("PORT=", ""),
        ("PORT=0\nPORT=1", "1"),
    ],
)
def test_forms_of_a_line(text: str, value: str) -> None:
    assert {entry.name: entry.value for entry in parse(text)} == {"PORT": value}


def test_a_quote_left_open_costs_its_own_line_only() -> None:
    found = list(parse("\n# words\n\nA='x\nB=y\n\nC='z\nD=1\nnothing\nset E=1\n"))
    assert found == [
        Entry(4, None, "A='x"),
        Entry(5, "B", "y"),
        Entry(7, None, "C='z"),
        Entry(8, "D", "1"),
        Entry(9, None, "nothing"),
        Entry(10, None, "set E=1"),
    ]


@given(text=ENV_TEXT)
def test_any_text_can_be_read(text: str) -> None:
    lines = text.count("\n") + text.count("\r") + 1
    assert all(1 <= entry.line <= lines for entry in parse(text))


@given(content=st.binary() | ENV_TEXT.map(lambda text: text.encode(errors="surrogatepass")))
def test_any_file_can_be_read(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "any.env"
    file.write_bytes(content)
    names = {problem.name for problem in gather({}, file).problems}
    assert names <= {"any.env", "LLM_CF_TOKEN_FILE", *setting_names()}


PLACES = [("environ", "MASA_PORT"), ("file", "MASA_PORT"), ("environ", "PORT"), ("file", "PORT")]
SOURCES = ["environment, as MASA_PORT", ".env line 1, as MASA_PORT", "environment", ".env line 1"]


@pytest.mark.parametrize("places", [c for n in range(1, 5) for c in itertools.combinations(range(4), n)])
def test_the_prefix_wins_and_then_the_environment(places: tuple[int, ...], tmp_path: Path) -> None:
    environ = {name: str(i) for i, (place, name) in enumerate(PLACES) if place == "environ" and i in places}
    lines = [f"{name}={i}" for i, (place, name) in enumerate(PLACES) if place == "file" and i in places]
    found = told(environ, "\n".join(lines), tmp_path)
    assert found.values == {"port": str(places[0])}
    assert found.sources["port"].replace("line 2", "line 1") == SOURCES[places[0]]


def test_what_is_set_to_nothing_is_not_set(tmp_path: Path) -> None:
    found = told({"MASA_PORT": "", "PORT": "  ", "HOST": ""}, "PORT=7\nNODE_NAME=\nAPI_KEYS_FILE=", tmp_path)
    assert (found.values, found.notes) == ({"port": "7"}, ())


def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\xef\xbb\xbf from-file \r\n")
    found = told({"MASA_LLM_CF_TOKEN_FILE": str(secret), "PORT_FILE": str(secret)}, "LLM_CF_TOKEN=other", tmp_path)
    assert found.values == {"llm_cf_token": "from-file"}
    assert found.sources == {"llm_cf_token": f"file {secret} named by MASA_LLM_CF_TOKEN_FILE"}


def test_the_file_of_a_secret_is_known_while_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-file")
    environ = {"LLM_CF_TOKEN_FILE": str(tmp_path / "secret"), "STAKE_CERTIFICATE_FILE": str(tmp_path / "none")}
    environ |= {"API_KEYS": "long-enough", "API_KEYS_FILE": str(tmp_path / "secret")}
    assert told(environ, "", tmp_path).files == {"llm_cf_token": tmp_path / "secret"}


def test_a_secret_beside_its_file_wins_and_is_told(tmp_path: Path) -> None:
    found = told({"API_KEYS": "long-enough", "API_KEYS_FILE": "/nowhere"}, "", tmp_path)
    assert (found.values, found.problems) == ({"api_keys": "long-enough"}, ())
    assert found.notes == ("API_KEYS_FILE is not used, because API_KEYS is set",)


def test_a_setting_that_stands_twice_in_the_file_is_told(tmp_path: Path) -> None:
    found = told({}, "PORT=1\nOTHER=1\nMASA_PORT=7\nPORT=2\nOTHER=2\nPORT=3\n", tmp_path)
    assert found.values == {"port": "7"}
    assert found.notes == tuple(
        f".env line {line}: PORT is set on line 1 already; the last one counts" for line in (4, 6)
    )


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff", b"x" * 70_000])
def test_a_secret_file_that_says_nothing_is_a_problem(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "canary-secret"
    if content is not None:
        file.write_bytes(content)
    found = told({"API_KEYS_FILE": str(file)}, "", tmp_path)
    assert [problem.name for problem in found.problems] == ["API_KEYS_FILE"]
    assert "canary" not in str(found.problems)
    assert found.values == {}


def test_the_file_asked_for_must_be_there(tmp_path: Path) -> None:
    found = gather({"PORT": "7"}, tmp_path / "other.env")
    assert ([problem.name for problem in found.problems], found.env_file) == (["--env-file"], None)
    assert found.values == {"port": "7"}


def test_a_file_that_is_no_text_is_a_problem(tmp_path: Path) -> None:
    for content in (b"\xff\xfeP\0", b"#" * 300_000):
        (tmp_path / "my.env").write_bytes(content)
        assert [problem.name for problem in gather({}, tmp_path / "my.env").problems] == ["my.env"]
    assert [problem.name for problem in gather({}, tmp_path).problems] == [tmp_path.name]


@pytest.mark.parametrize(
    ("environ", "text", "value", "notes"),
    [
        ({"OLLAMA_BASE_URL": "a"}, "", "a", ["OLLAMA_BASE_URL is used as LLM_CHAT_URL"]),
        ({}, "OLLAMA_ENDPOINT=a", "a", ["OLLAMA_ENDPOINT is used as LLM_CHAT_URL"]),
        ({"OLLAMA_BASE_URL": "a"}, "LLM_CHAT_URL=b", "b", ["OLLAMA_BASE_URL is not used, because LLM_CHAT_URL is set"]),
        ({"OLLAMA_HOST": "a", "OPENAI_BASE_URL": "a", "ANTHROPIC_BASE_URL": "a"}, "", None, []),
    ],
)
def test_other_names(environ: dict[str, str], text: str, value: str | None, notes: list[str], tmp_path: Path) -> None:
    found = told(environ, text, tmp_path)
    assert found.values.get("llm_chat_url") == value
    assert list(found.notes) == notes


def test_a_key_alone_switches_nothing_on(tmp_path: Path) -> None:
    found = told({"OPENAI_API_KEY": "not needed", "GROQ_API_KEY": "k", "PROVIDERS": "groq,canary"}, "", tmp_path)
    assert found.values == {"groq_api_key": "k", "providers": "groq,canary"}
    assert found.notes == ("OPENAI_API_KEY is set but not used; PROVIDERS=groq,openai switches it on",)


def test_names_that_are_nearly_a_setting_are_told(tmp_path: Path) -> None:
    text = "# words\n\nPORT=1\nLLM_CHAT_ULR=canary\nAPI_KEY=canary\nport=canary\nOTHER=canary\nLLM_CF_TOKEN_FIL=canary"
    environ = {"MASA_PROT": "canary", "LLM_CF_MODEL": "canary", "HOSTS": "canary", "MASA_PORT": "1", "MASA_X": "canary"}
    assert list(told(environ, text, tmp_path).notes) == [
        "environment: MASA_PROT is not a setting; did you mean MASA_PORT?",
        "environment: LLM_CF_MODEL is not a setting; did you mean LLM_CF_MODELS?",
        ".env line 4: LLM_CHAT_ULR is not a setting; did you mean LLM_CHAT_URL?",
        ".env line 5: API_KEY is not a setting; did you mean API_KEYS?",
        ".env line 6: port is not a setting; did you mean PORT?",
        ".env line 8: LLM_CF_TOKEN_FIL is not a setting; did you mean LLM_CF_TOKEN_FILE?",
    ]


def test_a_line_that_cannot_be_read_is_told_by_number(tmp_path: Path) -> None:
    assert told({}, "PORT=1\nset X='canary\n", tmp_path).notes == (".env line 2 cannot be read",)


def test_a_setting_on_a_line_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    """It may be what keeps strangers out."""
    found = told({}, "PORT=1\nexport API_KEYS='canary\n", tmp_path)
    assert [(problem.name, problem.what) for problem in found.problems] == [
        ("API_KEYS", "(.env line 2) cannot be read")
    ]
    assert not found.notes
    assert "canary" not in repr(found)


def test_names_of_later_versions_are_told(tmp_path: Path) -> None:
    environ = {"MASA_CACHE_TTL": "x", "MIN_STAKE": "8", "RPC_URL": "", "NOVELAI_ANY": "x", "JOIN_TOKEN_FILE": "x"}
    found = told(environ, "SECRET_KEY_FILE=x\nMIN_STAKE=all\nLLM_MODEL=x\nJOIN_TOKEN_FILE=x", tmp_path)
    names = ["MASA_CACHE_TTL", "MIN_STAKE", "NOVELAI_ANY", "SECRET_KEY_FILE", "LLM_MODEL"]
    assert list(found.notes) == [f"{name} is for a later version and has no effect yet" for name in names]


@pytest.mark.skipif(os.name != "posix", reason="file modes")
@pytest.mark.parametrize(
    ("line", "mode", "warned"),
    [
        ("LLM_CF_TOKEN=x", 0o640, True),
        ("MASA_OPENAI_API_KEY=x", 0o604, True),
        ("LLM_CF_TOKEN=x", 0o600, False),
        ("LLM_CF_TOKEN=", 0o644, False),
        ("PORT=1", 0o644, False),
    ],
)
def test_a_secret_that_others_can_read_is_told(line: str, mode: int, warned: bool, tmp_path: Path) -> None:
    notes = [note for note in told({}, line, tmp_path, mode).notes if "chmod" in note]
    expected = f".env holds a secret and other users can read it: chmod 600 {tmp_path / '.env'}"
    assert notes == ([expected] if warned else [])


@pytest.mark.parametrize(
    ("one", "other", "letters"),
    [
        ("PORT", "PORT", 0),
        ("PROT", "PORT", 2),
        ("PRT", "PORT", 1),
        ("PORTS", "PORT", 1),
        ("HOST", "PORT", 2),
        ("", "AB", 2),
        ("A", "ABCD", 3),
    ],
)
def test_distance(one: str, other: str, letters: int) -> None:
    assert distance(one, other) == distance(other, one) == letters
