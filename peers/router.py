"""Router: who answers a call. A pure choice, and the calls it leads to."""

import difflib
from collections.abc import Callable, Sequence

import structlog
from msgspec import structs

from peers import doors
from peers.asking import Asking
from peers.errors import BadRequest, Busy, MasaError, ModelNotFound, UpstreamUnreachable
from peers.network.table import Member
from peers.plan import Step, narrower, plan
from peers.upstreams.cloudflare import MODEL as CLOUDFLARE_MODEL
from peers.upstreams.cloudflare import Cloudflare
from peers.upstreams.ollama import ModelServer
from peers.upstreams.own import BuiltIn, Own
from peers.upstreams.upstream import Upstream
from peers.wire import Answerer, Ask, Call, Model, Reply

log = structlog.get_logger(__name__)

BUSY = (429, 503)
START_ONE = (
    "Start Ollama (found by itself at 127.0.0.1:11434), or set LLM_CHAT_URL, LLM_CF_URL or PROVIDERS; "
    "`masa-node doctor` looks."
)


Peers = list[tuple[Member, Model]]
"""Other nodes that serve a call's model, each with its build of it."""


def by_preference(upstreams: Sequence[Upstream], call: Call) -> list[Upstream]:
    """Those that answer before those that do not, then the free, the loaded, the least busy, the first configured."""

    def rank(upstream: Upstream) -> tuple[bool, bool, bool, int]:
        model = upstream.model(call.model)
        unloaded = model is not None and model.loaded is False
        return (upstream.status != "up", not upstream.places.free, unloaded, upstream.places.taken)

    return sorted(upstreams, key=rank)


class Router:
    """The Answerer behind every door."""

    def __init__(self, own: Own, network: Asking | None = None, ask: Callable[[], Ask] = lambda: "off") -> None:
        """`ask`: what PEER_ASK says in the network this node is in."""
        self._own = own
        self._network = network
        self._ask = ask

    async def open(self, call: Call) -> Reply:
        """Raises MasaError when nobody answers."""
        await self._own.first_look()
        peers = self._peers(call)
        if call.door is doors.CLOUDFLARE:
            self._check_cloudflare(call, peers)
        serving = self._serving(call)
        if not serving:
            await self._own.look_again()
            serving = self._serving(call)
        refusal: MasaError | None = None
        asked = 0
        allowed = narrower(self._ask(), call.ask)
        try:
            for step in plan(own=bool(serving), peers=bool(peers), ask=allowed, hop=call.hop):
                try:
                    reply = await self._take(step, call, serving, peers)
                except MasaError as error:
                    if step == "own":
                        raise  # it has read the prompt, and is neither full nor down
                    refusal, asked = error, max(asked, error.asked)
                    continue
                if reply is not None:
                    reply.asked = max(asked, reply.asked)
                    return reply
            if peers and not serving and allowed == "off":
                raise ModelNotFound(
                    "peers serve this model, and PEER_ASK, or the header X-Masa-Ask, keeps calls on this node"
                )
            raise refusal or self._nobody(call)
        finally:
            del refusal  # it holds this frame

    async def _take(self, step: Step, call: Call, serving: Sequence[Upstream | BuiltIn], peers: Peers) -> Reply | None:
        """None: nobody is there for this step. Raises MasaError."""
        match step:
            case "own":
                return await first_free([up for up in serving if up.status == "up" and up.free], call)
            case "own_queue":
                return await first_to_take(serving, call) if serving else None
            case "peers":
                return await self._race(call, peers, wait=not serving)
            case "whether":
                some = await self._network.whether(call) if self._network else []
                return await self._race(call, some, wait=True) if some else None
            case "own_word":
                word = self._own_word(call)
                return await first_to_take(word, call) if word else None

    async def _race(self, call: Call, peers: Peers, *, wait: bool) -> Reply:
        assert self._network is not None
        return await self._network.open(call, peers, wait=wait)

    def _peers(self, call: Call) -> Peers:
        """What another node sent here goes no further."""
        return self._network.serving(call) if self._network and not call.hop else []

    def _serving(self, call: Call) -> Sequence[Upstream | BuiltIn]:
        eliza = self._own.eliza()
        if eliza is not None and eliza.serves(call) and self._lends(eliza, call):
            return [eliza]
        only = Cloudflare if call.door is doors.CLOUDFLARE else Upstream
        usable = [up for up in self._usable(call) if isinstance(up, only) and up.serves(call) and self._lends(up, call)]
        return by_preference(usable, call) if len(usable) > 1 else usable

    def _lends(self, upstream: Upstream | BuiltIn, call: Call) -> bool:
        """What another node sent goes only where PEER_SERVE lets it: another upstream may have a model of that name."""
        return not call.hop or self._own.lends(upstream, call.model)

    def _own_word(self, call: Call) -> Sequence[Answerer]:
        """A model server may know more names than it lists, and says best itself that it does not have a model.

        Ollama does. Others may answer to any name: of several of those, none is made to stand in for a model.
        """
        if CLOUDFLARE_MODEL.fullmatch(call.model) or self._other_paths(call):
            return []
        servers = [up for up in self._usable(call) if isinstance(up, ModelServer) and up.speaks(call)]
        ollamas = [server for server in servers if server.version is not None]
        return by_preference(ollamas or (servers if len(servers) == 1 else []), call)[:1]

    def _usable(self, call: Call) -> list[Upstream]:
        """None that is a node; for what a node sent here, none that could be."""
        return [up for up in self._own.in_use() if up.status != "refused" and (up.no_node or not call.hop)]

    def _check_cloudflare(self, call: Call, peers: Peers) -> None:
        if not CLOUDFLARE_MODEL.fullmatch(call.model):
            raise BadRequest(
                "invalid_model",
                "this path takes Cloudflare's models only, named @cf/… or @hf/…; others go to /v1/api/chat",
            )
        if not peers and not any(isinstance(upstream, Cloudflare) for upstream in self._own.upstreams):
            raise MasaError(
                503, "no_upstream", "Cloudflare is not set up on this node: set LLM_CF_URL and LLM_CF_TOKEN"
            )

    def _other_paths(self, call: Call) -> list[str]:
        """Where a chat with this model would be taken: on a dialect's own paths, else on the mission's."""
        chats = [door for door in doors.DOORS if door.operation == "chat" and door is not doors.CLOUDFLARE]
        asked = (structs.replace(call, door=door) for door in chats)
        taken = [one.door for one in asked if self._serving(one) or self._peers(one)]
        return [door.path for door in taken if door.dialect != "any"] or [door.path for door in taken]

    def _nobody(self, call: Call) -> MasaError:
        if call.hop:
            return MasaError(
                508, "loop", "this request came from another node, and no upstream of this one serves the model"
            )
        if paths := self._other_paths(call):
            return ModelNotFound(f"the model is not served on this path; ask for it at {' or '.join(paths)}")
        if self._network and (why := self._network.unstaked()):
            return MasaError(403, "not_staked", f"no upstream of this node serves the model, and no peer may: {why}")
        asked, others = self._own.in_use(), bool(self._network and self._network.models())
        if not asked and not others:
            eliza = " The built-in program `eliza` answers meanwhile." if self._own.eliza() else ""
            return MasaError(503, "no_upstream", f"this node has no model of its own yet. {START_ONE}{eliza}")
        down = [upstream.why for upstream in asked if upstream.status != "up"]
        if len(down) == len(asked) and not others:
            return MasaError(503, "no_upstream", f"no upstream of this node can be asked: {' '.join(down)}")
        return ModelNotFound(" ".join(["nobody in reach serves the model.", self._nearest(call.model), *down]))

    def _nearest(self, name: str) -> str:
        where = {name: node for node, name in self._network.models()} if self._network else {}
        where |= {model.name: upstream for upstream, model in self._own.models()}
        near = difflib.get_close_matches(name, where, n=3, cutoff=0.5)
        if near:
            return (
                "Nearest: "
                + ", ".join(f"{name} ({where[name]})" for name in near)
                + "; GET /api/v1/llm/models lists all."
            )
        return "GET /api/v1/llm/models lists those that can be asked for."


async def first_free(serving: Sequence[Answerer], call: Call) -> Reply | None:
    """None: none of them takes it now; the caller may still be told what one of them says when it is asked again."""
    for answerer in serving:
        try:
            reply = await answerer.open(call)
        except UpstreamUnreachable as error:
            log.warning("upstream_skipped", reason=error.text)
            continue
        if reply.status not in BUSY:
            return reply
        reply.close()
    return None


async def first_to_take(serving: Sequence[Answerer], call: Call) -> Reply:
    """Ask one after another. Who refuses the connection, drops it before its answer, or says 429 or 503, is not free;
    when none is, the caller hears what the first of them said."""
    held: Reply | None = None
    refusal: MasaError | None = None
    try:
        for answerer in serving:
            try:
                reply = await answerer.open(call)
            except Busy as error:  # full of peers' calls, for one of those
                refusal = error
                continue
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
        del refusal  # it holds this frame
        if held is not None:
            held.close()
