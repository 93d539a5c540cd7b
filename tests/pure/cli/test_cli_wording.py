from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from studio_cli import wording
from studio_runtime.errors import InvalidError


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0s"),
        (-3, "0s"),
        (41, "41s"),
        (134.9, "2m14s"),
        (120, "2m"),
        (8040, "2h14m"),
        (10_800, "3h"),
        (10_801, "3h"),
        (273_600, "3d4h"),
    ],
)
def test_durations_have_two_units(seconds: float, written: str):
    assert wording.duration(seconds) == written


@given(st.integers(0, 86_400 * 400))
def test_a_written_duration_is_read_back_within_its_smallest_unit(seconds: int):
    written = wording.duration(seconds)
    smallest = wording.UNIT_SECONDS[written[-1]]
    lost = seconds - wording.parse_duration(written)
    assert 0 <= lost < max(smallest, 86_400 if "d" in written else 3_600 if "h" in written else 60)


@pytest.mark.parametrize("text", ["", "5", "m", "1.5h", "-3m", "10 m", "1w"])
def test_what_is_no_duration_is_refused(text: str):
    with pytest.raises(InvalidError, match="not a duration"):
        wording.parse_duration(text)


@pytest.mark.parametrize(
    ("count", "written"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (62 * 2**30, "62 GiB"),
        (71_300_000_000, "66 GiB"),
        (2**60, "1024 PiB"),
    ],
)
def test_sizes_are_binary(count: int, written: str):
    assert wording.size(count) == written


def test_a_share_is_cut_so_that_only_all_is_everything():
    assert wording.share(0.999) == "99 %"
    assert wording.share(1.0) == "100 %"
    assert wording.share(0.29) == "29 %"


@pytest.mark.parametrize(("value", "written"), [(0.83, "0.8 s"), (18.2, "18 s"), (134, "2m14s")])
def test_measured_times(value: float, written: str):
    assert wording.seconds(value) == written


def test_ages():
    now = datetime(2026, 1, 2, tzinfo=UTC)
    stamp = Timestamp()
    assert wording.age(stamp, now) == wording.NOTHING
    stamp.FromDatetime(now - timedelta(hours=2, minutes=14))
    assert wording.age(stamp, now) == "2h14m"
