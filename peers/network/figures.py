"""NetworkFigures: the network's Prometheus metrics, read when they are asked for."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from peers.network.outlook import NetworkView


class NetworkFigures(Collector):
    def __init__(self, view: Callable[[], NetworkView | None]) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        """None while the node is in no network. What is counted begins anew with each stay in one."""
        view = self._view()
        if view is None:
            return
        yield _labelled(GaugeMetricFamily, "masa_members", "Other nodes of the network", "status", view.members)
        gossip = {"in": view.bytes_in, "out": view.bytes_out}
        yield _labelled(CounterMetricFamily, "masa_gossip_bytes", "Bodies of gossip", "direction", gossip)
        refused = "Records of other nodes that were not taken"
        yield _labelled(CounterMetricFamily, "masa_records_refused", refused, "reason", view.refused)
        requests = "Requests of other nodes that were refused"
        yield _labelled(CounterMetricFamily, "masa_peer_requests_refused", requests, "code", view.requests_refused)
        offset = "By how much the others' clocks are ahead of this one"
        yield GaugeMetricFamily("masa_clock_offset_seconds", offset, view.clock_offset)


def _labelled(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
    name: str,
    help: str,
    label: str,
    values: Mapping[str, int],
) -> Metric:
    family = kind(name, help, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
