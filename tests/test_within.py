"""Within: who began and was not ended in time is told of, once, and nobody else is."""

import asyncio

from masa_node.within import Within

SHORT = 0.05


async def test_only_those_who_are_late_are_told_of_and_in_their_order():
    late: asyncio.Queue[str] = asyncio.Queue()
    within = Within[str](SHORT, late.put_nowait)
    for name in ("a", "b", "c", "d"):
        within.begin(name)
    within.end("a")
    within.end("c")
    assert [await late.get(), await late.get()] == ["b", "d"]
    assert within.due("b") is None


async def test_who_begins_again_has_the_whole_time_again():
    loop, late = asyncio.get_running_loop(), asyncio.Queue[float]()
    within = Within[str](SHORT, lambda _: late.put_nowait(loop.time()))
    within.begin("a")
    await asyncio.sleep(SHORT / 2)
    within.end("a")
    within.begin("a")
    due = within.due("a")
    assert due is not None
    assert await late.get() >= due
    within.begin("a")  # it was late, and has come back
    assert await late.get() > due


async def test_one_who_ends_another_while_it_is_late_itself():
    late: list[str] = []
    over = asyncio.Event()

    def told(name: str) -> None:
        late.append(name)
        within.end("later")
        over.set()

    within = Within[str](SHORT, told)
    within.begin("first")
    within.begin("later")
    await over.wait()
    assert late == ["first"]
    assert within.due("later") is None
