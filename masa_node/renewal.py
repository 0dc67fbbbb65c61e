"""Renewal: this node's certificate while it runs: its file is read again, and its end is told in good time."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from pydantic import SecretStr

from masa_node.joined import Joined
from masa_node.means import certificates_of
from peers.network.certificates import DAY
from peers.network.stake import Certificates
from peers.network.standing import Standing, day, expiry_warning, standing
from peers.network.tokens import BadToken, certificate_text, parse_certificate

log = structlog.get_logger(__name__)

LOOK_SECONDS = 10.0
LARGEST_FILE = 4096


class Renewal:
    """Its `step` is one of the node's loops; for a node with NETWORK_ID."""

    def __init__(self, joined: Joined, file: Path | None, clock: Callable[[], float] = time.time) -> None:
        """`file`: what STAKE_CERTIFICATE_FILE names, where the certificate is from there."""
        self._joined = joined
        self._file = file
        self._clock = clock
        self._refused: tuple[str, str] | None = None
        """What the file held when it was last refused, and why: said once."""
        self._warn_at = float("-inf")

    async def step(self) -> float:
        if self._file is not None:
            await self._look(self._file)
        if self._clock() >= self._warn_at and (trouble := self._trouble()):
            log.warning("stake_certificate_trouble", reason=trouble)
            self._warn_at = self._clock() + DAY
        return LOOK_SECONDS

    async def _look(self, file: Path) -> None:
        word, why = "", ""
        try:
            word = await asyncio.to_thread(_word_in, file)
            why = self._offered(parse_certificate(word))
        except OSError as error:
            why = f"the file that STAKE_CERTIFICATE_FILE names cannot be read ({error.strerror})"
        except UnicodeDecodeError:
            why = "the file that STAKE_CERTIFICATE_FILE names is no text"
        except BadToken as error:
            why = str(error)
        refused = (word, why) if why else None
        if refused and refused != self._refused:
            log.warning("stake_certificate_refused", reason=why)
        self._refused = refused

    def _offered(self, sealed: bytes) -> str:
        """Take this certificate, if it is another one and holds; else keep what there is. Why it does not, in words."""
        if sealed == self._stake().certificate:
            return ""
        stands = self._judged(self._stake(sealed))
        if not stands.reason:
            self._take(sealed, stands)
        return stands.trouble

    def _take(self, sealed: bytes, stands: Standing) -> None:
        """In the network that is open, whose next round announces it, and in any that is opened after it."""
        joined = self._joined
        told = {"stake_certificate": SecretStr(certificate_text(sealed))}
        joined.settings = joined.settings.model_copy(update=told)
        if joined.network is not None and isinstance(joined.network.stake, Certificates):
            joined.network.stake.certificate = sealed
        self._warn_at = float("-inf")
        if stands.certificate is not None:
            log.info("stake_certificate", until=day(stands.certificate.exp))

    def _trouble(self) -> str:
        stands = self._judged(self._stake())
        if stands.reason is None and stands.certificate is not None:
            return expiry_warning(stands.certificate, self._clock())
        return stands.trouble

    def _judged(self, stake: Certificates) -> Standing:
        return standing(stake, self._joined.who.id, self._clock())

    def _stake(self, sealed: bytes | None = None) -> Certificates:
        """What this node has, or would have with another certificate; with what is known of revoked ones."""
        stake = certificates_of(self._joined.settings)
        if sealed is not None:
            stake.certificate = sealed
        if self._joined.network is not None:
            stake.read_denials(self._joined.network.membership.exchange.deny_list)
        return stake


def _word_in(file: Path) -> str:
    """Blocks. Raises OSError, UnicodeDecodeError."""
    with file.open("rb") as opened:
        return opened.read(LARGEST_FILE).decode().strip()
