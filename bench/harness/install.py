"""bench/install: the proxies that are too large to be fetched unasked."""

import argparse
import json
import shutil
import subprocess
import sys

from harness.home import HOME

LITELLM = HOME / "litellm"
PORTKEY = HOME / "portkey"
PORTKEY_SERVER = PORTKEY / "node_modules/@portkey-ai/gateway/build/start-server.js"
LITELLM_PACKAGE = "litellm[proxy]==1.106.2"
PORTKEY_PACKAGES = {
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    # with the newest that this release accepts, it cannot stream
    "overrides": {"@hono/node-server": "1.13.7", "hono": "4.9.7"},
}


def install_litellm() -> None:
    """Raises CalledProcessError, as install_portkey() does; OSError without npm."""
    subprocess.run((sys.executable, "-m", "venv", "--clear", LITELLM), check=True)
    pip = (LITELLM / "bin/python", "-m", "pip", "--disable-pip-version-check", "--quiet")
    subprocess.run((*pip, "install", LITELLM_PACKAGE), check=True)


def install_portkey() -> None:
    shutil.rmtree(PORTKEY, ignore_errors=True)
    PORTKEY.mkdir(parents=True)
    (PORTKEY / "package.json").write_text(json.dumps({"name": "bench", "private": True, **PORTKEY_PACKAGES}))
    subprocess.run(("npm", "install", "--no-audit", "--no-fund", "--silent"), cwd=PORTKEY, check=True)


INSTALLERS = {"litellm": install_litellm, "portkey": install_portkey}


def main() -> int:
    """Exit codes: 0 fine, 1 pip or npm failed, 2 usage."""
    parser = argparse.ArgumentParser(
        prog="bench/install", description="Installs proxies to measure into bench/.home, by pip and npm."
    )
    parser.add_argument("names", nargs="+", choices=list(INSTALLERS), metavar="NAME", help=", ".join(INSTALLERS))
    for name in parser.parse_args().names:
        print(f"bench: installing {name}", file=sys.stderr)
        try:
            INSTALLERS[name]()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"bench: {name} could not be installed: {error}", file=sys.stderr)
            return 1
    return 0
