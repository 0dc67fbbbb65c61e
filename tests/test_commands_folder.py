"""Commands on a MASA_DIR that cannot be used, and options that say nothing: one line with the remedy, the exit code."""

import errno
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from masa_node.cli import main
from masa_node.control import SOCKET
from peers.network.identity import KEY_FILE, load_identity
from peers.network.store import Store
from tests.fleet import SECRET

ON_THE_FOLDER = ["invite", f"join {SECRET.text}", "leave", "rotate", "pause", "resume", "stake issue self"]
Run = Callable[[str], tuple[int, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "masa"


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command on `folder`: its exit code, and what it says on standard error."""
    for name in os.environ:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MASA_DIR", str(folder))
    monkeypatch.chdir(folder.parent)

    def once(words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(words.split(" "))
        return int(ended.value.code or 0), capsys.readouterr().err

    return once


def with_key(spoil: Callable[[Path], object]) -> Callable[[Path], None]:
    def made(folder: Path) -> None:
        load_identity(folder)
        spoil(folder)

    return made


def folder_for_key(folder: Path) -> None:
    (folder / KEY_FILE).unlink()
    (folder / KEY_FILE).mkdir()


IN_THE_WAY = "move away what is in the way, or set MASA_DIR"


@pytest.mark.parametrize("words", ON_THE_FOLDER)
@pytest.mark.parametrize(
    ("spoil", "remedy"),
    [
        (with_key(lambda folder: (folder / KEY_FILE).chmod(0o644)), "run: chmod 600"),
        (with_key(lambda folder: (folder / KEY_FILE).write_text("")), "restore it, or move it away"),
        (with_key(folder_for_key), IN_THE_WAY),
        (lambda folder: folder.write_text("a file"), IN_THE_WAY),
        (lambda folder: folder.symlink_to("nowhere"), IN_THE_WAY),
        (lambda folder: folder.symlink_to(folder), IN_THE_WAY),
    ],
)
def test_every_command_says_in_one_line_why_and_what_to_do(
    spoil: Callable[[Path], object], remedy: str, words: str, folder: Path, run: Run
) -> None:
    spoil(folder)
    code, said = run(words)
    assert (code, said.count("\n"), said[:11]) == (1, 1, "masa-node: ")
    assert f"{folder}" in said
    assert remedy in said
    assert "Errno" not in said


@pytest.mark.parametrize("words", ["invite", "leave", "rotate", "pause", "resume"])
def test_a_folder_for_the_lock_is_told(words: str, folder: Path, run: Run) -> None:
    (folder / "lock").mkdir(parents=True)
    code, said = run(words)
    assert code == 1
    assert f"(Is a directory: {folder / 'lock'}); {IN_THE_WAY}" in said


@pytest.mark.parametrize("words", ["invite", "rotate", "stake show", f"join {SECRET.text}"])
def test_a_damaged_secret_is_told_by_its_file(words: str, folder: Path, run: Run) -> None:
    Store(folder).keep_secrets((SECRET,))
    (folder / "network" / "secret").write_text("garbage")
    code, said = run(words)
    assert (code, said.count("\n")) == (1, 1)
    assert f"{folder / 'network' / 'secret'} holds no network's secret" in said
    assert "or remove that file" in said


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "make room"), (errno.EDQUOT, "make room"), (errno.EROFS, "make it writable")]
)
@pytest.mark.parametrize("words", ["invite", "stake issue self"])
def test_what_the_disk_does_not_take_is_told_with_a_remedy(
    words: str, number: int, remedy: str, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    load_identity(folder)
    for place in ("peers.network.store", "peers.network.authority"):
        monkeypatch.setattr(f"{place}.write_whole", refuse)
    code, said = run(words)
    assert code == 1
    assert f"MASA_DIR {folder} cannot be used (" in said
    assert f"); {remedy}, or set MASA_DIR to a folder of your own" in said
    assert "Errno" not in said


@pytest.mark.parametrize(
    "words",
    [
        "pause --for ",
        "invite --address ",
        "rotate --without ",
        "run --env-file ",
        "doctor --env-file ",
        "chat --model ",
        "models --url ",
        "models --key ",
    ],
)
def test_an_empty_option_is_no_default(words: str, folder: Path, run: Run) -> None:
    code, said = run(words)
    assert code == 2
    assert "it is empty: say which, or leave the option out" in said
    assert not folder.exists()


def test_a_node_that_hangs_up_is_told_from_one_that_does_not_run(folder: Path, run: Run) -> None:
    load_identity(folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / SOCKET))
        listener.listen()
        hanging_up = threading.Thread(target=lambda: listener.accept()[0].close())
        hanging_up.start()
        code, said = run("pause")
        hanging_up.join()
    assert (code, said) == (1, "masa-node: the node that runs on this folder did not answer; its log says more\n")


def test_a_token_file_that_cannot_be_read_is_a_wrong_setting(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOIN_TOKEN_FILE", "nowhere")
    code, said = run("join")
    assert code == 2
    assert "JOIN_TOKEN_FILE names a file that cannot be read" in said


def test_this_nodes_own_name_is_told_apart_from_nobodys(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "n2")
    assert run("invite")[0] == 0
    code, said = run("rotate --without n2")
    assert (code, said) == (
        2,
        "masa-node: n2 is this node itself; run this on a node that stays; nothing was changed\n",
    )
