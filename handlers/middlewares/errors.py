"""MasaError → an answer in the path's own dialect. The only place that builds error responses."""

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from handlers.keys import SIGHT
from peers.doors import DOORS
from peers.errors import MasaError
from peers.wire import Dialect

OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
ANTHROPIC_TYPES = {**OPENAI_TYPES, 413: "request_too_large", 503: "overloaded_error", 504: "timeout_error"}
WITHOUT_PREFIX = {door.path.removeprefix(prefix) for door in DOORS for prefix in ("/v1", "/api")} | {"/models", "/tags"}


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except MasaError as error:
        request[SIGHT].code = error.code
        return error_response(
            error, dialect_of(request.path, request.headers.get("anthropic-version")), request[SIGHT].id
        )
    except web.HTTPMethodNotAllowed as found:
        return _unrouted(
            request, MasaError(405, "method_not_allowed", f"this path takes {_words(found.allowed_methods)}"), found
        )
    except web.HTTPNotFound as found:
        return _unrouted(request, MasaError(404, "not_found", _where_instead(request.path)), found)


def error_response(error: MasaError, dialect: Dialect, request_id: str) -> web.Response:
    """Ollama's shape on the mission's doors, `/api/…` and node paths; OpenAI's and Anthropic's objects on theirs."""
    response = web.Response(
        status=error.status,
        body=msgspec.json.encode(error_body(error, dialect, request_id)),
        headers=error_headers(error),
    )
    if error.close:
        response.force_close()
    return response


def fault() -> MasaError:
    """What a caller hears of an exception that is none of these."""
    return MasaError(500, "internal", "a fault of this node; its log says where", close=True)


def error_headers(error: MasaError) -> dict[str, str]:
    told = {"Content-Type": "application/json"}
    if error.retry_after is not None:
        told["Retry-After"] = str(error.retry_after)
    if error.asked:
        told["X-Masa-Asked"] = str(error.asked)
    return told


def error_body(error: MasaError, dialect: Dialect, request_id: str) -> dict[str, object]:
    if dialect == "anthropic":
        kind = ANTHROPIC_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": error.text}, "request_id": request_id}
    if dialect == "openai":
        kind = OPENAI_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
        return {"error": {"message": error.text, "type": kind, "param": None, "code": error.code}}
    return {"error": error.text, "code": error.code}


def dialect_of(path: str, anthropic_version: str | None = None) -> Dialect:
    """Of a path, known or not, so that a client's own library can read what went wrong."""
    if path.startswith("/v1/messages") or (anthropic_version and path.startswith("/v1/models")):
        return "anthropic"
    return "openai" if path.startswith("/v1/") and not path.startswith("/v1/api/") else "any"


def _unrouted(request: web.Request, error: MasaError, found: web.HTTPException) -> web.Response:
    request[SIGHT].code = error.code
    dialect = dialect_of(request.path, request.headers.get("anthropic-version"))
    response = error_response(error, dialect, request[SIGHT].id)
    if "Allow" in found.headers:
        response.headers["Allow"] = found.headers["Allow"]
    return response


def _where_instead(path: str) -> str:
    """A client with the wrong prefix is told the right base URL."""
    if path.startswith(("/v1/v1/", "/api/api/", "/v1/api/", "/api/v1/")) or path in WITHOUT_PREFIX:
        return (
            "this path does not exist: the base URL of OpenAI clients is http://HOST:PORT/v1, "
            "that of Ollama and Anthropic clients http://HOST:PORT"
        )
    return "this path does not exist; GET /docs lists those that do"


def _words(methods: set[str]) -> str:
    return " or ".join(sorted(methods)) or "nothing"
