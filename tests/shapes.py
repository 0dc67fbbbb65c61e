"""check(): an error of the node's own, in the shape of its path's dialect, with nothing of the request in it."""

import json

from tests.raw import Answer

CANARY = "c4nary"
"""A part of everything secret or odd that a request holds."""

SECRET = {"Cookie": CANARY, "X-Api-Key": CANARY, "User-Agent": CANARY}
DOORS = ("/v1/api/chat", "/api/v1/chat", "/api/chat", "/v1/chat/completions", "/v1/messages")
"""One path of each dialect, and both of the mission's."""

OPENAI = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
          429: "rate_limit_error"}  # fmt: skip
ANTHROPIC = {**OPENAI, 413: "request_too_large", 503: "overloaded_error", 504: "timeout_error"}


def usual_type(status: int) -> str:
    return "invalid_request_error" if status < 500 else "api_error"


def check(answer: Answer, path: str, status: int, code: str) -> str:
    """The error's text, once its shape, its headers and its silence about the request have been looked at."""
    assert (answer.status, answer.whole) == (status, True)
    assert answer.headers.get("Content-Type") == "application/json"
    for name in ("X-Request-Id", "X-Masa-Node", "X-Masa-Name"):
        assert answer.headers.get(name)
    assert CANARY not in str(answer.headers) + answer.body.decode()
    told = json.loads(answer.body)
    if path.startswith("/v1/messages"):
        kind = ANTHROPIC.get(status, usual_type(status))
        assert told == {
            "type": "error",
            "error": {"type": kind, "message": told["error"]["message"]},
            "request_id": answer.headers.get("X-Request-Id"),
        }
        return str(told["error"]["message"])
    if path.startswith("/v1/") and not path.startswith("/v1/api/"):
        kind = OPENAI.get(status, usual_type(status))
        assert told == {"error": {"message": told["error"]["message"], "type": kind, "param": None, "code": code}}
        return str(told["error"]["message"])
    assert told == {"error": told["error"], "code": code}
    return str(told["error"])
