"""What bench/soak has found: how steep memory rose, whether files and tasks stayed, in a table with a verdict."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

from harness.soak_nodes import Sample
from harness.tables import table

MIB = 1 << 20
MOST_SLOPE = 1.0
"""MiB an hour (docs/promises.md E5)."""
MOST_GROWN = 8
"""Files or tasks, between the first and the last third: as many as two questions hold."""
JUDGED_FROM_S = 1800.0
"""A shorter time cannot tell 1 MiB an hour from noise."""
LONGEST_WARM_UP_S = 900.0


def theil_sen(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs: what a few odd values do not move."""
    slopes = [(later - earlier) / (end - start) for (start, earlier), (end, later) in combinations(points, 2)]
    return statistics.median(slopes) if slopes else 0.0


def warm(samples: Iterable[Sample], seconds: float) -> list[Sample]:
    """Without the first quarter of the whole, or its first 15 minutes."""
    return [one for one in samples if one.at >= min(LONGEST_WARM_UP_S, seconds / 4)]


def longest_life(samples: Sequence[Sample]) -> list[Sample]:
    """Of one node: the life that was sampled most often."""
    lives = Counter(one.life for one in samples)
    return [one for one in samples if one.life == max(lives, key=lambda life: lives[life])]


def grown(samples: Sequence[Sample], what: Callable[[Sample], float | None]) -> float:
    """From the median of the first third to that of the last one."""
    values = [value for one in samples if (value := what(one)) is not None]
    third = max(1, len(values) // 3)
    return statistics.median(values[-third:]) - statistics.median(values[:third]) if values else 0.0


def judge(samples: Sequence[Sample], steady: Sequence[str], seconds: float) -> tuple[str, list[str]]:
    """(The table, what was missed.) `steady`: the nodes that were never stopped; only they are judged."""
    rows, missed = [], []
    for name in sorted({one.node for one in samples}):
        life = longest_life([one for one in warm(samples, seconds) if one.node == name] or list(samples))
        lasted = life[-1].at - life[0].at
        slope = theil_sen([(one.at, one.rss / MIB) for one in life]) * 3600
        files, threads, tasks = (grown(life, what) for what in (_files, _threads, _tasks))
        judged = name in steady
        if judged and lasted >= JUDGED_FROM_S and slope > MOST_SLOPE:
            missed.append(f"{name}: memory rises by {slope:.2f} MiB/h")
        if judged and max(files, threads, tasks) > MOST_GROWN:
            missed.append(f"{name}: {files:+.0f} files, {threads:+.0f} threads, {tasks:+.0f} tasks")
        told_slope = f"{slope:+.2f}" if lasted >= JUDGED_FROM_S else f"({slope:+.1f})"
        rows.append(
            (
                f"{name}{'' if judged else ', restarted'}",
                f"{lasted / 60:.0f}",
                f"{statistics.median(one.rss for one in life) / MIB:.1f}",
                told_slope,
                *(
                    f"{_most(life, what)} ({more:+.0f})"
                    for what, more in zip(_WHAT, (files, threads, tasks), strict=True)
                ),
            )
        )
    head = ("node", "minutes", "memory, MiB", "slope, MiB/h", "files: most (grown)", "threads", "tasks")
    return table(head, rows), missed


def _files(one: Sample) -> float:
    return one.files


def _threads(one: Sample) -> float:
    return one.threads


def _tasks(one: Sample) -> float | None:
    return one.tasks


_WHAT = (_files, _threads, _tasks)


def _most(samples: Sequence[Sample], what: Callable[[Sample], float | None]) -> str:
    return f"{max((value for one in samples if (value := what(one)) is not None), default=0):.0f}"
