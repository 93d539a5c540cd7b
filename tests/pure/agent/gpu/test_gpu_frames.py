"""The framing: what goes in comes out, and nothing else is ever taken for a frame."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.host_pb2 import Gpu, GpuFigures, Host, HostFacts
from studio_agent.gpu.frames import HEADER, MAX_PART_BYTES, Frame, FrameError, Refusal, decode, encode, part_lengths
from studio_agent.gpu.reading import Condition, LinkCounters, Xid

texts = st.text(max_size=20)
numbers = st.none() | st.integers(0, 2**63 - 1)
frames = st.builds(
    Frame,
    host=st.builds(
        lambda uuid, watts: Host(
            facts=HostFacts(gpu_driver="580"), gpus=[Gpu(uuid=uuid, figures=GpuFigures(power_watts=watts))]
        ),
        texts,
        st.none() | st.floats(0, 1000),
    ),
    conditions=st.lists(st.builds(Condition, uuid=texts, lost=texts, recovery_action=numbers)).map(tuple),
    links=st.lists(st.builds(LinkCounters, uuid=texts, pcie_sent_bytes=numbers)).map(tuple),
    xids=st.lists(st.builds(Xid, uuid=texts, number=st.integers(0, 500), at=st.floats(0, 4e9))).map(tuple),
    vendor=st.sampled_from(["nvidia", "amd"]),
    refusal=st.none() | st.builds(Refusal, reason=texts, absent=st.booleans(), final=st.booleans()),
)


def taken_apart(data: bytes) -> tuple[Frame, bytes]:
    """The first frame of ``data`` and what follows it."""
    host_length, report_length = part_lengths(data[: HEADER.size])
    body = data[HEADER.size :]
    end = host_length + report_length
    return decode(body[:host_length], body[host_length:end]), body[end:]


@given(st.lists(frames, min_size=1, max_size=3))
def test_frames_one_after_another_come_out_as_they_went_in(sent: list[Frame]):
    data = b"".join(encode(frame) for frame in sent)
    received = []
    while data:
        frame, data = taken_apart(data)
        received.append(frame)
    assert received == sent


@given(st.binary(max_size=200), st.binary(max_size=200) | st.text().map(str.encode))
def test_other_bytes_are_refused_and_never_crash(host: bytes, report: bytes):
    with pytest.raises(FrameError):
        decode(host, report)


@pytest.mark.parametrize("report", ["[]", "1", "null", "{}", '{"conditions":[{"surprise":1}]}', "[" * 100_000])
def test_json_of_another_shape_is_refused(report: str):
    with pytest.raises(FrameError):
        decode(b"", report.encode())


def test_a_length_that_no_frame_has_is_refused_before_anything_is_read():
    with pytest.raises(FrameError):
        part_lengths(HEADER.pack(MAX_PART_BYTES + 1, 0))
    assert part_lengths(HEADER.pack(MAX_PART_BYTES, 7)) == (MAX_PART_BYTES, 7)


def test_an_absent_value_stays_absent_and_a_zero_stays_a_zero():
    sent = Frame(host=Host(gpus=[Gpu(figures=GpuFigures(power_watts=0.0))]))
    figures = taken_apart(encode(sent))[0].host.gpus[0].figures
    assert figures.HasField("power_watts")
    assert not figures.HasField("temperature_celsius")
