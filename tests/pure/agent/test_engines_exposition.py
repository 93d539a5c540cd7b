"""The reader of metrics pages against the general parser of the Prometheus client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from studio_agent.engines.exposition import Sample, samples

NAMES = ("a:running", "b_seconds")
LABELS = st.text(st.sampled_from('le="0.5",}{\\\n #é '), max_size=12)
VALUES = st.floats(allow_nan=False)


@given(
    st.lists(st.tuples(LABELS, VALUES), min_size=1, max_size=4, unique_by=lambda it: it[0]),
    st.lists(VALUES, max_size=3),
)
def test_it_reads_what_the_general_parser_reads(series: list[tuple[str, float]], observed: list[float]):
    registry = CollectorRegistry()
    gauge = Gauge("a:running", "what { runs", ["le_not", "model"], registry=registry)
    histogram = Histogram("b_seconds", "how long", ["model"], registry=registry)
    Gauge("c_other", "not asked for", registry=registry).set(1)
    for label, value in series:
        gauge.labels(label, "m").set(value)
        for each in observed:
            histogram.labels(label).observe(each)
    page = generate_latest(registry).decode()
    known = [
        Sample(each.name, float(each.labels["le"]) if "le" in each.labels else None, float(each.value))
        for family in text_string_to_metric_families(page)
        for each in family.samples
        if each.name.startswith(NAMES)
    ]
    assert list(samples(page, NAMES)) == known


@pytest.mark.parametrize(
    ("line", "sample"),
    [
        ("a 1", Sample("a", None, 1.0)),
        ("a{} 1 1700000000000", Sample("a", None, 1.0)),
        ('a{ le = "+Inf" , x="1" }  3', Sample("a", float("inf"), 3.0)),
        ('a{x="},le=\\"7\\""} 2e3', Sample("a", None, 2000.0)),
    ],
)
def test_spaces_timestamps_and_quotes(line: str, sample: Sample):
    assert list(samples(f"{line}\n", ("a",))) == [sample]


@pytest.mark.parametrize("page", ["a 1\nb", 'a 1\nb{x="1', "a 1\nother 1e"])
def test_a_page_that_breaks_off_is_known_as_such(page: str):
    read = samples(page, ("a",))
    assert next(read) == Sample("a", None, 1.0)
    with pytest.raises(ValueError, match=r"not a sample|could not convert"):
        list(read)
