"""What can go wrong in an HTTP exchange, as its caller tells it apart. All of them are OSErrors."""


class Unreached(OSError):
    """There is no connection: it was refused, or the machine cannot be reached."""


class UnreachedInTime(Unreached):
    """The connection was not taken within the time for it."""


class NoSuchName(Unreached):
    """The host's name leads nowhere."""


class WrongKey(Unreached):
    """Somebody else than the one named answers there; nothing was sent."""


class Dropped(ConnectionError):
    """The connection was lost before the answer's head was there."""

    def __init__(self, text: str, *, heard: bool) -> None:
        super().__init__(text)
        self.heard = heard
        """Some of it had come."""


class NotHttp(ConnectionError):
    """What came is no HTTP/1 answer, or breaks a limit."""


class Broken(ConnectionError):
    """The answer broke off: its framing says that there is more."""


class Silent(TimeoutError):
    """Nothing came for as long as the exchange may be silent."""
