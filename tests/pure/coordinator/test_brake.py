"""The brake: hosts that fell silent together are not given up, whatever happens to others later."""

from datetime import timedelta

from fakes.world import START, World, stamp
from hypothesis import assume, given
from hypothesis import strategies as st
from studio.v1.host_pb2 import Host
from studio_coordinator.plan.hosts import (
    BRAKE_COUNT,
    BRAKE_SHARE,
    BRAKE_WINDOW,
    RETURN_SECONDS,
    held_by_brake,
    judge_hosts,
)


def given_up(world: World) -> list[str]:
    world.step()
    return [host.host.name for host in world.hosts if host.host.state == Host.STATE_LOST]


def test_a_later_loss_does_not_release_hosts_that_vanished_together() -> None:
    world = World(hosts=8, gpus=1)
    world.silence(1, 2, 3)
    world.wait(400)
    world.step()
    world.silence(4)
    world.wait(700)
    world.step()
    assert given_up(world) == ["h4"]
    world.wait(100_000)
    assert given_up(world) == ["h4"]


def test_hosts_that_called_again_release_the_few_that_did_not_in_the_end() -> None:
    world = World(hosts=6, gpus=1)
    world.silence(1, 2, 3)
    world.wait(700)
    assert given_up(world) == []
    world.call_again(1)
    world.step()
    assert given_up(world) == [], "they may be on their way back as well"
    world.wait(RETURN_SECONDS + 1)
    assert given_up(world) == ["h2", "h3"]


def test_an_operator_who_drains_a_host_says_that_it_is_gone_and_nothing_of_the_others() -> None:
    for fell in ((1, 2, 3), (1, 2, 3, 4)):
        world = World(hosts=8, gpus=1)
        world.silence(*fell)
        world.wait(700)
        assert given_up(world) == []
        world.hosts[1].host.draining = world.hosts[1].host.cordoned = True
        world.step()
        assert given_up(world) == ["h2"]
        world.wait(100_000)
        assert given_up(world) == ["h2"]


@given(
    st.integers(4, 20).flatmap(lambda hosts: st.tuples(st.just(hosts), st.integers(3, hosts))),
    st.lists(st.floats(0, RETURN_SECONDS - 1), min_size=20, max_size=20),
    st.floats(700, 100_000),
)
def test_nobody_is_given_up_while_a_whole_group_comes_back(
    sizes: tuple[int, int], pauses: list[float], away: float
) -> None:
    hosts, gone = sizes
    assume(gone >= BRAKE_SHARE * hosts)
    world = World(hosts=hosts, gpus=1)
    world.silence(*range(1, gone + 1))
    world.wait(away)
    # As long as there are so many of them, the brake needs no help; then the last ones are back within the time for it.
    few = max(BRAKE_COUNT, BRAKE_SHARE * hosts)
    for number, pause in zip(range(1, gone + 1), pauses, strict=False):
        assert given_up(world) == []
        world.wait(pause if gone - number >= few else pause / few)
        world.call_again(number)
    assert given_up(world) == []
    world.wait(RETURN_SECONDS + 1)
    assert given_up(world) == []


@given(
    many=st.integers(4, 5),
    spread=st.lists(st.floats(0, BRAKE_WINDOW.total_seconds()), min_size=5, max_size=5),
    later=st.lists(st.floats(61, 100_000), max_size=4),
    patience=st.floats(601, 1_000_000),
)
def test_no_later_loss_ever_releases_them(many: int, spread: list[float], later: list[float], patience: float) -> None:
    world = World(hosts=12, gpus=1)
    world.now = START + timedelta(seconds=60 + max(later, default=0) + patience)
    fell = dict(enumerate(spread[:many]))
    fell |= {many + number: 60 + offset for number, offset in enumerate(later)}
    snapshot = world.snapshot()
    for number, host in enumerate(world.hosts):
        if number in fell:
            at = START + timedelta(seconds=fell[number])
            host.host.last_seen.CopyFrom(stamp(at))
            host.host.state = Host.STATE_DISCONNECTED
            del snapshot.observations[host.host.id]
    held = held_by_brake(snapshot)
    vanished = {host.host.id for host in world.hosts[:many]}
    assert vanished <= held
    assert not vanished & {change.host_id for change in judge_hosts(snapshot)}
