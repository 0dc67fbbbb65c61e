"""What the doctor finds when it asks each upstream, once and for real, what it serves."""

import asyncio

from yarl import URL

from config.kinds import is_loopback
from config.settings import Settings
from masa_node.app import own_upstreams
from masa_node.commands.findings import Finding
from peers.upstreams.cloudflare import Cloudflare
from peers.upstreams.link import Link, open_link
from peers.upstreams.ollama import ModelServer
from peers.upstreams.own import Own
from peers.upstreams.upstream import Upstream

UPSTREAM_SECONDS = 10.0
"""For one of them."""
START_ONE = "start Ollama (`ollama serve`), or set LLM_CHAT_URL, LLM_CF_URL or PROVIDERS"


async def check_upstreams(settings: Settings, *, contained: bool) -> list[Finding]:
    """`contained`: this process runs in a container."""
    async with open_link(UPSTREAM_SECONDS) as link:
        own = own_upstreams(_as_listed_by_themselves(settings), link)
        for upstream in own.upstreams:
            await _refresh(upstream)
        findings = [await _finding(upstream, settings, link, contained) for upstream in own.in_use()]
    if "eliza" in settings.llm_chat_url:
        findings.append(
            Finding("upstream eliza", "ok", "built in; a pattern program to try things with, no language model")
        )
    return findings or [_none(own)]


def _as_listed_by_themselves(settings: Settings) -> Settings:
    """An upstream whose models the operator names is otherwise taken at their word, and not asked."""
    named = [field for field in Settings.model_fields if field.startswith("llm_") and field.endswith("_models")]
    return settings.model_copy(update=dict.fromkeys(named, ()))


async def _refresh(upstream: Upstream) -> None:
    try:
        async with asyncio.timeout(UPSTREAM_SECONDS):
            await upstream.refresh()
    except TimeoutError:
        upstream.fell(f"{upstream.name} did not answer within {UPSTREAM_SECONDS:.0f} s")


async def _finding(upstream: Upstream, settings: Settings, link: Link, contained: bool) -> Finding:
    check, place = f"upstream {upstream.name}", upstream.address()
    named = getattr(settings, f"llm_{'cf' if isinstance(upstream, Cloudflare) else upstream.name}_models", ())
    if upstream.status != "up":
        why = upstream.why.removesuffix(upstream.place.remedy).rstrip(" .")
        kept = "; the models named in the settings are offered all the same" if named else ""
        return Finding(check, "warn" if named else "fail", f"{place}: {why}{kept}", _remedy(upstream, contained))
    if isinstance(upstream, Cloudflare) and not (upstream.native or "").endswith("/ai/run/"):
        return await _unlisted(upstream, link)
    models = len(named or upstream.models)
    if isinstance(upstream, ModelServer) and upstream.at.chat and not models:
        return Finding(check, "ok", f"{place} is there; it is no base URL, and is used as written by /v1/api/chat")
    if not models:
        return Finding(check, "warn", f"{place} is up and lists no model", _model_remedy(upstream))
    dialects = sorted({dialect for model in upstream.models.values() for dialect in model.dialects})
    what = f"{place} is up: {models} model{'s' if models > 1 else ''}{' named in the settings' if named else ''}"
    return Finding(check, "ok", f"{what}, spoken to as {', '.join(dialects)}" if dialects else what)


async def _unlisted(upstream: Cloudflare, link: Link) -> Finding:
    """A gateway and an own Worker list no models: all that can be asked without a prompt is whether they are there."""
    check, place = f"upstream {upstream.name}", upstream.address()
    try:
        fetched = await link.fetch("GET", upstream.native or upstream.worker, within=UPSTREAM_SECONDS, limit=1)
    except OSError:
        return Finding(check, "fail", f"{place} could not be reached", _remedy(upstream))
    if "x-masa-node" in fetched.headers:
        return Finding(check, "fail", f"{place} is a masa-node, and a node is never an upstream", _remedy(upstream))
    return Finding(
        check, "ok", f"{place} answers; it lists no models, and whether it takes the token only a prompt tells"
    )


def _none(own: Own) -> Finding:
    looked = [upstream.address() for upstream in own.upstreams]
    nodes = [upstream.address() for upstream in own.upstreams if upstream.status == "refused"]
    what = f"no Ollama found at {' or '.join(looked)}" if looked else "LLM_CHAT_URL=off"
    what += f" (what answers at {nodes[0]} is a masa-node)" if nodes else ""
    what += ", and nothing else is set" + (
        "; only the built-in `eliza` answers" if own.eliza() else ": nothing can answer"
    )
    return Finding("upstreams", "warn", what, START_ONE)


def _remedy(upstream: Upstream, contained: bool = False) -> str:
    if isinstance(upstream, Cloudflare):
        return "check LLM_CF_URL and LLM_CF_TOKEN; docs/cloudflare.md goes through them"
    if not isinstance(upstream, ModelServer):
        return f"check {upstream.name.upper()}_API_KEY and LLM_{upstream.name.upper()}_URL"
    if upstream.status == "refused":
        return "point LLM_CHAT_URL at a model server, such as Ollama's http://127.0.0.1:11434"
    if not is_loopback(URL(upstream.address(), encoded=True).host or ""):
        return "start it there, or correct LLM_CHAT_URL; an Ollama answers other machines only with OLLAMA_HOST=0.0.0.0"
    if contained:
        return (
            "in a container, 127.0.0.1 is the container: set LLM_CHAT_URL to http://host.docker.internal and its port"
        )
    return "start it (`ollama serve`), or correct LLM_CHAT_URL"


def _model_remedy(upstream: Upstream) -> str:
    if isinstance(upstream, ModelServer):
        return "give it one, as by `ollama pull llama3.2`" if upstream.version else "load a model there"
    return _remedy(upstream)
