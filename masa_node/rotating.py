"""A rotation as the owner of this node asks for it: by the names of members, and told in their names."""

from dataclasses import dataclass

from masa_node.joined import Joined
from peers.errors import MasaError
from peers.network.reach import shown
from peers.network.rotation import named

NONE_TO_ROTATE = "this network has no secret: its authority says who may take part (`masa-node stake revoke`)"


@dataclass(frozen=True, slots=True)
class Rotated:
    """What came of it, for people."""

    got: list[str]
    """Who has the new secret."""
    later: dict[str, str]
    """Who has not, and why."""
    left_out: list[str]


async def rotate(joined: Joined, names: list[str], *, at_once: bool) -> Rotated:
    """A new secret for all but those named. Raises UnknownName, OSError; MasaError where there is no secret."""
    network = joined.network
    if network is None or network.rotating is None:
        raise MasaError(409, "no_secret", joined.why or NONE_TO_ROTATE)
    known = {member.node: shown(member.record) for member in network.membership.roster.members()}
    left_out = named(names, joined.who.id, joined.who.shown, known)
    told = await network.rotating.begin(left_out, only_others=bool(left_out), at_once=at_once)
    later = {f"{known[node]} ({node[:8]})": why for node, why in told.items() if why}
    got = [known[node] for node, why in told.items() if not why]
    return Rotated(got, later, [known.get(node, node) for node in left_out])
