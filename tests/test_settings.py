"""Settings: every wrong value is told by name and never shown, all at once; the documents agree with the fields."""

import re
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from config.fields import LOCAL_ORIGINS, MIB, secret_names, setting_names
from config.settings import ConfigError, Settings, help_table, load
from tests.wrong_settings import ALL_PROVIDERS, MARK, WRONG

ROOT = Path(__file__).parent.parent


def problems_of(environ: dict[str, str], cwd: Path) -> dict[str, str]:
    with pytest.raises(ConfigError) as raised:
        load(environ, cwd=cwd)
    assert raised.value.__cause__ is raised.value.__context__ is None
    return {problem.name: str(problem) for problem in raised.value.problems}


def said_of(environ: dict[str, str]) -> str:
    try:
        load(environ, cwd=Path("/nowhere"))
    except ConfigError as error:
        return str(error)
    return ""


def settings_of(environ: dict[str, str], cwd: Path) -> Settings:
    return load(environ, cwd=cwd).settings


def test_wrong_values_are_known_of_every_setting() -> None:
    assert set(WRONG) == set(setting_names())


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values if value]
)
def test_a_wrong_value_is_told_by_name_and_never_shown(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load({**ALL_PROVIDERS, name: value}, cwd=tmp_path)
    told = "".join(traceback.format_exception(raised.value)) + repr(raised.value) + str(raised.value)
    assert name in {problem.name for problem in raised.value.problems}
    assert all(problem.what and problem.remedy for problem in raised.value.problems)
    assert MARK not in told
    assert len(value) < 4 or value not in told


@given(name=st.sampled_from(sorted(setting_names())), before=st.text(), after=st.text())
def test_any_text_is_taken_or_told(name: str, before: str, after: str) -> None:
    for value in (before, before + MARK + after):
        assert MARK not in said_of({name: value})


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    wrong = {
        "PORT": "x",
        "LOG_LEVEL": "x",
        "HOST": "0.0.0.0",
        "PROVIDERS": "openai",
        "LLM_CF_URL": "https://api.cloudflare.com/client/v4/accounts/a/ai/run/",
        "MAX_BODY_BYTES": "1GiB",
        "LLM_CF_GATEWAY_TOKEN_FILE": "/nowhere/at/all",
    }
    told = problems_of(wrong, tmp_path)
    assert set(told) == {
        *("PORT", "LOG_LEVEL", "HOST", "OPENAI_API_KEY", "LLM_CF_TOKEN", "MAX_BODY_MEMORY", "LLM_CF_GATEWAY_TOKEN_FILE")
    }
    assert "ALLOW_OPEN_API=true" in told["HOST"]
    assert "PROVIDERS names openai" in told["OPENAI_API_KEY"]


@pytest.mark.parametrize("keys", [{"API_KEYS": "short"}, {"API_KEYS_FILE": "/nowhere/at/all"}])
def test_a_setting_that_is_wrong_itself_does_not_make_others_wrong(keys: dict[str, str], tmp_path: Path) -> None:
    assert set(problems_of({"HOST": "0.0.0.0", **keys}, tmp_path)) == set(keys)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_needs_no_key(host: str, tmp_path: Path) -> None:
    assert settings_of({"HOST": host}, tmp_path).host == host.strip("[]")


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.2", "node.example", "::ffff:127.0.0.1", "0177.0.0.1", "fe80::1%eth0"]
)
def test_any_other_host_needs_a_key_or_a_word(host: str, tmp_path: Path) -> None:
    assert set(problems_of({"HOST": host}, tmp_path)) == {"HOST"}
    assert settings_of({"HOST": host, "API_KEYS": "long-enough"}, tmp_path).host == host
    assert settings_of({"HOST": host, "ALLOW_OPEN_API": "true"}, tmp_path).host == host


def test_what_is_no_address_is_not_said_to_be_one(tmp_path: Path) -> None:
    for host, no_address in (("192.168.1.2", False), ("127.1", True), ("node.invalid", True)):
        assert ("neither an IP address nor localhost" in problems_of({"HOST": host}, tmp_path)["HOST"]) is no_address


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("LLM_CHAT_URL", "write for example LLM_CHAT_URL=http://127.0.0.1:11434, or leave it out"),
        ("LLM_CF_URL", "write for example LLM_CF_URL=https://gateway.ai.cloudflare.com/v1/ACCOUNT/GATEWAY/workers-ai/"),
        ("LLM_GROQ_URL", "write for example LLM_GROQ_URL=https://groq.example, or leave it out"),
    ],
)
def test_what_is_no_url_is_told_with_an_example_of_its_setting(name: str, remedy: str, tmp_path: Path) -> None:
    assert remedy in problems_of({**ALL_PROVIDERS, name: "x"}, tmp_path)[name]


@pytest.mark.parametrize(
    ("url", "needs_token"),
    [
        ("https://gateway.ai.cloudflare.com/v1/a/b/workers-ai/", True),
        ("https://CLOUDFLARE.com./x", True),
        ("https://notcloudflare.com/x", False),
        ("https://cloudflare.com.example/x", False),
    ],
)
def test_cloudflare_itself_needs_a_token(url: str, needs_token: bool, tmp_path: Path) -> None:
    if needs_token:
        assert set(problems_of({"LLM_CF_URL": url}, tmp_path)) == {"LLM_CF_TOKEN"}
    assert settings_of({"LLM_CF_URL": url, "LLM_CF_TOKEN": "token"}, tmp_path).llm_cf_url == url


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("PORT", "0", 0),
        ("API_KEYS", "first-key, second-key,", (SecretStr("first-key"), SecretStr("second-key"))),
        ("API_KEYS", "first-key\nsecond-key\n", (SecretStr("first-key"), SecretStr("second-key"))),
        ("ALLOWED_HOSTS", "Node.Example., box", ("node.example", "box")),
        ("CORS_ORIGINS", "none", ()),
        ("CORS_ORIGINS", "", LOCAL_ORIGINS),
        ("CORS_ORIGINS", ",".join(LOCAL_ORIGINS), LOCAL_ORIGINS),
        ("CORS_ORIGINS", "HTTPS://Chat.Example:*/, http://[::1]:3000", ("https://chat.example:*", "http://[::1]:3000")),
        ("LLM_CHAT_URL", "OFF", ("off",)),
        ("LLM_CHAT_URL", "http://a:1/v1, eliza,http://a:1/v1", ("http://a:1/v1", "eliza")),
        ("LLM_CF_MODELS", "@cf/meta/llama-3.1-8b-instruct", ("@cf/meta/llama-3.1-8b-instruct",)),
        ("MAX_BODY_BYTES", "2048", 2048),
        ("MAX_BODY_BYTES", "1.5 mib", 3 * MIB // 2),
        ("MAX_CONNECTIONS_PER_IP", "0", 0),
        ("LLM_TIMEOUT", "0.5", 0.5),
        ("LOG_LEVEL", "WARNING", "warning"),
        ("LOG_FORMAT", "Json", "json"),
        ("NODE_NAME", "Grüße vom Boden", "Grüße vom Boden"),
        ("MASA_DIR", "~/there", Path("~/there").expanduser()),
    ],
)
def test_what_values_mean(name: str, text: str, value: object, tmp_path: Path) -> None:
    assert getattr(settings_of({name: text}, tmp_path), setting_names()[name]) == value


def test_providers_are_named_in_any_case(tmp_path: Path) -> None:
    environ = {"PROVIDERS": "OpenAI, groq,openai", "OPENAI_API_KEY": "one", "GROQ_API_KEY": "two"}
    assert settings_of(environ, tmp_path).providers == ("openai", "groq")


@pytest.mark.parametrize(("machine", "name"), [("ho\x1bst", "host"), ("n" * 80, "n" * 64), ("\n", "masa-node")])
def test_the_node_is_named_like_its_machine(machine: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: machine)
    assert Settings().node_name == name


def test_no_home_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert set(problems_of({}, tmp_path)) == {"MASA_DIR"}
    assert settings_of({"MASA_DIR": str(tmp_path)}, tmp_path).masa_dir == tmp_path


def test_settings_are_frozen_and_know_their_names() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings(ports=1)  # type: ignore[call-arg]


def test_what_is_changed_is_told_with_its_source_and_secrets_masked(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("\nMAX_BODY_BYTES=1MiB\nLLM_CF_TOKEN=very-secret\nPORT=8080\nMASA_DIR=~/.masa\n")
    (tmp_path / "keys").write_text("key-number-1,key-number-2\n")
    environ = {
        "MASA_LLM_CHAT_URL": "http://me:very-secret@box:1/v1?key=very-secret,eliza",
        "API_KEYS_FILE": str(tmp_path / "keys"),
        "ALLOW_OPEN_API": "yes",
        "CORS_ORIGINS": "none",
    }
    loaded = load(environ, cwd=tmp_path)
    assert loaded.changed() == [
        ("API_KEYS", "***", f"file {tmp_path / 'keys'} named by API_KEYS_FILE"),
        ("ALLOW_OPEN_API", "true", "environment"),
        ("CORS_ORIGINS", "–", "environment"),
        ("LLM_CHAT_URL", "http://***@box:1/v1?***, eliza", "environment, as MASA_LLM_CHAT_URL"),
        ("LLM_CF_TOKEN", "***", ".env line 3"),
        ("MAX_BODY_BYTES", "1MiB", ".env line 2"),
    ]
    assert "very-secret" not in repr(loaded.gathered)
    assert "key-number" not in repr(loaded)


def test_nothing_set_is_nothing_changed(tmp_path: Path) -> None:
    loaded = load({}, cwd=tmp_path)
    assert loaded.changed() == []
    assert loaded.settings == Settings()
    assert loaded.gathered.env_file is None


def test_every_setting_is_described() -> None:
    assert all(re.fullmatch(r"[A-Z`].*\.", description) for _, _, description in help_table())


def test_the_table_of_docs_agrees_with_the_fields() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+?) \| (.+) \|$", (ROOT / "docs/settings.md").read_text(), re.M)
    assert [(name, default.strip("`"), meaning) for name, default, meaning in rows] == help_table()


def test_the_secrets_of_docs_agree_with_the_fields() -> None:
    said = re.search(r"this holds for (.+)\.", (ROOT / "docs/settings.md").read_text())
    assert said
    assert said[1].split(", ") == [f"`{name}`" for name in setting_names() if name in secret_names()]


def test_the_example_agrees_with_the_fields(tmp_path: Path) -> None:
    blocks = (ROOT / ".env.example").read_text().strip().split("\n\n")[1:]
    for block, (name, default, description) in zip(blocks, help_table(), strict=True):
        *comment, line = [line.removeprefix("# ") for line in block.splitlines()]
        said = description if line == f"{name}={default}" else f"{description} Default: {default}."
        assert (" ".join(comment), line.partition("=")[0]) == (said, name)
    (tmp_path / ".env").write_text("\n".join(block.splitlines()[-1].removeprefix("# ") for block in blocks))
    loaded = load({}, cwd=tmp_path)
    assert (loaded.changed(), loaded.gathered.notes) == ([], ())
