"""The authority's folder: its key, what it issued, and a deny-list whose number only grows (docs/security.md C-13)."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from peers.network.authority import Authority, AuthorityError, NoSuchNode
from peers.network.certificates import DAY, MOST_DAYS, DenyList, NetworkId, open_deny_list, read_certificate
from peers.network.identity import IdentityError, id_text, parse_key
from peers.network.stake import Certificates
from peers.network.tokens import parse_deny_list
from peers.wire import NodeId
from tests.test_certificates import NODE, NOW, OTHER, reason


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "masa")


def listed(authority: Authority, text: str) -> DenyList:
    network = authority.network()
    return open_deny_list(parse_deny_list(text), {NetworkId(network): parse_key(network)})


def test_the_first_certificate_makes_the_authority(authority: Authority) -> None:
    with pytest.raises(AuthorityError, match="no authority"):
        authority.network()
    assert not authority.folder.exists()
    sealed = authority.issue(NODE, NOW, amount=7, days=30)
    assert Certificates(authority.network()).proven(NODE, sealed, NOW).amount == 7
    assert {path.name: path.stat().st_mode & 0o777 for path in authority.folder.iterdir() if path.name != "lock"} == {
        "authority.key": 0o600,
        "issued.json": 0o600,
    }
    assert authority.folder.stat().st_mode & 0o777 == authority.folder.parent.stat().st_mode & 0o777 == 0o700
    again = Authority(authority.folder.parent)
    assert again.network() == authority.network() == read_certificate(again.issue(OTHER, NOW)).net
    assert [(one.node, one.amount, one.exp - one.nbf) for one in again.issued(NOW)] == [
        (NODE, 7, 30 * DAY),
        (OTHER, 1, 90 * DAY),
    ]


def test_a_key_that_others_can_read_is_refused(authority: Authority) -> None:
    authority.issue(NODE, NOW)
    (authority.folder / "authority.key").chmod(0o640)
    with pytest.raises(IdentityError, match="chmod 600"):
        authority.issue(NODE, NOW)
    with pytest.raises(IdentityError, match="chmod 600"):
        authority.revoke(NODE, NOW)


def test_all_live_certificates_of_a_node_are_revoked_and_nobody_elses(authority: Authority) -> None:
    mine = [authority.issue(NODE, NOW), authority.issue(NODE, NOW, days=1), authority.issue(NODE, NOW + 3 * DAY)]
    other = authority.issue(OTHER, NOW)
    later = NOW + 4 * DAY
    revoked = authority.revoke(NODE[:6], later)
    assert (revoked.node, revoked.count) == (NODE, 2)
    members = Certificates(authority.network())
    assert members.read_denials(revoked.deny_list)
    assert reason(members.proven, NODE, mine[0], later) == "revoked"
    assert reason(members.proven, NODE, mine[2], later) == "revoked"
    assert members.proven(OTHER, other, later)
    assert [one.state(later) for one in authority.issued(later)] == ["revoked", "ended", "revoked", "valid"]


def test_who_is_let_in_again_has_a_certificate_that_counts(authority: Authority) -> None:
    authority.issue(NODE, NOW)
    first = authority.revoke(NODE, NOW)
    assert authority.revoke(NODE, NOW).count == 0
    assert authority.revoke(NODE, NOW).deny_list == first.deny_list
    fresh = authority.issue(NODE, NOW)
    members = Certificates(authority.network())
    members.read_denials(first.deny_list)
    assert members.proven(NODE, fresh, NOW)
    assert authority.revoke(NODE, NOW).count == 1


def test_what_has_ended_drops_out_and_the_number_grows(authority: Authority) -> None:
    authority.issue(NODE, NOW, days=1)
    authority.issue(OTHER, NOW)
    first = listed(authority, authority.revoke(NODE, NOW).deny_list)
    soon = listed(authority, authority.revoke(OTHER, NOW).deny_list)
    assert first.serials < soon.serials
    authority.issue(OTHER, NOW)
    last = listed(authority, authority.revoke(OTHER, NOW + 2 * DAY).deny_list)
    assert first.serials & last.serials == set()
    assert len(last.serials) == 2
    assert first.number < soon.number < last.number


def test_a_folder_restored_from_its_backup_signs_no_number_twice(authority: Authority) -> None:
    authority.issue(NODE, NOW)
    backup = (authority.folder / "issued.json").read_bytes()
    seen = listed(authority, authority.revoke(NODE, NOW).deny_list)
    (authority.folder / "issued.json").write_bytes(backup)
    assert listed(authority, authority.revoke(NODE, NOW + 1).deny_list).number > seen.number


def test_a_clock_that_goes_back_does_not_take_the_number_back(authority: Authority) -> None:
    authority.issue(NODE, NOW)
    authority.issue(OTHER, NOW)
    ahead = listed(authority, authority.revoke(NODE, NOW + 1000).deny_list)
    assert listed(authority, authority.revoke(OTHER, NOW).deny_list).number == ahead.number + 1


def test_what_ended_a_year_ago_is_forgotten(authority: Authority) -> None:
    authority.issue(NODE, NOW, days=1)
    authority.issue(OTHER, NOW + (MOST_DAYS + 3) * DAY)
    assert [one.node for one in authority.issued(NOW)] == [OTHER]


def test_commands_at_once_lose_nothing(authority: Authority) -> None:
    authority.issue(OTHER, NOW)
    with ThreadPoolExecutor(8) as pool:
        sealed = list(pool.map(lambda _: Authority(authority.folder.parent).issue(NODE, NOW), range(24)))
    serials = {read_certificate(one).serial for one in sealed}
    assert {one.serial for one in authority.issued(NOW) if one.node == NODE} == serials
    assert len(serials) == 24


def test_which_node_is_meant(authority: Authority) -> None:
    twins = [id_text(b"twins" + bytes([number]) + b"\1" * 26) for number in (1, 255)]
    for twin in twins:
        authority.issue(twin, NOW)
    with pytest.raises(NoSuchNode, match="beginning of 2 nodes"):
        authority.revoke(twins[0][:8], NOW)
    with pytest.raises(NoSuchNode, match="no certificate was issued"):
        authority.revoke(NODE, NOW)
    assert authority.revoke(twins[0], NOW).node == twins[0]
    with pytest.raises(NoSuchNode, match="ended"):
        authority.revoke(twins[1], NOW + 91 * DAY)


def test_a_damaged_list_is_not_taken_for_an_empty_one(authority: Authority) -> None:
    authority.issue(NODE, NOW)
    (authority.folder / "issued.json").write_text("{")
    with pytest.raises(AuthorityError, match="backup"):
        authority.issue(NODE, NOW)
    assert (authority.folder / "issued.json").read_text() == "{"


def test_a_full_deny_list_is_told_and_changes_nothing(authority: Authority) -> None:
    authority.issue(NODE, NOW)
    path = authority.folder / "issued.json"
    kept = msgspec.json.decode(path.read_bytes())
    kept["issued"] = [kept["issued"][0] | {"serial": f"{number:011}"} for number in range(300)]
    path.write_bytes(before := msgspec.json.encode(kept))
    with pytest.raises(AuthorityError, match="4 KiB"):
        authority.revoke(NODE, NOW)
    assert path.read_bytes() == before


@pytest.mark.parametrize("wrong", [{"days": 0}, {"days": 366}, {"amount": 0}])
def test_what_cannot_be_issued_is_not_listed(authority: Authority, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        authority.issue(NODE, NOW, **wrong)
    with pytest.raises(ValueError, match="weak"):
        authority.issue(NodeId(id_text(b"\1" + bytes(31))), NOW)
    assert authority.issued(NOW) == []
