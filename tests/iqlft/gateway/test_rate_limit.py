from hypothesis import given
from hypothesis import strategies as st

from iqlft.gateway.rate_limit import (
    BAD_MESSAGES,
    BAD_SECONDS,
    MAX_PEERS,
    SHUT_OUT_SECONDS,
    Bouncer,
)

NOW = 100.0


def offend(bouncer: Bouncer, peer: bytes | int, count: int, now: float = NOW) -> list[bool]:
    """Bad messages at one moment, and what each of them led to."""
    return [bouncer.bad(peer, now) for _ in range(count)]


def test_the_tenth_bad_message_within_a_minute_shuts_a_peer_out() -> None:
    bouncer = Bouncer()
    for index in range(9):
        assert not bouncer.bad(b"a", NOW + 6 * index)
    assert not bouncer.shut_out(b"a", NOW + 59)
    assert bouncer.bad(b"a", NOW + 60)
    assert bouncer.shut_out(b"a", NOW + 60)
    assert (bouncer.bad_messages, bouncer.shut_outs) == (10, 1)


def test_bad_messages_that_come_more_slowly_shut_nobody_out() -> None:
    bouncer = Bouncer()
    pause = BAD_SECONDS / (BAD_MESSAGES - 1) + 0.01
    assert not any(bouncer.bad(b"a", NOW + pause * index) for index in range(100))
    assert bouncer.bad_messages == 100


def test_a_shut_out_ends_after_ten_minutes_and_the_count_begins_anew() -> None:
    bouncer = Bouncer()
    offend(bouncer, b"a", BAD_MESSAGES)
    assert bouncer.shut_out(b"a", NOW + 599)
    later = NOW + SHUT_OUT_SECONDS
    assert not bouncer.shut_out(b"a", later)
    assert offend(bouncer, b"a", BAD_MESSAGES, later) == [False] * 9 + [True]
    assert bouncer.shut_outs == 2


def test_peers_are_told_apart() -> None:
    bouncer = Bouncer()
    offend(bouncer, b"a", BAD_MESSAGES)
    offend(bouncer, 1, BAD_MESSAGES - 1)
    assert bouncer.shut_out(b"a", NOW)
    assert not bouncer.shut_out(1, NOW)
    assert not bouncer.shut_out(b"b", NOW)


def test_whatever_the_number_of_peers_only_the_newest_offenders_are_remembered() -> None:
    bouncer = Bouncer()
    offend(bouncer, b"early", BAD_MESSAGES)
    offend(bouncer, b"again", BAD_MESSAGES - 1)
    for index in range(MAX_PEERS - 2):
        bouncer.bad(b"%d" % index, NOW)
    assert bouncer.shut_out(b"early", NOW)
    assert bouncer.bad(b"again", NOW)
    for index in range(10 * MAX_PEERS):
        bouncer.bad(b"other %d" % index, NOW)
        if index < MAX_PEERS - 1:
            assert bouncer.shut_out(b"again", NOW)
    assert not bouncer.shut_out(b"early", NOW)
    assert not bouncer.shut_out(b"again", NOW)
    assert bouncer.bad_messages == 2 * BAD_MESSAGES + 11 * MAX_PEERS - 2


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", 1]), st.floats(0.0, 400.0)), max_size=300))
def test_a_peer_is_shut_out_exactly_when_ten_of_its_messages_lie_within_a_minute(
    gaps: list[tuple[bytes | int, float]],
) -> None:
    bouncer, now = Bouncer(), NOW
    times: dict[bytes | int, list[float]] = {}
    for peer, gap in gaps:
        now += gap / 10
        if bouncer.shut_out(peer, now):
            continue
        mine = times.setdefault(peer, [])
        mine.append(now)
        expected = len(mine) >= BAD_MESSAGES and now - mine[-BAD_MESSAGES] <= BAD_SECONDS
        assert bouncer.bad(peer, now) == expected
        assert bouncer.shut_out(peer, now) == expected
        if expected:
            mine.clear()
