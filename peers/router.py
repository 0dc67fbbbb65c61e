"""Router: who answers a call. A pure choice, and the calls it leads to."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import structlog

from peers import doors
from peers.errors import BadRequest, MasaError, ModelNotFound, UpstreamUnreachable
from peers.upstreams.cloudflare import MODEL as CLOUDFLARE_MODEL
from peers.upstreams.cloudflare import Cloudflare
from peers.upstreams.ollama import ModelServer
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
        only = Cloudflare if call.door is doors.CLOUDFLARE else Upstream
        return by_preference([up for up in self._usable(call) if isinstance(up, only) and up.serves(call)], call)

    def _own_word(self, call: Call) -> Sequence[Answerer]:
        """A model server may know more names than it lists, and says best itself that it does not have a model.

        Ollama does. Others may answer to any name: of several of those, none is made to stand in for a model.
        """
        if CLOUDFLARE_MODEL.fullmatch(call.model) or self._other_paths(call):
            return []
        servers = [up for up in self._usable(call) if isinstance(up, ModelServer) and up.speaks(call)]
        ollamas = [server for server in servers if server.version is not None]
        return by_preference(ollamas or (servers if len(servers) == 1 else []), call)[:1]

    def _usable(self, call: Call) -> Iterator[Upstream]:
        """None that is a node; for what a node sent here, none that could be."""
        return (up for up in self._own.in_use() if up.status != "refused" and (up.no_node or not call.hop))

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

    def _other_paths(self, call: Call) -> list[str]:
        """Where a chat with this model would be taken: on a dialect's own paths, else on the mission's."""
        chats = [door for door in doors.DOORS if door.operation == "chat" and door is not doors.CLOUDFLARE]
        taken = [door for door in chats if self._serving(replace(call, door=door))]
        return [door.path for door in taken if door.dialect != "any"] or [door.path for door in taken]

    def _nobody(self, call: Call) -> MasaError:
        if call.hop:
            return MasaError(
                508, "loop", "this request came from another node, and no upstream of this one serves the model"
            )
        if paths := self._other_paths(call):
            return ModelNotFound(f"the model is not served on this path; ask for it at {' or '.join(paths)}")
        asked = list(self._own.in_use())
        if not asked:
            eliza = " The built-in program `eliza` answers meanwhile." if self._own.eliza() else ""
            return MasaError(503, "no_upstream", f"this node has no model of its own yet. {START_ONE}{eliza}")
        down = [upstream.why for upstream in asked if upstream.status != "up"]
        if len(down) == len(asked):
            return MasaError(503, "no_upstream", f"no upstream of this node can be asked: {' '.join(down)}")
        return ModelNotFound(" ".join(["no upstream of this node serves the model.", self._nearest(call.model), *down]))

    def _nearest(self, name: str) -> str:
        where = {model.name: upstream for upstream, model in self._own.models()}
        near = difflib.get_close_matches(name, where, n=3, cutoff=0.5)
        if near:
            return (
                "Nearest: "
                + ", ".join(f"{name} ({where[name]})" for name in near)
                + "; GET /api/v1/llm/models lists all."
            )
        return "GET /api/v1/llm/models lists those that can be asked for."


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
