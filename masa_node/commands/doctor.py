"""`masa-node doctor`: looks at all a node needs, with or without one running; every finding says what to do."""

import argparse
import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

from config.logs import set_up
from config.settings import ConfigError, Loaded, load
from masa_node.commands.findings import Finding, exit_code, show
from masa_node.commands.machine_checks import check_clock, check_files, check_folder, check_host, check_port
from masa_node.commands.network_checks import check_network
from masa_node.commands.upstream_checks import check_upstreams
from masa_node.means import check_stake
from masa_node.surroundings import in_container

IF_NOT_MEANT = "if that is not meant, correct or remove it; docs/settings.md lists every setting"


def main(arguments: argparse.Namespace) -> int:
    try:
        loaded = load(os.environ, Path(arguments.env_file) if arguments.env_file else None)
        check_stake(loaded.settings)
    except ConfigError as error:
        wrong = [Finding("configuration", "fail", f"{one.name} {one.what}", one.remedy) for one in error.problems]
        show(wrong, as_json=arguments.json)
        return 2
    set_up("error", None)  # What upstreams log of themselves is told as findings.
    findings = list(examine(loaded))
    show(findings, as_json=arguments.json)
    return exit_code(findings)


def examine(loaded: Loaded) -> Iterator[Finding]:
    settings = loaded.settings
    yield from check_configuration(loaded)
    port = list(check_port(settings))
    running = any(finding.check == "node" for finding in port)
    yield from check_folder(settings.masa_dir, running=running)
    yield from port
    yield from check_host(settings)
    yield from check_network(settings, running=running)
    yield from asyncio.run(check_upstreams(settings, contained=in_container(Path("/"))))
    yield from check_clock(time.time())
    yield from check_files()


def check_configuration(loaded: Loaded) -> Iterator[Finding]:
    gathered = loaded.gathered
    changed = len(loaded.changed())
    read = f"{gathered.env_file} and the environment" if gathered.env_file else "the environment; there is no .env here"
    yield Finding("configuration", "ok", f"read from {read}; not at their defaults: {changed}")
    for note in gathered.notes:
        yield Finding("configuration", "warn", note, IF_NOT_MEANT)
