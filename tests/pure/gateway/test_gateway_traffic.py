"""What the coordinator is told of requests."""

from studio_gateway.traffic import Traffic


def test_counters_of_models_and_endpoints() -> None:
    traffic = Traffic("start-1")
    traffic.asked("chat", 100.0)
    traffic.sent("chat")
    running = traffic.report(lambda _: 1)
    assert running.gateway_instance_id == "start-1"
    assert (running.models[0].requests, running.models[0].in_flight) == (1, 1)
    assert not running.endpoints
    traffic.ended("chat", "chat-1", 2, "stop", 0.3, 104.5)
    traffic.asked("chat", 105.0)
    traffic.sent("chat")
    traffic.ended("chat", "chat-1", 2, "upstream_error", None, 106.0)
    report = traffic.report(lambda _: 0)
    (model,), (end,) = report.models, report.endpoints
    assert (model.requests, model.in_flight, model.last_request_at.seconds) == (2, 0, 106)
    assert (end.replica_id, end.recipe_revision, end.requests, end.failed) == ("chat-1", 2, 2, 1)
    times = end.time_to_first_token_seconds
    upto = dict(zip(times.upper_bounds, times.counts, strict=True))
    assert (times.count, upto[0.25], upto[0.5], upto[120.0]) == (1, 0, 1, 1)


def test_a_client_that_leaves_is_no_fault_of_the_engine() -> None:
    traffic = Traffic("start-1")
    for finish in ("client_gone", "stop", "rejected", "shutting_down"):
        traffic.sent("chat")
        traffic.ended("chat", "chat-1", 1, finish, None, 1.0)
    (end,) = traffic.report(lambda _: 0).endpoints
    assert (end.requests, end.failed) == (4, 0)


def test_the_coordinator_is_told_at_once_when_somebody_begins_to_wait_and_when_nobody_does() -> None:
    traffic, turns = Traffic("start-1"), []
    traffic.on_turn = lambda: turns.append(traffic.report(lambda _: 0).models[0].held)
    for change in (1, 1, -1, -1, 1):
        traffic.held("chat", change)
    assert turns == [1, 0, 1]


def test_news_are_what_was_not_reported() -> None:
    traffic = Traffic("start-1")
    traffic.report(lambda _: 0)
    assert not traffic.has_news
    traffic.asked("chat", 1.0)
    assert traffic.has_news


def test_what_has_no_route_any_more_is_forgotten_unless_somebody_waits_for_it() -> None:
    traffic = Traffic("start-1")
    for model in ("gone", "waited-for"):
        traffic.asked(model, 1.0)
    traffic.held("waited-for", 1)
    traffic.sent("gone")
    traffic.ended("gone", "gone-1", 1, "stop", None, 1.0)
    traffic.forget_all_but([], [])
    report = traffic.report(lambda _: 0)
    assert [model.model for model in report.models] == ["waited-for"]
    assert not report.endpoints
