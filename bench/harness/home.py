"""bench/.home: the two C programs, the request bodies, and nginx when it is not installed but apt has it."""

import json
import shutil
import subprocess
from pathlib import Path

BENCH = Path(__file__).parent.parent
HOME = BENCH / ".home"
PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}
MODEL = "bench"
MIB = 1 << 20


def build() -> None:
    """Compile what is older than its source; write the request bodies."""
    HOME.mkdir(exist_ok=True)
    for source in sorted((BENCH / "c").glob("*.c")):
        program = HOME / source.stem
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", program, source], check=True)
    for kind, content in (("short", "Why is the sky blue? One sentence, please."), ("long", "a" * MIB)):
        for stream in (False, True):
            question = {"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": content}]}
            body_file(kind, stream=stream).write_text(json.dumps(question, separators=(",", ":")))


def body_file(kind: str, *, stream: bool) -> Path:
    """The request body of a `short` or `long` (1 MiB) prompt: the same in both dialects."""
    return HOME / f"{kind}{'_stream' if stream else ''}.json"


def find_nginx() -> str:
    """The nginx program: the installed one, else one unpacked from apt's package into HOME. Installs nothing.

    Returns just `nginx`, which is not found, when neither is to be had.
    """
    unpacked = HOME / "nginx" / "usr" / "sbin" / "nginx"
    installed = shutil.which("nginx", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/opt/homebrew/bin")
    if installed or unpacked.exists():
        return installed or str(unpacked)
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        _unpack_nginx(unpacked)
    return str(unpacked) if unpacked.exists() else "nginx"


def _unpack_nginx(program: Path) -> None:
    """Leaves nothing when apt has no list of packages, the package looks otherwise, or the program lacks a library."""
    try:
        _quietly("apt-get", "download", "nginx")
        _quietly("dpkg-deb", "-x", max(HOME.glob("nginx_*.deb")), "nginx")
        _quietly(program, "-v")
    except (OSError, ValueError, subprocess.SubprocessError):
        shutil.rmtree(HOME / "nginx", ignore_errors=True)


def _quietly(*command: str | Path) -> None:
    subprocess.run(command, cwd=HOME, capture_output=True, check=True, timeout=120)
