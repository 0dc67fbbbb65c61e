"""What bench/ says of proxies, aims and its page is well-formed. How fast anything is, is asserted nowhere."""

import os
import sys
import threading
import time
from argparse import Namespace
from importlib import import_module
from pathlib import Path
from string import Template
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
BENCH = ROOT / "bench"
FILLED = {"port": "1234", "upstream": "127.0.0.1:5678", "folder": "/somewhere"}


@pytest.fixture(autouse=True)
def _reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bench is no package: its programs find `harness` beside themselves."""
    monkeypatch.syspath_prepend(BENCH)


def harness(name: str) -> ModuleType:
    return import_module(f"harness.{name}")


def test_every_proxy_can_be_filled_in() -> None:
    proxies = harness("proxies").known(("masa-node",))
    assert [proxy.name for proxy in proxies] == [
        "direct", "nginx", "haproxy", "go", "masa-node", "litellm", "portkey",
    ]  # fmt: skip
    for proxy in proxies:
        files = [(BENCH / file).read_text() for file in proxy.files]
        texts = [Template(text) for text in (*proxy.command, *proxy.env.values(), *proxy.headers, *files)]
        filled = "\n".join(text.substitute(FILLED) for text in texts)
        assert not proxy.command or ("1234" in filled and "5678" in filled), proxy.name


def test_what_cannot_be_measured_is_left_out_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    cli, proxy = harness("cli"), harness("proxies").Proxy
    there = proxy("there", (sys.executable,))
    gone = proxy("gone", ("/no/such/program",), remedy="bench/install gone")
    alien = proxy("alien", (sys.executable,), dialects=("openai",))
    rare = proxy("rare", (sys.executable,), usual=False)
    args = Namespace(only=(), also=(), check=False, dialect="ollama")
    assert cli.chosen([there, gone, alien, rare], args) == [there]
    told = capsys.readouterr().err
    assert "gone is left out: there is no /no/such/program: bench/install gone" in told
    assert "alien is left out: it does not speak ollama" in told
    assert cli.chosen([there, rare], Namespace(**{**vars(args), "also": ("rare",)})) == [there, rare]
    with pytest.raises(SystemExit):
        cli.chosen([there], Namespace(**{**vars(args), "only": ("ther",)}))


def test_what_is_missing_is_fetched_once_it_is_wanted(tmp_path: Path) -> None:
    program = tmp_path / "program"

    def fetch() -> None:
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)

    assert harness("proxies").Proxy("fetched", (str(program),), fetch=fetch).left_out("openai") == ""


@pytest.mark.parametrize(
    ("against", "own", "other", "value", "met"),
    [
        ("", 12.0, 0.0, 12, True),
        ("", 12.5, 0.0, 12.5, False),
        ("nginx", 60.0, 5.0, 12, True),
        ("nginx", 60.0, 0.0, None, None),
        ("-nginx", 60.0, 50.0, 10, True),
        ("-nginx", 60.0, 40.0, 20, False),
        ("÷nginx", 5.0, 60.0, 12, True),
        ("÷nginx", 6.0, 60.0, 10, False),
    ],
)
def test_an_aim_is_set_beside_what_was_measured(
    against: str, own: float, other: float, value: float | None, met: bool | None
) -> None:
    aim = harness("aims").Aim("something", "c32.cpu_each", 12, 10, against)
    medians = {"masa-node": {"c32.cpu_each": own}, "nginx": {"c32.cpu_each": other}}
    assert aim.value(medians) == value
    assert aim.row(medians)[-1] == {True: "met", False: "**not met**", None: ""}[met]
    assert aim.row({})[-2:] == ["not measured", ""]


def test_a_report_takes_the_place_of_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, page = harness("runs"), tmp_path / "page.md"
    first, last = runs.marks("bench/run")
    page.write_text(f"before\n{first}\nold\n{last}\nafter\n")
    for report in ("new", "newer"):
        runs.publish(report, "bench/run", page)
        assert capsys.readouterr().out == f"{report}\n"
        assert page.read_text() == f"before\n{first}\n\n{report}\n{last}\nafter\n"


def test_the_page_has_a_place_for_each_report() -> None:
    page = (ROOT / "docs/performance.md").read_text()
    for program in ("bench/run", "bench/races"):
        first, last = harness("runs").marks(program)
        assert page.count(first) == page.count(last) == 1
        assert "### Aims" in page.partition(first)[2].partition(last)[0], f"no figures of {program}"


@pytest.mark.skipif(sys.platform != "linux", reason="the bench needs Linux")
def test_a_thread_that_has_ended_still_counts() -> None:
    spent, cpu_us = 0.05, harness("processes").cpu_us

    def work() -> None:
        while time.thread_time() < spent:
            pass

    before = cpu_us([os.getpid()])
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert cpu_us([os.getpid()]) - before >= spent * 1e6
    assert cpu_us([2**22 + 1]) == 0
