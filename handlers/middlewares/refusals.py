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
        refusal = error
    except web.HTTPMethodNotAllowed:
        refusal = MasaError(405, "method_not_allowed", "signed routes are POST, ping is GET")
    except web.HTTPNotFound:
        refusal = MasaError(404, "not_found", "no such path of the peer API")
    except web.RequestPayloadError:
        refusal = MasaError(400, "bad_request", "the body broke off, or is no valid HTTP", close=True)
    if traffic := request.app.get(TRAFFIC):
        traffic.refused[refusal.code] += 1
    return refused(refusal)


def refused(error: MasaError) -> web.Response:
    """At most 2 KiB; it repeats nothing of the request."""
    response = web.Response(
        status=error.status,
        body=msgspec.json.encode({"error": error.text, "code": error.code}),
        content_type="application/json",
        headers={"Masa-Error": error.code},
    )
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.close:
        response.force_close()
    return response
