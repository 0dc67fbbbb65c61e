"""Every key under which applications and requests keep their objects."""

from dataclasses import dataclass

import msgspec
from aiohttp import web

from config.settings import Settings
from handlers.admission import BodyMemory, Turns
from peers.asking import Asking
from peers.metrics import Metrics
from peers.network.reach import Reach
from peers.network.traffic import Traffic
from peers.router import Router
from peers.upstreams.own import Own
from peers.wire import NodeId


@dataclass(frozen=True, slots=True)
class Who:
    """This node, as answers and lists name it."""

    id: NodeId
    name: str
    """As the operator calls it."""
    version: str
    started: float
    """Unix seconds."""

    @property
    def shown(self) -> str:
        """The name with six characters of the id, so that two `laptop`s can be told apart."""
        return f"{self.name}-{self.id[:6]}"


@dataclass(slots=True)
class Life:
    """How far this node is from stopping."""

    draining: bool = False
    """`/ready` says 503; requests are still answered."""
    closed: bool = False
    """No new request is taken."""


class Sight(msgspec.Struct):
    """What is told of one request afterwards: its log line and its metrics."""

    id: str
    arrived: float
    """Seconds of time.monotonic()."""
    bytes_in: int = 0
    bytes_out: int = 0
    first_byte: float | None = None
    """Seconds of time.monotonic()."""
    operation: str = ""
    model: str = ""
    stream: bool | None = None
    route: str = ""
    provider: str = ""
    status: int = 500
    """Of the answer, once there is one."""
    code: str = ""
    """Of a MasaError, where there was one."""
    tail: bytearray = msgspec.field(default_factory=bytearray)
    """Of the answer's body."""


SETTINGS = web.AppKey("settings", Settings)
WHO = web.AppKey("who", Who)
LIFE = web.AppKey("life", Life)
OWN = web.AppKey("own", Own)
ROUTER = web.AppKey("router", Router)
METRICS = web.AppKey("metrics", Metrics)
BODIES = web.AppKey("bodies", BodyMemory)
TURNS = web.AppKey("turns", Turns)
NETWORK = web.AppKey("network", Reach)
"""May be missing: then there is none."""
ASKING = web.AppKey("asking", Asking)
"""May be missing, as NETWORK."""
TRAFFIC = web.AppKey("traffic", Traffic)
"""Of the peer API; the control socket counts nothing."""

SIGHT: web.RequestKey[Sight] = web.RequestKey("sight", Sight)
EXPECT: web.RequestKey[str] = web.RequestKey("expect", str)
ORIGIN: web.RequestKey[str] = web.RequestKey("origin", str)
"""The web page that asks, where one does and it may."""
