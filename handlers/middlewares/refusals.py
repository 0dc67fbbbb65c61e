"""On the peer API a MasaError becomes a small answer that bears its code in `Masa-Error`."""

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from handlers.keys import TRAFFIC
from peers.errors import MasaError


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except MasaError as error:
        return _counted(request, error)
    except web.HTTPMethodNotAllowed:
        return _counted(request, MasaError(405, "method_not_allowed", "signed routes are POST, ping is GET"))
    except web.HTTPNotFound:
        return _counted(request, MasaError(404, "not_found", "no such path of the peer API"))
    except web.RequestPayloadError:
        broken = "the body broke off, or is no valid HTTP"
        return _counted(request, MasaError(400, "bad_request", broken, close=True))


def _counted(request: web.Request, error: MasaError) -> web.Response:
    if traffic := request.app.get(TRAFFIC):
        traffic.refused[error.code] += 1
    return refused(error)


def refused(error: MasaError) -> web.Response:
    response = web.Response(status=error.status, body=refusal_body(error), headers=refusal_headers(error))
    if error.close:
        response.force_close()
    return response


def refusal_body(error: MasaError) -> bytes:
    """At most 2 KiB; it repeats nothing of the request."""
    return msgspec.json.encode({"error": error.text, "code": error.code})


def refusal_headers(error: MasaError) -> dict[str, str]:
    told = {"Content-Type": "application/json", "Masa-Error": error.code}
    if error.retry_after is not None:
        told["Retry-After"] = str(error.retry_after)
    return told
