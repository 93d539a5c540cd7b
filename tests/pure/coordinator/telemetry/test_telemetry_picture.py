"""What a watcher is sent: whole once, then only what changed; together it is always the truth."""

from hypothesis import given, settings
from hypothesis import strategies as st
from studio.v1.agent_service_pb2 import ReportTelemetryRequest
from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Gpu, Host, HostFacts
from studio.v1.replica_pb2 import Replica
from studio_coordinator.telemetry.picture import HOSTS_AT_ONCE, Picture, Rows

NOTHING = ReportTelemetryRequest()


def a_host(name: str, state: Host.State.ValueType = Host.STATE_CONNECTED) -> Host:
    return Host(id=name, name=f"n-{name}", state=state, gpus=[Gpu(uuid=f"GPU-{name}")], facts=HostFacts(os="Linux"))


def a_report(name: str, busy: float) -> ReportTelemetryRequest:
    report = ReportTelemetryRequest()
    report.host.cpu_share = busy
    report.gpus[f"GPU-{name}"].utilization_share = busy
    report.replicas[f"r-{name}"].running = busy
    return report


def shown(picture: Picture, rows: Rows, reports: dict[str, ReportTelemetryRequest]) -> list[str]:
    messages = list(picture.changes(rows, lambda host_id: reports.get(host_id, NOTHING)))
    return [host.id for message in messages for host in message.hosts]


worlds = st.lists(
    st.dictionaries(st.sampled_from("abcd"), st.tuples(st.booleans(), st.sampled_from([0.0, 0.5, 1.0]))), max_size=8
)


@given(worlds)
@settings(max_examples=100)
def test_changes_add_up_to_what_there_is(steps: list[dict[str, tuple[bool, float]]]) -> None:
    picture, hosts, replicas = Picture(), {}, {}
    for step in steps:
        rows = Rows(
            [a_host(name, Host.STATE_CONNECTED if up else Host.STATE_LOST) for name, (up, _) in step.items()],
            [Replica(id=f"r-{name}", host_id=name) for name in step],
            (),
        )
        reports = {name: a_report(name, busy) for name, (_, busy) in step.items()}
        for message in picture.changes(rows, lambda host_id, said=reports: said.get(host_id, NOTHING)):
            hosts |= {host.id: host for host in message.hosts}
            replicas |= {row.id: row for row in message.replicas}
            for name in message.removed_hosts:
                del hosts[name]
            for name in message.removed_replicas:
                del replicas[name]
        assert {
            name: (host.state == Host.STATE_CONNECTED, host.figures.cpu_share) for name, host in hosts.items()
        } == step
        assert all(host.gpus[0].figures.utilization_share == step[name][1] for name, host in hosts.items())
        assert {name: row.figures.running for name, row in replicas.items()} == {
            f"r-{name}": busy for name, (_, busy) in step.items()
        }


def test_the_first_message_alone_is_whole_and_nothing_is_sent_where_nothing_changed() -> None:
    picture, rows, reports = Picture(), Rows([a_host("a")], (), [Deployment(name="chat")]), {"a": a_report("a", 0.5)}
    first = list(picture.changes(rows, lambda host_id: reports[host_id]))
    assert [message.complete for message in first] == [True, False]
    assert list(picture.changes(rows, lambda host_id: reports[host_id])) == []


def test_an_empty_fleet_has_a_picture_too() -> None:
    picture = Picture()
    (only,) = picture.changes(Rows((), (), ()), lambda _: NOTHING)
    assert only.complete


def test_only_the_host_that_moved_is_sent_again_and_without_its_facts() -> None:
    picture, reports = Picture(), {name: a_report(name, 0.5) for name in "ab"}
    rows = Rows([a_host("a"), a_host("b")], (), ())
    shown(picture, rows, reports)
    reports["b"] = a_report("b", 0.75)
    (message,) = picture.changes(rows, lambda host_id: reports[host_id])
    assert [host.id for host in message.hosts] == ["b"]
    assert not message.hosts[0].HasField("facts")


def test_a_large_fleet_comes_in_pieces() -> None:
    rows = Rows([a_host(f"h{number}") for number in range(2 * HOSTS_AT_ONCE + 1)], (), ())
    messages = list(Picture().changes(rows, lambda _: NOTHING))
    assert [len(message.hosts) for message in messages] == [0, HOSTS_AT_ONCE, HOSTS_AT_ONCE, 1]


def test_what_concerns_some_hosts() -> None:
    rows = Rows(
        [a_host("a"), a_host("b")],
        [Replica(id="x-1", host_id="a", deployment="x"), Replica(id="y-1", host_id="b", deployment="y")],
        [Deployment(name="x"), Deployment(name="y")],
    )
    some = rows.of_hosts({"n-b"})
    assert ([h.id for h in some.hosts], [r.id for r in some.replicas], [d.name for d in some.deployments]) == (
        ["b"],
        ["y-1"],
        ["y"],
    )
