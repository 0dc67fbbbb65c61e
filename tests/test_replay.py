"""When a signed request counts, and how often: clocks that differ, and the cache of what was seen."""

import secrets
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from peers.network.replay import ReplayCache
from peers.network.signatures import Refused, clock_offset, parse
from tests.signing import NOW, OTHER, PATH, SENDER, accept, code, headers


@pytest.mark.parametrize(
    ("ahead", "refused"),
    [(0, None), (-29.5, None), (-30.9, "clock"), (59.5, None), (60.6, "clock"), (600, "clock"), (-600, "clock")],
)
def test_clocks_may_differ_by_a_minute_while_the_signature_lasts(ahead, refused):
    given = headers(now=NOW + ahead)
    if refused:
        assert code(given) == refused
    else:
        accept(given)


def test_a_caller_whose_clock_is_off_signs_again_with_the_peers_date():
    ours, theirs = NOW - 400, NOW
    assert code(headers(now=ours), now=theirs) == "clock"
    offset = clock_offset(format_datetime(datetime.fromtimestamp(theirs, UTC), usegmt=True), ours)
    assert offset == pytest.approx(400, abs=1)
    accept(headers(now=ours + offset), now=theirs)


@pytest.mark.parametrize("ahead", [-601, 602, -1e8, 1e8])
def test_a_clock_that_is_off_by_more_than_ten_minutes_is_not_followed(ahead):
    assert clock_offset(format_datetime(datetime.fromtimestamp(NOW + ahead, UTC), usegmt=True), NOW) is None


@given(st.one_of(st.text(), st.from_regex(r"\w+, \d+ \w+ \d{1,20} \d+:\d+:\d+ [+-]\d{1,20}")))
@example("Mon, 1 Jan 99999999999999999999 00:00:00 GMT")
def test_no_date_breaks_the_clock(date):
    offset = clock_offset(date, NOW)
    assert offset is None or abs(offset) <= 600


def claims(number, keyid=SENDER, now=NOW):
    return [parse("POST", PATH, headers(now=now, keyid=keyid, nonce=secrets.token_bytes(16))) for _ in range(number)]


def refusal(cache, claim, now=NOW):
    with pytest.raises(Refused) as refused:
        cache.add(claim, now)
    return refused.value.status, refused.value.code


def test_a_name_is_kept_until_a_minute_after_it_has_expired():
    cache, (claim, later) = ReplayCache(), claims(2)
    cache.add(claim, NOW)
    assert refusal(cache, claim, claim.expires + 60) == (401, "replay")
    cache.add(later, claim.expires + 60.5)
    assert len(cache) == 1


def test_a_full_cache_forgets_nobody():
    cache = ReplayCache(most=100)
    kept = claims(100)
    for claim in kept:
        cache.add(claim, NOW)
    for claim in claims(50):
        assert refusal(cache, claim) == (503, "busy")
    assert {refusal(cache, claim) for claim in kept} == {(401, "replay")}
    late = NOW + 91
    for claim in claims(100, now=late):
        cache.add(claim, late)
    assert len(cache) == 100


def test_one_stranger_cannot_fill_it():
    cache = ReplayCache(most_per_key=10)
    for claim in claims(10):
        cache.add(claim, NOW)
    assert refusal(cache, claims(1)[0]) == (429, "rate_limited")
    cache.add(claims(1, keyid=OTHER)[0], NOW)
    late = NOW + 91
    cache.add(claims(1, now=late)[0], late)
    assert len(cache) == 1


def test_a_flood_leaves_no_trace():
    """What it holds is bounded by what came in the last two minutes, and no single call pays for all of it."""
    cache = ReplayCache()
    for step in range(20):
        for claim in claims(100, keyid=OTHER if step < 10 else SENDER, now=NOW + step * 10):
            cache.add(claim, NOW + step * 10)
    assert len(cache) <= 1000
    end = NOW + 1000
    for claim in claims(5, now=end):
        cache.add(claim, end)
    assert len(cache) == 5
    assert (len(cache._by_age), len(cache._per_key)) == (5, 1)
