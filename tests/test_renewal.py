"""A certificate while its node runs: its file is read again, what is wrong is told once, its end in good time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from masa_node.joined import Joined
from masa_node.renewal import Renewal
from peers.network.certificates import DAY, deny, issue, read_certificate
from peers.network.contact import proof_text
from peers.network.identity import load_identity, node_id
from peers.network.stake import Certificates
from peers.network.tokens import certificate_text, deny_list_text
from tests.nodes import running
from tests.test_certificates import AUTHORITY, NETWORK, OTHER, STRANGER
from tests.waiting import until

QUIET = {"PEER_HOST": "127.0.0.1", "PEER_PORT": "0", "MDNS": "false"}


class Member:
    """A node whose certificate is in a file, and the step that looks at it."""

    def __init__(self, joined: Joined, file: Path) -> None:
        self.joined = joined
        self.file = file
        self.now = time.time()
        self.renewal = Renewal(joined, file, lambda: self.now)

    @property
    def stake(self) -> Certificates:
        assert self.joined.network is not None
        assert isinstance(self.joined.network.stake, Certificates)
        return self.joined.network.stake

    def announced(self) -> str:
        """The proof in its own record."""
        assert self.joined.network is not None
        return self.joined.network.membership.announcer.record.proof

    def made(self, serial: bytes, **terms: int) -> bytes:
        return issue(AUTHORITY, self.joined.who.id, self.now, serial, **terms)

    async def finds(self, text: str | bytes | None) -> list[tuple[str, str]]:
        """What it logs when this is in its file; None: the file is gone."""
        if text is None:
            await asyncio.to_thread(self.file.unlink)
        else:
            await asyncio.to_thread(self.file.write_bytes, text.encode() if isinstance(text, str) else text)
        return await self.looks()

    async def looks(self) -> list[tuple[str, str]]:
        with capture_logs() as logs:
            assert await self.renewal.step() == 10
        return [
            (entry["event"], entry.get("reason", ""))
            for entry in logs
            if entry["event"].startswith("stake_certificate")
        ]


@asynccontextmanager
async def member(folder: Path, ago: float = 0.0) -> AsyncIterator[Member]:
    file = folder / "member.cert"
    me = node_id(await asyncio.to_thread(load_identity, folder / "masa"))
    word = certificate_text(issue(AUTHORITY, me, time.time() - ago, b"at-first"))
    await asyncio.to_thread(file.write_text, word)
    env = {**QUIET, "NETWORK_ID": NETWORK, "STAKE_CERTIFICATE_FILE": str(file)}
    async with running(folder, **env) as node:
        await node.node.joined.settled()
        yield Member(node.node.joined, file)


async def test_a_new_certificate_is_taken_and_announced(tmp_path: Path) -> None:
    async with member(tmp_path) as one:
        assert await one.looks() == []
        renewed = one.made(b"renewed!", days=200)
        assert await one.finds(certificate_text(renewed) + "\n") == [("stake_certificate", "")]
        assert one.stake.certificate == renewed
        assert await one.looks() == []
        await until(lambda: one.announced() == proof_text(renewed), 5)
        await one.joined.change()
        assert one.stake.certificate == renewed


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("", "starts with masacert1"),
        ("nothing of the kind", "starts with masacert1"),
        (b"\xff\xfe", "no text"),
        (None, "cannot be read"),
        (certificate_text(issue(AUTHORITY, OTHER, time.time(), b"another!")), f"for node {OTHER}"),
        (certificate_text(issue(STRANGER, OTHER, time.time(), b"another!")), "for network"),
        (certificate_text(issue(AUTHORITY, OTHER, time.time(), b"another!"))[:-3], "cannot be read"),
    ],
    ids=["empty", "words", "bytes", "gone", "another node's", "another network's", "cut"],
)
async def test_a_bad_one_is_told_once_and_the_old_one_kept(tmp_path: Path, wrong: str | None, why: str) -> None:
    async with member(tmp_path) as one:
        before, good = one.stake.certificate, await asyncio.to_thread(one.file.read_text)
        ((event, reason),) = await one.finds(wrong)
        assert event == "stake_certificate_refused"
        assert why in reason
        assert await one.looks() == []
        assert one.stake.certificate == before
        assert await one.finds(good) == []
        assert len(await one.finds(wrong)) == 1


async def test_a_revoked_one_is_refused_and_told(tmp_path: Path) -> None:
    async with member(tmp_path) as one:
        fresh = one.made(b"revoked!")
        serials = [read_certificate(sealed).serial for sealed in (fresh, one.stake.certificate)]
        assert one.joined.deny(deny_list_text(deny(AUTHORITY, 1, serials)))
        told = await one.finds(certificate_text(fresh))
        assert [event for event, _ in told] == ["stake_certificate_refused", "stake_certificate_trouble"]
        assert all("revoked by the authority" in reason for _, reason in told)


async def test_its_end_is_told_at_the_start_and_once_a_day(tmp_path: Path) -> None:
    async with member(tmp_path, ago=80 * DAY) as one:
        ((event, reason),) = await one.looks()
        assert event == "stake_certificate_trouble"
        assert "in 10 days" in reason
        one.now += DAY - 60
        assert await one.looks() == []
        one.now += 120
        assert "in 9 days" in (await one.looks())[0][1]
        assert await one.finds(certificate_text(one.made(b"renewed!"))) == [("stake_certificate", "")]
        one.now += DAY
        assert await one.looks() == []


async def test_a_node_with_an_expired_one_says_so_and_takes_the_next(tmp_path: Path) -> None:
    async with member(tmp_path, ago=91 * DAY) as one:
        ((_, reason),) = await one.looks()
        assert "ended on" in reason
        assert one.joined.who.id in reason
        assert await one.finds(certificate_text(one.made(b"renewed!"))) == [("stake_certificate", "")]
        assert one.stake.proven(one.joined.who.id, one.stake.certificate, one.now)


async def test_the_clock_may_come_to_a_certificate_that_begins_later(tmp_path: Path) -> None:
    async with member(tmp_path) as one:
        later = certificate_text(issue(AUTHORITY, one.joined.who.id, one.now + 3600, b"tomorrow"))
        assert "begins on" in (await one.finds(later))[0][1]
        assert await one.looks() == []
        one.now += 3600
        assert await one.looks() == [("stake_certificate", "")]
