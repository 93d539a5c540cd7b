"""One request: from its head, through limits, waits and fallbacks, to the one exit that it leaves by."""

import time
from typing import TYPE_CHECKING
from urllib.parse import unquote

import structlog

from studio_gateway import models
from studio_gateway import openai_errors as errors
from studio_gateway.account import Account
from studio_gateway.answers import answer_models, answer_probe, is_api_path
from studio_gateway.call import Call, read_call
from studio_gateway.exchange import Exchange
from studio_gateway.fallback import Chain
from studio_gateway.keys import Key
from studio_gateway.quota.claims import claims_for, cost
from studio_gateway.quota.purse import Reservation
from studio_gateway.table import Model, Routes
from studio_gateway.trace import Trace
from studio_gateway.work import Work

if TYPE_CHECKING:
    from studio_gateway.app import Gateway, ProviderLane
    from studio_gateway.forward import Forwarder

log = structlog.get_logger()

CLIENT_GONE_STATUS = 499


class Request:
    """One request, from its head to its end."""

    __slots__ = (
        "_account",
        "_call",
        "_chain",
        "_crowded_model",
        "_exchange",
        "_gateway",
        "_is_over",
        "_is_sent",
        "_key",
        "_reservation",
        "_routes",
        "_trace",
        "_work",
    )

    def __init__(self, gateway: "Gateway", exchange: Exchange) -> None:
        self._gateway = gateway
        self._exchange = exchange
        self._account = Account(exchange.id, exchange.path)
        self._is_over = False
        self._call: Call | None = None
        self._chain: Chain | None = None
        # Of whose engines it takes up a place.
        self._crowded_model = ""
        # To an engine of the fleet.
        self._is_sent = False
        self._key: Key | None = None
        self._reservation: Reservation | None = None
        self._routes: Routes | None = None
        self._trace: Trace | None = None
        self._work: Work | None = None

    def open(self) -> None:
        """Answer what needs no body; else only look at path and key."""
        exchange, gateway = self._exchange, self._gateway
        if exchange.path in ("/health", "/ready"):
            self._is_over = True
            answer_probe(exchange, gateway.in_force)
            return
        gateway.running.add(self)
        gateway.is_idle.clear()
        try:
            self._admit()
        except Exception as error:  # noqa: BLE001 - see _failed
            self._failed(error)

    def take_body(self, body: bytes) -> None:
        """The body is whole: answer."""
        if self._is_over:
            return
        try:
            self._answer(body)
        except Exception as error:  # noqa: BLE001 - see _failed
            self._failed(error)

    def abandon(self, error: errors.ApiError | None) -> None:
        """Stop: with ``error``, or because the client is gone."""
        if self._is_over:
            return
        if self._work is not None:
            self._work.stop()
        if error is None:
            self._account.status, self._account.finish = CLIENT_GONE_STATUS, "client_gone"
            self._close()
        else:
            self._end(error)

    def pause(self) -> None:
        """The client has to catch up first."""
        if self._work is not None:
            self._work.pause()

    def resume(self) -> None:
        """The client has caught up."""
        if self._work is not None:
            self._work.resume()

    def _failed(self, error: Exception) -> None:
        """Whatever goes wrong is the end of this request, and of no other."""
        if isinstance(error, errors.ApiError):
            self._end(error)
            return
        log.error("request_failed", request=self._exchange.id, path=self._exchange.path, exc_info=error)
        self._end(errors.internal_error(self._exchange.id))

    def _admit(self) -> None:
        exchange, gateway, account = self._exchange, self._gateway, self._account
        if not is_api_path(exchange.path, exchange.raw_path):
            raise errors.not_found(exchange.method, exchange.path)
        key = gateway.key_of(exchange)
        routes = gateway.in_force.routes
        if routes is None:
            raise errors.not_ready()
        account.key_id, account.tenant = key.id, key.tenant
        running = gateway.by_key.get(key.id, 0)
        if running >= gateway.limits.requests_per_key:
            raise errors.too_many_at_once(gateway.limits.requests_per_key)
        gateway.by_key[key.id] = running + 1
        self._key, self._routes = key, routes

    def _answer(self, body: bytes) -> None:
        exchange, key, routes, account = self._exchange, self._key, self._routes, self._account
        if key is None or routes is None:
            raise errors.missing_api_key()
        if exchange.path == "/v1/models" or exchange.path.startswith("/v1/models/"):
            answer_models(exchange, routes, key)
            account.finish = "complete"
            self._end(None)
            return
        content_type = exchange.header(b"content-type")
        call = read_call(exchange.path, content_type, body, self._gateway.limits.json_depth)
        name = call.model or unquote(exchange.header(b"x-studio-model"))
        if not name:
            raise errors.missing_model()
        account.asked_model, account.stream = name, call.stream
        model = models.find(routes, key, name)
        if model is None:
            raise errors.model_not_found(name, models.usable_names(routes, key))
        account.model = model.name
        if model.provider is None:
            self._gateway.traffic.asked(model.name, account.at)
        if model.fallbacks:
            self._call, self._chain = call, Chain(model, key.tenant)
        if self._has_quota(key, call, model):
            self._send(call, model)

    def _has_quota(self, key: Key, call: Call, model: Model) -> bool:
        """Whether the request may go on at once; else it goes on, or ends, when its limits have been looked up."""
        ring = self._gateway.in_force.keys
        claims = claims_for(ring, key, (model.name, *model.fallbacks), call) if ring is not None else []
        if ring is None or not claims:
            return True
        asked = time.perf_counter()

        def granted(reservation: Reservation) -> None:
            self._account.queue_seconds += time.perf_counter() - asked
            self._reservation, self._work = reservation, None
            try:
                self._send(call, model)
            except Exception as error:  # noqa: BLE001 - see _failed
                self._failed(error)

        held = self._gateway.leasing.reserve(claims, granted, self._end)
        if isinstance(held, Reservation):
            self._reservation = held
            return True
        self._work = held
        return False

    def _send(self, call: Call, model: Model) -> None:
        gateway = self._gateway
        if model.provider is None and not model.targets:
            self._hold(call, model)
            return
        if model.capacity and not gateway.crowd.enter(model):
            self._wait_for_turn(call, model)
            return
        self._start(call, model, model.name if model.capacity else "")

    def _start(self, call: Call, model: Model, crowded_model: str) -> None:
        """Send it; ``crowded_model``: of whose engines it takes up a place. Raises ApiError."""
        exchange, gateway, account = self._exchange, self._gateway, self._account
        self._crowded_model = crowded_model
        self._trace = gateway.begin_trace(exchange.header(b"traceparent"), model.name, exchange.id)
        traceparent = self._trace.traceparent
        if model.provider is None:
            self._is_sent = True
            gateway.traffic.sent(model.name)
        is_direct = model.provider is None and not model.is_through_litellm
        way: Forwarder | ProviderLane = gateway.forwarder if is_direct else gateway.providers
        work = way.forward(exchange, call, model, account, traceparent, self._end, has_others=bool(self._chain))
        if not self._is_over:
            self._work = work

    def _wait_for_turn(self, call: Call, model: Model) -> None:
        """Its engines are full: tenants take turns. Raises ApiError."""
        gateway, tenant, asked = self._gateway, self._account.tenant, time.perf_counter()
        ring = gateway.in_force.keys
        weight = ring.weights.get(tenant, 1.0) if ring is not None else 1.0

        def go() -> None:
            self._account.queue_seconds += time.perf_counter() - asked
            self._work = None
            # It may have got other endpoints meanwhile, or none.
            routes = gateway.in_force.routes
            now = routes.by_name.get(model.name, model) if routes is not None else model
            if not now.targets:
                gateway.crowd.leave(model.name)
            try:
                if now.targets:
                    # What it entered by counts, whatever its engines say of themselves now.
                    self._start(call, now, model.name)
                else:
                    self._hold(call, now)
            except Exception as error:  # noqa: BLE001 - see _failed
                self._failed(error)

        self._work = gateway.crowd.wait(model, tenant, weight, go, self._end)

    def _hold(self, call: Call, model: Model) -> None:
        """Wait until ``model`` is up, where that is of use. Raises ApiError."""
        gateway, tenant = self._gateway, self._account.tenant
        routes = gateway.in_force.routes
        # The table that this request began with may be older than the last that the waiting room has looked at.
        model = routes.by_name.get(model.name, model) if routes is not None else model
        if model.targets:
            self._send(call, model)
            return
        if not model.is_wakeable:
            raise errors.model_unavailable(model.name, model.unavailable_reason, starting=model.is_starting)
        ring, asked = gateway.in_force.keys, time.perf_counter()

        def woken(up: Model) -> None:
            self._account.queue_seconds += time.perf_counter() - asked
            self._work = None
            try:
                self._send(call, up)
            except Exception as error:  # noqa: BLE001 - see _failed
                self._failed(error)

        self._work = gateway.waiting.hold(
            self._exchange,
            model,
            tenant,
            ring.weights.get(tenant, 1.0) if ring is not None else 1.0,
            streams=call.stream,
            go=woken,
            refuse=self._end,
        )

    def _end(self, error: errors.ApiError | None) -> None:
        """The one exit: the answer is complete, or ends with ``error``."""
        if self._is_over or (error is not None and self._falls_back(error)):
            return
        exchange, account = self._exchange, self._account
        if error is not None:
            account.finish = error.finish
            account.status = exchange.status if exchange.is_started else error.status
        else:
            account.status = account.status or exchange.status
        self._close()
        if error is not None:
            exchange.fail(error)

    def _falls_back(self, error: errors.ApiError) -> bool:
        """Whether another model is asked instead of ending with ``error``."""
        call, chain, routes = self._call, self._chain, self._gateway.in_force.routes
        if call is None or chain is None or routes is None or self._exchange.is_started:
            return False
        model = chain.next(error, routes)
        if model is None:
            return False
        account = self._account
        log.warning("fell_back", request=self._exchange.id, model=account.model, to=model.name, code=error.code)
        self._gateway.metrics.fallbacks.inc()
        account.finish = error.finish
        self._leave_attempt(error.status)
        account.model, account.replica_id, account.recipe_revision, account.provider = model.name, "", 0, ""
        account.status, account.finish = 0, ""
        try:
            self._send(call, model)
        except Exception as failure:  # noqa: BLE001 - see _failed
            self._failed(failure)
        return True

    def _leave_attempt(self, status: int) -> None:
        """One model's part in this request is over."""
        account, self._work = self._account, None
        if self._trace is not None:
            self._trace.end(status)
            self._trace = None
        if self._crowded_model:
            left, self._crowded_model = self._crowded_model, ""
            self._gateway.crowd.leave(left)
        if self._is_sent:
            self._is_sent = False
            self._gateway.traffic.ended(
                account.model,
                account.replica_id,
                account.recipe_revision,
                account.finish,
                account.first_token_of_engine,
                time.time(),
            )

    def _close(self) -> None:
        gateway, account = self._gateway, self._account
        self._is_over = True
        gateway.running.discard(self)
        if not gateway.running:
            gateway.is_idle.set()
        if self._key is not None:
            left = gateway.by_key.pop(self._key.id) - 1
            if left:
                gateway.by_key[self._key.id] = left
        if self._reservation is not None:
            self._settle(self._reservation)
        self._leave_attempt(account.status)
        record = account.close(gateway.metrics)
        if record is not None:
            gateway.record(record)

    def _settle(self, reservation: Reservation) -> None:
        """Give back what was reserved and not used. What nobody counted is taken as used: breaking off must not be cheaper."""
        account, leasing, ring = self._account, self._gateway.leasing, self._gateway.in_force.keys
        if account.ended_unknown:
            leasing.settle_whole(reservation)
            return
        usage = account.usage
        # Of the model that has answered.
        price = ring.prices.get(account.model) if ring is not None else None
        leasing.settle(reservation, usage.prompt + usage.completion, cost(price, usage))
