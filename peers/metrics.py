"""The Prometheus metrics, each once. Names of calls to models follow OpenTelemetry's GenAI conventions."""

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest

from peers.race_log import RaceLog
from peers.tally import Tally

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = tuple(4**power for power in range(14))
MODELS = 50
GENAI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


class Metrics:
    """One set a node, so that one process can run several."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "masa_requests", "Requests, by path, status and outcome", ("path", "status", "outcome"), registry=registry
        )
        self.duration = Tally(
            "gen_ai_client_operation_duration_seconds",
            "From a call's arrival to the end of its answer",
            (*GENAI, "error_type"),
            SECONDS,
        )
        self.first_chunk = Tally(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "From a call's arrival to the first bytes of its answer",
            GENAI,
            SECONDS,
        )
        self.tokens = Tally(
            "gen_ai_client_token_usage",
            "Tokens, where the answer tells them",
            (*GENAI, "gen_ai_token_type"),
            TOKENS,
        )
        self.race_first_unit = Tally(
            "masa_race_first_unit_seconds",
            "From a race's start to the winner's first meaningful unit",
            (),
            SECONDS,
        )
        for tally in (self.duration, self.first_chunk, self.tokens, self.race_first_unit):
            registry.register(tally)
        self.in_flight = Gauge("masa_in_flight", "Calls that hold a place", registry=registry)
        self.queued = Gauge("masa_queued", "Calls that wait for a place", registry=registry)
        self.body_bytes = Gauge("masa_body_memory_bytes", "Request bodies held in memory", registry=registry)
        self.connections = Gauge("masa_connections", "Open connections to the client API", registry=registry)
        self.upstream_up = Gauge("masa_upstream_up", "1 while the upstream answers", ("upstream",), registry=registry)
        self.races = Counter("masa_races", "Races, by how they ended", ("outcome",), registry=registry)
        self.race_losses = Counter(
            "masa_race_losses", "Peers that were asked and did not win, by why", ("reason",), registry=registry
        )
        self.race_sends = Counter("masa_race_sends", "Calls handed to peers", registry=registry)
        self.served = Counter("masa_served", "Calls of peers, by how they ended", ("outcome",), registry=registry)
        self.guests = Gauge("masa_guests", "Calls of peers that are worked on", registry=registry)
        self._models: set[str] = set()
        self._counters: dict[tuple[str, int, str], Counter] = {}
        """Children of `requests`: looking one up costs more than counting on it."""

    def request(self, path: str, status: int, outcome: str) -> None:
        child = self._counters.get((path, status, outcome))
        if child is None:
            child = self._counters[path, status, outcome] = self.requests.labels(path, str(status), outcome)
        child.inc()

    def model_label(self, name: str) -> str:
        """The name, for the first 50 of them: callers may ask for any name, and labels are kept for ever."""
        if name in self._models or len(self._models) < MODELS:
            self._models.add(name)
            return name
        return "other"

    def raced(self, told: RaceLog) -> None:
        """All but one of a race's sends are wasted work."""
        self.races.labels(told.outcome).inc()
        self.race_sends.inc(told.sends)
        losses: dict[str, int] = {}
        for one in told.asked.values():
            if one.node != told.winner:
                losses[one.outcome] = losses.get(one.outcome, 0) + 1
        for reason, count in losses.items():
            self.race_losses.labels(reason).inc(count)
        if told.winner is not None and told.ms is not None:
            self.race_first_unit.observe((), told.ms / 1000)

    def exposition(self) -> bytes:
        return generate_latest(self.registry)
