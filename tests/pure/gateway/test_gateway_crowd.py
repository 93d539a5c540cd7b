import pytest
from studio_gateway.crowd import Crowd
from studio_gateway.openai_errors import ApiError
from studio_gateway.table import Model, Target


def a_model(capacity: int) -> Model:
    target = Target("r1", "http://127.0.0.1:1", 1, "m", 1, capacity)
    return Model(name="m", aliases=(), created_seconds=0, targets=(target,))


def test_no_more_than_its_engines_work_on():
    crowd, model = Crowd(), a_model(2)
    assert [crowd.enter(model) for _ in range(3)] == [True, True, False]
    crowd.leave("m")
    assert crowd.enter(model)


def test_tenants_take_turns_by_weight_and_nobody_is_overtaken_by_a_newcomer():
    crowd, model = Crowd(), a_model(1)
    assert crowd.enter(model)
    gone: list[str] = []
    for number in range(4):
        crowd.wait(model, "burst", 1.0, lambda number=number: gone.append(f"b{number}"), gone.append)
    for number in range(2):
        crowd.wait(model, "web", 2.0, lambda number=number: gone.append(f"w{number}"), gone.append)
    # There would be a place for a moment: those who wait have it.
    assert not crowd.enter(model)
    for _ in range(6):
        crowd.leave("m")
    assert sorted(gone[:3]) == ["b0", "w0", "w1"]
    assert gone[3:] == ["b1", "b2", "b3"]
    crowd.leave("m")
    assert crowd.enter(model)


def test_who_leaves_is_not_served():
    crowd, model = Crowd(), a_model(1)
    assert crowd.enter(model)
    gone: list[object] = []
    place = crowd.wait(model, "a", 1.0, lambda: gone.append("first"), gone.append)
    crowd.wait(model, "a", 1.0, lambda: gone.append("second"), gone.append)
    place.stop()
    crowd.leave("m")
    assert gone == ["second"]


def test_the_longest_line_gives_way_to_a_tenant_that_has_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("studio_gateway.crowd.MOST_WAITING", 3)
    crowd, model = Crowd(), a_model(1)
    assert crowd.enter(model)
    refused: list[ApiError] = []
    for _ in range(3):
        crowd.wait(model, "burst", 1.0, lambda: None, refused.append)
    crowd.wait(model, "web", 1.0, lambda: None, refused.append)
    assert [error.code for error in refused] == ["overloaded"]


def test_of_unknown_capacity_everything_is_sent():
    crowd, model = Crowd(), a_model(0)
    assert all(crowd.enter(model) for _ in range(100))


def test_a_long_line_that_finds_nobody_there_is_called_in_one_go():
    """Whoever is called and ends at once leaves again, within the call."""
    crowd, model = Crowd(), a_model(1)
    assert crowd.enter(model)
    called: list[int] = []

    def go(number: int) -> None:
        called.append(number)
        crowd.leave("m")

    for number in range(1000):
        crowd.wait(model, "a", 1.0, lambda number=number: go(number), str)
    crowd.leave("m")
    assert called == list(range(1000))
    assert crowd.enter(model)
