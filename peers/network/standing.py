"""How this node's own certificate stands: for how long it holds, or why it does not and what to do. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime

from peers.network.certificates import DAY, Certificate, NotStaked, Reason, read_certificate
from peers.network.stake import Certificates
from peers.wire import NodeId

WARNED_DAYS = 14
PUT = "put the word it prints into STAKE_CERTIFICATE, or into the file that STAKE_CERTIFICATE_FILE names"


@dataclass(frozen=True, slots=True)
class Standing:
    """What its owner should know of it."""

    certificate: Certificate | None
    """None where there is none, or none that can be read."""
    reason: Reason | None = None
    """Why it does not hold; None: it does."""
    why: str = ""
    """The same in words."""
    remedy: str = ""

    @property
    def trouble(self) -> str:
        """A sentence; empty where the certificate holds."""
        return f"{self.why}: {self.remedy}" if self.reason else ""


def standing(stake: Certificates, node: NodeId, now: float) -> Standing:
    """Judged as another member would judge it."""
    certificate = None
    try:
        certificate = read_certificate(stake.certificate)
        stake.proven(node, stake.certificate, now)
    except NotStaked as error:
        why, remedy = _in_words(error.reason, certificate, stake, node)
        return Standing(certificate, error.reason, why, remedy)
    return Standing(certificate)


def trouble(stake: Certificates, node: NodeId, now: float) -> str:
    """A sentence when it does not hold, or ends soon; empty where all is well."""
    stands = standing(stake, node, now)
    return stands.trouble or (expiry_warning(stands.certificate, now) if stands.certificate else "")


def expiry_warning(certificate: Certificate, now: float) -> str:
    """A sentence from 14 days before its end on; empty before that."""
    left = certificate.exp - now
    if left > WARNED_DAYS * DAY:
        return ""
    ends = f"ends on {day(certificate.exp)}, in {span(left)}" if left > 0 else f"ended on {day(certificate.exp)}"
    return f"this node's certificate {ends}: {_renew(certificate.node)}"


def day(when: float) -> str:
    """As people read it; in UTC, since those who issue and those who use it may live apart."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M UTC")


def span(seconds: float) -> str:
    """In days, or in hours where it is less than two."""
    days, hours = round(seconds / DAY), round(seconds / 3600)
    return f"{days} days" if seconds >= 2 * DAY else f"{hours} hour{'' if hours == 1 else 's'}"


def _in_words(reason: Reason, certificate: Certificate | None, stake: Certificates, node: NodeId) -> tuple[str, str]:
    """What is wrong with our own certificate, and the remedy."""
    network, renew, ours = stake.networks[0], _renew(node), "this node's certificate"
    if certificate is None:
        return (
            f"this node has no certificate of network {network}" if reason == "missing" else f"{ours} cannot be read",
            renew,
        )
    match reason:
        case "wrong_network":
            why = f"{ours} is for network {certificate.net}, and NETWORK_ID is {network}"
            return why, f"set NETWORK_ID={certificate.net} if that network is meant; else {renew}"
        case "other_node":
            why = f"this certificate is for node {certificate.node}, and this node is {node}"
            return why, f"take it to that node, or restore that node's node.key; else {renew}"
        case "expired":
            return f"{ours} ended on {day(certificate.exp)}", renew
        case "not_yet":
            return f"{ours} begins on {day(certificate.nbf)}", "set this machine's clock, or wait until then"
        case "revoked":
            return f"{ours} was revoked by the authority", f"ask there why; then {renew}"
        case _:
            return f"{ours} was not signed by the network's authority", f"copy all of it; else {renew}"


def _renew(node: NodeId) -> str:
    return f"have the authority run `masa-node stake issue {node}`, and {PUT}"
