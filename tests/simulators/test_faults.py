"""Faults: each happens as often as it is asked for, and the same each time."""

from __future__ import annotations

import pytest

from agent.quantities import Duration
from simulators._faults import Outage, Share, Spikes, ValueFaults, garble, happens


@pytest.mark.parametrize(("raw", "share"), [("1%", 0.01), ("0.5 %", 0.005), (0.25, 0.25), (0, 0), (1, 1)])
def test_a_share_is_read(raw: object, share: float) -> None:
    assert Share.parse(raw) == pytest.approx(share)


@pytest.mark.parametrize("raw", ["1", "half", "101%", -0.1, 2, True, None])
def test_what_is_no_share_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        Share.parse(raw)


def test_an_outage_comes_over_and_over() -> None:
    outage = Outage(every=Duration(10), for_=Duration(2))
    assert [time for time in range(25) if outage.on(time)] == [10, 11, 20, 21]
    with pytest.raises(ValueError, match="less than every"):
        Outage(every=Duration(10), for_=Duration(10))


def test_what_happens_in_a_share_of_cases_does() -> None:
    hits = [index for index in range(10_000) if happens(0.05, 1, "spikes", index)]
    assert 400 < len(hits) < 600
    assert hits == [index for index in range(10_000) if happens(0.05, 1, "spikes", index)]
    assert hits != [index for index in range(10_000) if happens(0.05, 2, "spikes", index)]
    assert not any(happens(0.0, 1, "spikes", index) for index in range(100))
    assert all(happens(1.0, 1, "spikes", index) for index in range(100))


def test_spikes_hit_a_share_of_the_values() -> None:
    faults = ValueFaults(spikes=Spikes(share=Share(0.1), by=100))
    values = [faults.value(20, 1, index) for index in range(1000)]
    assert set(values) == {20, 120}
    assert 60 < values.count(120) < 140
    assert ValueFaults().value(20, 1, 1) == 20


def test_a_stuck_value_is_that_of_the_moment_it_got_stuck() -> None:
    faults = ValueFaults(stuck=Outage(every=Duration(10), for_=Duration(3)))
    assert [faults.time_seen(time) for time in range(8, 15)] == [8, 9, 10, 10, 10, 13, 14]


@pytest.mark.parametrize("index", range(50))
def test_a_garbled_line_is_no_text_any_more(index: int) -> None:
    line = b"ST,GS,  12.50 kg"
    garbled = garble(line, seed=1, index=index)
    assert len(garbled) == len(line)
    assert b"\n" not in garbled
    with pytest.raises(UnicodeDecodeError):
        garbled.decode()
    assert garbled == garble(line, seed=1, index=index)
