"""bench/.home: the two C programs and the request bodies."""

import json
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
