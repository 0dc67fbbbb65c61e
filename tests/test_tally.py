"""Tally: what it says is what prometheus-client's own histogram says."""

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from peers.tally import Tally

BOUNDS = (0.01, 0.5, 1, 4, 67108864)
SEEN = [("a", 0.0), ("a", 0.01), ("a", 0.010001), ("b", 4), ("a", 4.1), ("b", 1e12)]


def samples(registry: CollectorRegistry) -> set[tuple[object, ...]]:
    families = text_string_to_metric_families(generate_latest(registry).decode())
    found = [sample for family in families for sample in family.samples if not sample.name.endswith("_created")]
    return {(sample.name, *sorted(sample.labels.items()), sample.value) for sample in found}


def test_it_counts_as_a_histogram_does():
    mine, theirs = CollectorRegistry(), CollectorRegistry()
    tally = Tally("some_seconds", "Help", ("kind", "more"), BOUNDS)
    mine.register(tally)
    histogram = Histogram("some_seconds", "Help", ("kind", "more"), buckets=BOUNDS, registry=theirs)
    for kind, value in SEEN:
        tally.observe((kind, "x"), value)
        histogram.labels(kind, "x").observe(value)
    assert samples(mine) == samples(theirs)
    assert len(samples(mine)) == 2 * (len(BOUNDS) + 1 + 2)


def test_nothing_seen_is_nothing_said():
    registry = CollectorRegistry()
    registry.register(Tally("some_seconds", "Help", ("kind",), BOUNDS))
    assert samples(registry) == set()
