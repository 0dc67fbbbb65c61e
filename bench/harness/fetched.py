"""Programs that the bench gets for itself when they are wanted, into bench/.home: apt's packages, the Go proxy."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.home import BENCH, HOME

SYSTEM = "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/opt/homebrew/bin"
FETCH_LIMIT_S = 120


@dataclass(frozen=True)
class Packaged:
    """A program that is installed, or else unpacked from apt's packages into HOME: nothing is installed by it."""

    program: str
    also: tuple[str, ...] = ()
    """Packages of libraries that a small system lacks."""

    @property
    def path(self) -> str:
        return shutil.which(self.program, path=SYSTEM) or str(self._folder / "usr/sbin" / self.program)

    @property
    def libraries(self) -> str:
        """Where its own ones lie, for LD_LIBRARY_PATH."""
        return str(self._folder / "usr/lib" / f"{platform.machine()}-linux-gnu")

    def fetch(self) -> None:
        """Leaves nothing when apt has no list of packages, one looks otherwise, or a library is missing still."""
        if Path(self.path).exists() or not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._run("apt-get", "download", self.program, *self.also)
            for package in self._folder.glob("*.deb"):
                self._run("dpkg-deb", "-x", str(package), ".")
            self._run(self.path, "-v")
        except (OSError, subprocess.SubprocessError):
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _folder(self) -> Path:
        return HOME / self.program

    def _run(self, *command: str) -> None:
        env = {**os.environ, "LD_LIBRARY_PATH": self.libraries}
        subprocess.run(command, cwd=self._folder, env=env, capture_output=True, check=True, timeout=FETCH_LIMIT_S)


NGINX = Packaged("nginx")
HAPROXY = Packaged("haproxy", ("liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"))

GO_SOURCE, GO_PROXY = BENCH / "goproxy", HOME / "goproxy"


def build_go_proxy() -> None:
    """Where there is a Go; its own version is used, and nothing is fetched."""
    if not (go := shutil.which("go")):
        return
    if not GO_PROXY.exists() or GO_PROXY.stat().st_mtime < (GO_SOURCE / "main.go").stat().st_mtime:
        env = {**os.environ, "GOTOOLCHAIN": "local"}
        subprocess.run((go, "build", "-o", GO_PROXY, "."), cwd=GO_SOURCE, env=env, check=True)
