"""Which hosts are there.

::

    CONNECTED ──2 heartbeats missed──▶ SUSPECT ──lease over──▶ DISCONNECTED ──lost_after──▶ LOST
        ▲                                 │                          │                       │
        └────────────────── a heartbeat ──┴──────────────────────────┴───────────────────────┘

Only silence moves a host to the right, and never past DISCONNECTED while the brake holds it: when many hosts fall silent at once
the cause is more likely here or in the network than on each of them, so none of them is replaced until fresh evidence arrives:
the others called again, and have been back for a while without it.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import TypeAlias

from studio.v1.host_pb2 import Host

from studio_coordinator.plan.snapshot import HostChange, Snapshot

State: TypeAlias = Host.State.ValueType

TRANSITIONS: Mapping[State, frozenset[State]] = {
    Host.STATE_UNSPECIFIED: frozenset({Host.STATE_CONNECTED, Host.STATE_DISCONNECTED}),
    Host.STATE_CONNECTED: frozenset({Host.STATE_SUSPECT, Host.STATE_DISCONNECTED}),
    Host.STATE_SUSPECT: frozenset({Host.STATE_CONNECTED, Host.STATE_DISCONNECTED}),
    Host.STATE_DISCONNECTED: frozenset({Host.STATE_CONNECTED, Host.STATE_LOST}),
    Host.STATE_LOST: frozenset({Host.STATE_CONNECTED}),
}

# Share and number of hosts that, gone within `BRAKE_WINDOW`, mean that the fault is not theirs.
BRAKE_SHARE = 0.3
BRAKE_COUNT = 3
BRAKE_WINDOW = timedelta(seconds=60)
# An agent tries again within 30 s. Who was not heard for so long after the others came back does not come with them.
RETURN_SECONDS = 60.0


def judge_hosts(snapshot: Snapshot) -> list[HostChange]:
    """The hosts whose state changes now, with the reason."""
    held = held_by_brake(snapshot)
    changes = []
    for host in snapshot.hosts:
        state, reason = _judge(host, snapshot, braked=host.id in held)
        if state != host.state:
            changes.append(HostChange(host.id, state, reason))
    return changes


def held_by_brake(snapshot: Snapshot) -> frozenset[str]:
    """Ids of the hosts that fell silent together with so many others that none of them may be given up.

    Two hosts fell silent together when their last signs of life lie within one window. What happens to other hosts later says
    nothing about these: they are held until they call again, or until so many of them did that the rest is an ordinary loss.
    Who called again counts with the silent for `RETURN_SECONDS` more, so that none is given up while all are on their way back.
    An operator who drains a host says that it is gone indeed: it is held no more, and the others of its group are held as before.
    """
    silent = [host for host in snapshot.hosts if _silent_for(host, snapshot) > snapshot.timers.lease]
    silent.sort(key=lambda host: host.last_seen.ToNanoseconds())
    lease, seen = snapshot.timers.lease, snapshot.observations.values()
    back = sum(one.session_age_seconds < RETURN_SECONDS and one.heartbeat_age_seconds <= lease for one in seen)
    many = max(BRAKE_COUNT, BRAKE_SHARE * len(snapshot.hosts)) - back
    held: set[str] = set()
    first = 0
    for last, host in enumerate(silent):
        while host.last_seen.ToDatetime() - silent[first].last_seen.ToDatetime() > BRAKE_WINDOW:
            first += 1
        if last - first + 1 >= many:
            held.update(one.id for one in silent[first : last + 1] if not one.draining)
    return frozenset(held)


def _silent_for(host: Host, snapshot: Snapshot) -> float:
    """Seconds since the host's last sign of life."""
    observation = snapshot.observations.get(host.id)
    if observation is not None:
        return observation.heartbeat_age_seconds
    return (snapshot.now.replace(tzinfo=None) - host.last_seen.ToDatetime()).total_seconds()


def _judge(host: Host, snapshot: Snapshot, *, braked: bool) -> tuple[State, str]:
    timers = snapshot.timers
    silent = _silent_for(host, snapshot)
    called = host.id in snapshot.observations
    if called and silent <= 2 * timers.heartbeat_interval:
        return Host.STATE_CONNECTED, "its session is open"
    if not called and snapshot.leading_for_seconds < timers.leader_grace:
        return _within_grace(host)
    if called and silent <= timers.lease:
        return Host.STATE_SUSPECT, f"no heartbeat for {silent:.0f} s"
    if host.state == Host.STATE_LOST or (host.state == Host.STATE_DISCONNECTED and braked):
        return host.state, host.state_reason
    told = f"no heartbeat for {silent:.0f} s"
    if host.state == Host.STATE_DISCONNECTED and silent > timers.lost_after:
        return Host.STATE_LOST, f"{told}: its replicas are replaced"
    return Host.STATE_DISCONNECTED, f"{told}: its lease is over; nothing new is placed there"


def _within_grace(host: Host) -> tuple[State, str]:
    """Judge a host that has not called since this leader took over: it keeps its state, but is no place for new replicas."""
    if host.state == Host.STATE_CONNECTED:
        return Host.STATE_SUSPECT, "it has not called since this coordinator began to lead"
    return host.state, host.state_reason
