"""MasaError: what can go wrong before the first byte of an answer, with its status and code."""


class MasaError(Exception):
    """A failure of ours. `text` tells the caller what is wrong, where, and the remedy; it never repeats their input."""

    def __init__(
        self, status: int, code: str, text: str, *, retry_after: int | None = None, close: bool = False
    ) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.text = text
        self.retry_after = retry_after
        """Seconds."""
        self.close = close
        """The connection cannot be used for another request."""
        self.asked = 0
        """How many peers have read the call."""


class BadRequest(MasaError):
    """The caller can mend it: 400 unless said otherwise."""

    def __init__(self, code: str, text: str, *, status: int = 400, close: bool = False) -> None:
        super().__init__(status, code, text, close=close)


class ModelNotFound(MasaError):
    """Nobody in reach serves the model in this dialect."""

    def __init__(self, text: str) -> None:
        super().__init__(404, "model_not_found", text)


class Busy(MasaError):
    """No place now; `retry_after` seconds from now there may be one."""

    def __init__(
        self, text: str, *, status: int = 503, code: str = "busy", retry_after: int = 1, close: bool = False
    ) -> None:
        super().__init__(status, code, text, retry_after=retry_after, close=close)


class UpstreamUnreachable(MasaError):
    """An upstream refused the connection, or dropped it before its answer began: another one may be asked."""

    def __init__(self, text: str) -> None:
        super().__init__(502, "upstream_unreachable", text)


class UpstreamBroken(MasaError):
    """An upstream answered what cannot be passed on, or broke off its answer."""

    def __init__(self, text: str) -> None:
        super().__init__(502, "upstream_broken", text)


class UpstreamTimeout(MasaError):
    """An upstream was silent for longer than LLM_TIMEOUT."""

    def __init__(self, text: str) -> None:
        super().__init__(504, "upstream_timeout", text)
