"""One authority follows another: the table, its diagram, and that nobody is cut off."""

import re

from hypothesis import given
from hypothesis import strategies as st
from studio.v1.access_service_pb2 import Authority
from studio_coordinator.authority import phases
from studio_coordinator.authority.phases import TRANSITIONS, Holder, Standing, next_step

TRUSTED, SIGNING, RETIRING = Authority.PHASE_TRUSTED, Authority.PHASE_SIGNING, Authority.PHASE_RETIRING


def test_contract_table_and_diagram_agree() -> None:
    assert set(TRANSITIONS) == set(Authority.Phase.values()) - {Authority.PHASE_UNSPECIFIED}
    drawn = re.findall(r"[A-Z]{4,}|gone", next(line for line in (phases.__doc__ or "").splitlines() if "──►" in line))
    names = ["TRUSTED"]
    phase: Authority.Phase.ValueType | None = TRUSTED
    while phase is not None:
        phase = TRANSITIONS[phase]
        names.append("gone" if phase is None else Authority.Phase.Name(phase).removeprefix("PHASE_"))
    assert drawn == names


def test_the_first_step_makes_a_new_one_and_asks_nobody() -> None:
    step = next_step([Standing("old", SIGNING)], [Holder("h1", "old", frozenset({"old"}))])
    assert (step.makes_new, step.changes, step.waits_for) == (True, {}, ())


def test_the_second_step_waits_for_whoever_has_not_heard() -> None:
    standings = [Standing("old", SIGNING), Standing("new", TRUSTED)]
    deaf, heard = Holder("h1", "old", frozenset({"old"})), Holder("h2", "old", frozenset({"old", "new"}))
    step = next_step(standings, [deaf, heard])
    assert step.changes == {"new": SIGNING, "old": RETIRING}
    assert step.waits_for == ("h1",)


def test_the_last_step_waits_for_whoever_holds_the_old_ones_certificate() -> None:
    standings = [Standing("old", RETIRING), Standing("new", SIGNING)]
    both = frozenset({"old", "new"})
    step = next_step(standings, [Holder("h1", "new", both), Holder("h2", "old", both)])
    assert (step.changes, step.waits_for) == ({"old": None}, ("h2",))


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=12))
def test_whatever_nodes_renew_when_no_step_that_is_taken_cuts_one_off(rounds: list[list[bool]]) -> None:
    """Nodes hold a certificate and a bundle; each round some renew, then a step is taken if it waits for nobody."""
    standings = [Standing("a0", SIGNING)]
    holders = {f"h{number}": Holder(f"h{number}", "a0", frozenset({"a0"})) for number in range(4)}
    made = 0
    for renewing in rounds:
        signing = next(one.fingerprint for one in standings if one.phase == SIGNING)
        trusted = frozenset(one.fingerprint for one in standings)
        for (name, _), renews in zip(sorted(holders.items()), renewing, strict=True):
            if renews:
                holders[name] = Holder(name, signing, trusted)
        step = next_step(standings, list(holders.values()))
        if not step.waits_for:
            if step.makes_new:
                made += 1
                standings.append(Standing(f"a{made}", TRUSTED))
            standings = [
                Standing(one.fingerprint, phase)
                for one in standings
                if (phase := step.changes.get(one.fingerprint, one.phase)) is not None
            ]
        phases_now = [one.phase for one in standings]
        assert phases_now.count(SIGNING) == 1
        server = next(one.fingerprint for one in standings if one.phase == SIGNING)
        known = {one.fingerprint for one in standings}
        for holder in holders.values():
            assert server in holder.trusts, "it would not believe the coordinator"
            assert holder.signed_by in known, "the coordinator would not believe it"
