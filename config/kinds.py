"""The kinds of value a setting can have: how each is read from text, and what can be wrong with it, in words."""

import os
import re
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, ByteSize, SecretStr
from yarl import URL

Provider = Literal["openai", "groq", "deepseek", "anthropic"]
PROVIDERS: tuple[Provider, ...] = get_args(Provider)
DAY = 86400
LOCAL_ORIGINS = (
    "http://localhost:*",
    "https://localhost:*",
    "http://127.0.0.1:*",
    "https://127.0.0.1:*",
    "app://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)
_HOST_NAME = re.compile(
    r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?", re.I | re.A
)
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+|\*)(?::([0-9]{1,5}|\*))?", re.A)
_MODEL = re.compile(r"[A-Za-z0-9@._:/-]{1,128}")
_SIZE = re.compile(r"[0-9]{1,15}(\.[0-9]{1,6})?\s*([kmg]i?b|b)?", re.I | re.A)
_COMMA = re.compile(r"[,\r\n]")
_WORD = re.compile(r"[!-~]+")


class Wrong(ValueError):
    """A value that cannot be taken. Neither text repeats it."""

    def __init__(self, what: str, remedy: str | None = None) -> None:
        """Without a remedy of its own, the setting's example is one."""
        super().__init__(what)
        self.what = what
        self.remedy = remedy


def split(value: Any) -> Any:
    """A list by comma or line. One of commas alone is refused: an API_KEYS that holds no key must not open the node."""
    if not isinstance(value, str):
        return value
    entries = words(value)
    if not entries:
        raise Wrong("holds no entry", "write entries with commas between them, or leave it out")
    return entries


def words(text: str) -> tuple[str, ...]:
    return tuple(word for part in _COMMA.split(text) if (word := part.strip()))


def once(entries: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(entries))


def lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def secret(value: SecretStr) -> SecretStr:
    """What can stand in a header."""
    if not _WORD.fullmatch(value.get_secret_value()):
        raise Wrong("is not one word of printable ASCII", "copy it again, without blanks or line breaks")
    return value


def api_key(value: SecretStr) -> SecretStr:
    if len(secret(value).get_secret_value()) < 8:
        raise Wrong("is shorter than 8 characters", "make a long one, for example with: openssl rand -hex 24")
    return value


def host(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not is_host(bare):
        raise Wrong("is not a host name or an IP address", "write it without scheme, port or path, as in 127.0.0.1")
    return bare


def allowed_host(text: str) -> str:
    return host(text).lower().removesuffix(".")


def is_host(text: str) -> bool:
    return is_address(text) or (len(text) <= 253 and _HOST_NAME.fullmatch(text) is not None)


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    return ip_address(name).is_loopback if is_address(name) else name.lower() == "localhost"


def split_or_none(value: Any) -> Any:
    """A list; `none` is the empty one."""
    return () if lower(value) == "none" else split(value)


def origin(text: str) -> str:
    """`scheme://host[:port]`, with `*` for any port. Of schemes that are not the web's, `*` may also be the host."""
    bare = text.lower().removesuffix("/")
    match = _ORIGIN.fullmatch(bare)
    if not match or (match[2] == "*" and match[1] in ("http", "https")):
        raise Wrong(
            "is not scheme://host, scheme://host:port or scheme://host:*", "write it as in https://chat.example"
        )
    if match[3] not in (None, "*") and not 0 < int(match[3]) < 65536:
        raise Wrong("has a port that does not exist", "write one from 1 to 65535, or * for any")
    return bare


def url(text: str) -> str:
    """An http or https URL, kept as it was written."""
    if not text.isprintable() or " " in text:
        raise Wrong("is a URL with blanks or control characters")
    try:
        parts = URL(text)
        port = parts.port
    except ValueError:
        raise Wrong("is not a URL") from None
    if parts.scheme not in ("http", "https") or not port or not is_host(parts.raw_host or ""):
        raise Wrong("is not an http:// or https:// URL with a host")
    if parts.fragment:
        raise Wrong("is a URL with a fragment", "leave out # and what follows it")
    return text


def keyed_url(text: str) -> str:
    """Of a place that is asked with a key of its own: user and password in the URL would be a second one."""
    if URL(url(text)).raw_user is not None:
        raise Wrong("has a user or password in it", "leave out what stands before the @; the key has its own setting")
    return text


def chat_place(text: str) -> str:
    word = text.lower()
    return word if word in ("off", "eliza") else url(text)


def chat_places(entries: tuple[str, ...]) -> tuple[str, ...]:
    if "off" in entries and len(entries) > 1:
        raise Wrong("has `off` among other entries", "write off alone, or leave it out of the list")
    return once(entries)


def masked_url(text: str) -> str:
    """For people and logs: without the user, the password and the query, any of which may be a secret."""
    if "@" not in text and "?" not in text:
        return text
    try:
        parts = URL(text)
    except ValueError:
        return "***"
    user, _, place = parts.authority.rpartition("@")
    return f"{parts.scheme}://{'***@' if user else ''}{place}{parts.path}{'?***' if parts.query_string else ''}"


def model(text: str) -> str:
    if not _MODEL.fullmatch(text) or ".." in text or "//" in text:
        raise Wrong("is not a model name", "write names as the server lists them, with commas between them")
    return text


def node_name(text: str) -> str:
    if not text.isprintable() or not 0 < len(text) <= 64:
        raise Wrong("is not 1 to 64 printable characters", "choose a shorter or plainer name")
    return text


def machine_name() -> str:
    return "".join(letter for letter in socket.gethostname() if letter.isprintable())[:64].strip() or "masa-node"


def home_folder() -> Path:
    """With its ~ where there is no home folder; `folder` then says so."""
    return Path(os.path.expanduser("~/.masa"))


def folder(path: Path) -> Path:
    try:
        full = path.expanduser()
    except RuntimeError:
        raise Wrong("begins with ~, but there is no such home folder", "write the whole path") from None
    if "\0" in str(full):
        raise Wrong("is not a path", "write the path of a folder")
    return full


def size(value: Any) -> Any:
    """Stricter than ByteSize, which ignores what follows the unit and takes bits."""
    if isinstance(value, str) and not _SIZE.fullmatch(value.strip()):
        raise Wrong(
            "is not a number of bytes", "write a number, alone or with B, kB, MB, GB, KiB, MiB or GiB, as in 32MiB"
        )
    return value


ApiKeys = Annotated[tuple[Annotated[SecretStr, AfterValidator(api_key)], ...], BeforeValidator(split)]
Bytes = Annotated[ByteSize, BeforeValidator(size)]
ChatPlaces = Annotated[
    tuple[Annotated[str, AfterValidator(chat_place)], ...], BeforeValidator(split), AfterValidator(chat_places)
]
Folder = Annotated[Path, AfterValidator(folder)]
Host = Annotated[str, AfterValidator(host)]
HostNames = Annotated[tuple[Annotated[str, AfterValidator(allowed_host)], ...], BeforeValidator(split)]
Models = Annotated[tuple[Annotated[str, AfterValidator(model)], ...], BeforeValidator(split), AfterValidator(once)]
NodeName = Annotated[str, AfterValidator(node_name)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(origin)], ...], BeforeValidator(split_or_none)]
Secret = Annotated[SecretStr, AfterValidator(secret)]
Url = Annotated[str, AfterValidator(keyed_url)]
