"""The log into a file or a pipe: one write for all lines of a turn of the loop."""

import asyncio
import io
import json
from collections.abc import Iterator

import pytest
import structlog

from config.logs import set_up


class Pipe(io.BytesIO):
    """Where lines are gathered, and flushed; which may be broken."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed: list[int] = []
        """How many lines had come, each time."""

    def flush(self) -> None:
        if self.closed:
            raise ValueError
        self.flushed.append(self.getvalue().count(b"\n"))


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    stream = io.TextIOWrapper(pipe)
    set_up("debug", "json", stream)
    pipe.flushed.clear()
    yield pipe
    if not pipe.closed:
        stream.detach()


async def test_the_lines_of_one_turn_of_the_loop_are_written_together(pipe: Pipe) -> None:
    for turn in (1, 2):
        for number in range(3):
            structlog.get_logger().info("fact", count=number)
        assert len(pipe.flushed) == turn - 1
        await asyncio.sleep(0)
    assert pipe.flushed == [3, 6]
    assert [json.loads(line)["count"] for line in pipe.getvalue().splitlines()] == [0, 1, 2] * 2


def test_without_a_loop_each_line_is_written_at_once(pipe: Pipe) -> None:
    structlog.get_logger().info("fact")
    structlog.get_logger().info("fact")
    assert pipe.flushed == [1, 2]


async def test_a_pipe_that_is_gone_fails_nobody(pipe: Pipe) -> None:
    structlog.get_logger().info("fact")
    pipe.close()
    structlog.get_logger().info("fact")
    await asyncio.sleep(0)
