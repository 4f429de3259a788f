import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqlft.gateway.rate_limit import (
    BAD_MESSAGE_SECONDS,
    BLOCK_SECONDS,
    LINES_SECONDS,
    MAX_BAD_MESSAGES,
    MAX_LINES,
    MAX_PEERS,
    MAX_SESSIONS,
    SESSION_SECONDS,
    LimitedLog,
    RateLimiter,
    SessionLimiter,
)

NOW = 100.0


def offend(
    rate_limiter: RateLimiter, peer: bytes | int, count: int, now: float = NOW
) -> list[bool]:
    """Bad messages at one moment, and what each of them led to."""
    return [rate_limiter.record_bad_message(peer, now) for _ in range(count)]


def test_the_tenth_bad_message_within_a_minute_blocks_a_peer() -> None:
    rate_limiter = RateLimiter()
    for index in range(9):
        assert not rate_limiter.record_bad_message(b"a", NOW + 6 * index)
    assert not rate_limiter.is_blocked(b"a", NOW + 59)
    assert rate_limiter.record_bad_message(b"a", NOW + 60)
    assert rate_limiter.is_blocked(b"a", NOW + 60)
    assert rate_limiter.bad_messages == 10


def test_bad_messages_that_come_more_slowly_shut_nobody_out() -> None:
    rate_limiter = RateLimiter()
    pause = BAD_MESSAGE_SECONDS / (MAX_BAD_MESSAGES - 1) + 0.01
    assert not any(
        rate_limiter.record_bad_message(b"a", NOW + pause * index) for index in range(100)
    )
    assert rate_limiter.bad_messages == 100


def test_a_block_ends_after_ten_minutes_and_the_count_begins_anew() -> None:
    rate_limiter = RateLimiter()
    offend(rate_limiter, b"a", MAX_BAD_MESSAGES)
    assert rate_limiter.is_blocked(b"a", NOW + 599)
    later = NOW + BLOCK_SECONDS
    assert not rate_limiter.is_blocked(b"a", later)
    assert offend(rate_limiter, b"a", MAX_BAD_MESSAGES, later) == [False] * 9 + [True]


def test_peers_are_told_apart() -> None:
    rate_limiter = RateLimiter()
    offend(rate_limiter, b"a", MAX_BAD_MESSAGES)
    offend(rate_limiter, 1, MAX_BAD_MESSAGES - 1)
    assert rate_limiter.is_blocked(b"a", NOW)
    assert not rate_limiter.is_blocked(1, NOW)
    assert not rate_limiter.is_blocked(b"b", NOW)


def test_whatever_the_number_of_peers_only_the_newest_offenders_are_remembered() -> None:
    rate_limiter = RateLimiter()
    offend(rate_limiter, b"early", MAX_BAD_MESSAGES)
    offend(rate_limiter, b"again", MAX_BAD_MESSAGES - 1)
    for index in range(MAX_PEERS - 2):
        rate_limiter.record_bad_message(b"%d" % index, NOW)
    assert rate_limiter.is_blocked(b"early", NOW)
    assert rate_limiter.record_bad_message(b"again", NOW)
    for index in range(10 * MAX_PEERS):
        rate_limiter.record_bad_message(b"other %d" % index, NOW)
        if index < MAX_PEERS - 1:
            assert rate_limiter.is_blocked(b"again", NOW)
    assert not rate_limiter.is_blocked(b"early", NOW)
    assert not rate_limiter.is_blocked(b"again", NOW)
    assert rate_limiter.bad_messages == 2 * MAX_BAD_MESSAGES + 11 * MAX_PEERS - 2


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", 1]), st.floats(0.0, 400.0)), max_size=300))
def test_a_peer_is_blocked_exactly_when_ten_of_its_messages_lie_within_a_minute(
    gaps: list[tuple[bytes | int, float]],
) -> None:
    rate_limiter, now = RateLimiter(), NOW
    times: dict[bytes | int, list[float]] = {}
    for peer, gap in gaps:
        now += gap / 10
        if rate_limiter.is_blocked(peer, now):
            continue
        mine = times.setdefault(peer, [])
        mine.append(now)
        expected = (
            len(mine) >= MAX_BAD_MESSAGES and now - mine[-MAX_BAD_MESSAGES] <= BAD_MESSAGE_SECONDS
        )
        assert rate_limiter.record_bad_message(peer, now) == expected
        assert rate_limiter.is_blocked(peer, now) == expected
        if expected:
            mine.clear()


def test_a_worker_may_begin_some_sessions_at_once_and_then_one_from_time_to_time() -> None:
    limiter = SessionLimiter()
    began = [limiter.may_begin(0, NOW) for _ in range(MAX_SESSIONS + 1)]
    assert began == [True] * MAX_SESSIONS + [False]
    assert limiter.may_begin(1, NOW)
    assert not limiter.may_begin(0, NOW + SESSION_SECONDS - 0.1)
    assert limiter.may_begin(0, NOW + SESSION_SECONDS)
    assert not limiter.may_begin(0, NOW + SESSION_SECONDS)


def test_a_log_says_how_many_lines_it_leaves_out(caplog: pytest.LogCaptureFixture) -> None:
    log = LimitedLog(logging.getLogger("test"))
    for number in range(MAX_LINES + 5):
        log.warning(NOW, "line %d", number)
    assert caplog.messages == [f"line {number}" for number in range(MAX_LINES)]
    log.tick(NOW + LINES_SECONDS)
    log.warning(NOW + LINES_SECONDS, "again")
    log.tick(NOW + 2 * LINES_SECONDS)
    assert caplog.messages[MAX_LINES:] == ["5 more lines like these were left out.", "again"]
