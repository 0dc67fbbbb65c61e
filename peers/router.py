"""Router: who answers a call. A pure choice, and the calls it leads to."""

import difflib
from collections.abc import Sequence

import structlog

from peers import doors
from peers.errors import BadRequest, MasaError, ModelNotFound, UpstreamUnreachable
from peers.upstreams.cloudflare import MODEL as CLOUDFLARE_MODEL
from peers.upstreams.cloudflare import Cloudflare
from peers.upstreams.own import Own
from peers.upstreams.upstream import Upstream
from peers.wire import Answerer, Call, Reply

log = structlog.get_logger(__name__)

BUSY = (429, 503)
START_ONE = (
    "Start Ollama (found by itself at 127.0.0.1:11434), or set LLM_CHAT_URL, LLM_CF_URL or PROVIDERS; "
    "`masa-node doctor` looks."
)


def by_preference(upstreams: Sequence[Upstream], call: Call) -> list[Upstream]:
    """Those that answer before those that do not, then the free, the loaded, the least busy, the first configured."""

    def rank(upstream: Upstream) -> tuple[bool, bool, bool, int]:
        model = upstream.model(call.model)
        unloaded = model is not None and model.loaded is False
        return (upstream.status != "up", not upstream.places.free, unloaded, upstream.places.taken)

    return sorted(upstreams, key=rank)


class Router:
    """The Answerer behind every door."""

    def __init__(self, own: Own) -> None:
        self._own = own

    async def open(self, call: Call) -> Reply:
        """Raises MasaError when nobody answers."""
        await self._own.first_look()
        if call.door is doors.CLOUDFLARE:
            self._check_cloudflare(call)
        serving = self._serving(call)
        if not serving:
            await self._own.look_again()
            serving = self._serving(call) or self._own_word(call)
        if not serving:
            raise self._nobody(call)
        return await first_to_take(serving, call)

    def _serving(self, call: Call) -> Sequence[Answerer]:
        eliza = self._own.eliza()
        if eliza is not None and eliza.serves(call):
            return [eliza]
        return by_preference([up for up in self._own.in_use() if up.serves(call)], call)

    def _own_word(self, call: Call) -> Sequence[Answerer]:
        """A model server may know more names than it lists, and says best itself that it does not have a model."""
        if CLOUDFLARE_MODEL.fullmatch(call.model) or self._in_other_dialects(call):
            return []
        return by_preference([server for server in self._own.model_servers() if server.speaks(call)], call)[:1]

    def _check_cloudflare(self, call: Call) -> None:
        if not CLOUDFLARE_MODEL.fullmatch(call.model):
            raise BadRequest(
                "invalid_model",
                "this path takes Cloudflare's models only, named @cf/… or @hf/…; others go to /v1/api/chat",
            )
        if not any(isinstance(upstream, Cloudflare) for upstream in self._own.upstreams):
            raise MasaError(
                503, "no_upstream", "Cloudflare is not set up on this node: set LLM_CF_URL and LLM_CF_TOKEN"
            )

    def _in_other_dialects(self, call: Call) -> list[str]:
        wanted = {call.model, call.model + ":latest"}
        return sorted(
            {dialect for _, model in self._own.models() if model.name in wanted for dialect in model.dialects}
        )

    def _nobody(self, call: Call) -> MasaError:
        if call.hop:
            return MasaError(
                508, "loop", "this request came from another node, and no upstream of this one serves the model"
            )
        others = self._in_other_dialects(call)
        if others:
            paths = sorted(
                {
                    f"{door.path} ({door.dialect})"
                    for door in doors.DOORS
                    if door.dialect in others and door.operation == "chat"
                }
            )
            return ModelNotFound(f"the model is not served on this path; ask for it at {' or '.join(paths)}")
        if not any(self._own.in_use()):
            eliza = " The built-in program `eliza` answers meanwhile." if self._own.eliza() else ""
            return MasaError(503, "no_upstream", f"this node has no model of its own yet. {START_ONE}{eliza}")
        return ModelNotFound(f"no upstream of this node serves the model. {self._nearest(call.model)}")

    def _nearest(self, name: str) -> str:
        where = {model.name: upstream for upstream, model in self._own.models()}
        near = difflib.get_close_matches(name, where, n=3, cutoff=0.5)
        if near:
            return (
                "Nearest: "
                + ", ".join(f"{name} ({where[name]})" for name in near)
                + "; GET /api/v1/llm/models lists all"
            )
        return "GET /api/v1/llm/models lists those that can be asked for"


async def first_to_take(serving: Sequence[Answerer], call: Call) -> Reply:
    """Ask one after another. Who refuses the connection, drops it before its answer, or says 429 or 503, is not free;
    when none is, the caller hears what the first of them said."""
    held: Reply | None = None
    refusal: MasaError | None = None
    try:
        for answerer in serving:
            try:
                reply = await answerer.open(call)
            except UpstreamUnreachable as error:
                log.warning("upstream_skipped", reason=error.text)
                refusal = refusal or error
                continue
            if reply.status not in BUSY or (held is None and answerer is serving[-1]):
                return reply
            if held is None:
                held = reply
            else:
                reply.close()
        if held is not None:
            answer, held = held, None
            return answer
        raise refusal or AssertionError("nobody was asked")
    finally:
        if held is not None:
            held.close()
