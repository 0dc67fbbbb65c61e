"""Correctness alone, without a clock: what passes through a proxy must be what the mock said, and heard."""

import http.client
from collections.abc import Sequence

from harness.home import PATHS, body_file
from harness.loads import FAILURES, Load, generate, streams
from harness.processes import Cpus
from harness.serving import Mock, Running
from harness.tables import table

Reply = tuple[int, str | None, bytes]
HASHED = {"check": 1, "chunks": 20, "interval": 2}
"""Every reply carries a hash of the request body: the same reply came of the same question."""
BODIES = {
    "whole": ("short", False, HASHED),
    "stream": ("short", True, HASHED),
    "1 MiB prompt": ("long", False, HASHED),
    "1 MiB prompt, stream": ("long", True, HASHED),
    "200 KiB reply": ("short", False, {"reply": 200 << 10}),
}
MANY = (streams("", 50, chunks=20, interval=5, ramp_ms=50, replies=2), Load("", 50, replies=20))


def check(all_running: Sequence[Running], mock: Mock, cpus: Cpus) -> tuple[str, bool]:
    """A Markdown table of what was compared, and whether all of it was right."""
    names = [running.proxy.name for running in all_running]
    rows = []
    for dialect in PATHS:
        for case, (prompt, stream, knobs) in BODIES.items():
            mock.configure(knobs)
            wanted = fetch(mock.port, PATHS[dialect], prompt, stream=stream)
            got = (fetch(one.port, PATHS[dialect], prompt, stream=stream, also=one.headers) for one in all_running)
            rows.append([f"{dialect}: {case}", *(compare(wanted, reply) for reply in got)])
        for load in MANY:
            mock.configure({"delay": 5, "interval": 5, "chunks": load.chunks or 1})
            what = "streams" if load.chunks else "replies"
            told = f"{dialect}: {load.connections * load.replies} {what} over {load.connections} connections"
            rows.append([told, *(whole(one, load, mock, cpus, dialect) for one in all_running)])
    return table(["check", *names], rows), all(cell == "same" for row in rows for cell in row[1:])


def fetch(port: int, path: str, prompt: str, *, stream: bool, also: Sequence[str] = ()) -> Reply:
    caller = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json", **dict(line.split(": ", 1) for line in also)}
    try:
        caller.request("POST", path, body_file(prompt, stream=stream).read_bytes(), headers)
        reply = caller.getresponse()
        return reply.status, reply.getheader("Content-Type"), reply.read()
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error), b""
    finally:
        caller.close()


def compare(wanted: Reply, got: Reply) -> str:
    if got == wanted:
        return "same"
    if got[:2] != wanted[:2]:
        return f"status {got[0]}, {got[1]}"
    return f"{len(got[2])} other bytes for {len(wanted[2])}"


def whole(running: Running, load: Load, mock: Mock, cpus: Cpus, dialect: str) -> str:
    """Every chunk of every stream once and in order, to the end; every whole reply the same; nothing asked twice."""
    mock.counters(reset=True)
    seen = generate(running, load, cpus, dialect)
    failed = [f"{seen[kind]} {kind}" for kind in FAILURES if seen[kind]]
    expected = load.connections * load.replies
    if not failed and seen["replies"] != expected:
        return f"{seen['replies']} of {expected}"
    if (asked := mock.counters()["replies"]) != expected:
        return f"asked {asked} times for {expected}"
    return ", ".join(failed) or "same"
