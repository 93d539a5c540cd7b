"""LiteLLM's router, kept in step with the fleet: the one file that knows how deployments are put into it.

Its releases up to 1.108 and from 1.109 on are asked in different ways. It is changed on the event loop only: there, a change is
whole before the next request is looked at, and a stream on a deployment that goes is not touched.
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Self

import structlog

from studio_gateway.litellm_deployments import Held, changes

log = structlog.get_logger()

OWNER = "vllm-studio"
# Says, in a request's own ``litellm_metadata``, which endpoint it goes to.
PICKED = "studio_replica"


class FleetInRouter:
    """The fleet's deployments in ``router``, which may hold others; those are left alone."""

    def __init__(self, router: Any, timeout_seconds: float) -> None:
        self.router = router
        self._timeout_seconds = timeout_seconds
        self._held: dict[str, Held] = {}

    @classmethod
    def alone(cls, litellm: ModuleType, timeout_seconds: float) -> Self:
        """In a router that holds nothing else, and takes the endpoint that each request names: it has been picked already."""
        # Retries and cooldowns would undo what the gateway knows of its endpoints.
        router = litellm.Router(model_list=[], num_retries=0, disable_cooldowns=True)
        litellm.logging_callback_manager.add_litellm_callback(_as_picked())
        return cls(router, timeout_seconds)

    def put(self, wanted: Mapping[str, Held]) -> None:
        """Hold ``wanted``, by id, and nothing else of the fleet. Call it on the event loop."""
        needed = changes(self._held, wanted)
        if not needed:
            return
        _change_of(self.router)([self._deployment(one) for one in needed.put], list(needed.drop))
        self._held = dict(wanted)
        log.info("litellm_in_step", deployments=len(wanted), put=len(needed.put), dropped=len(needed.drop))

    def _deployment(self, held: Held) -> Any:
        from litellm.types.router import Deployment, LiteLLM_Params  # noqa: PLC0415 - only once LiteLLM is wanted

        parameters = LiteLLM_Params(
            model=f"hosted_vllm/{held.engine_model}",
            api_base=f"{held.base_url}/v1",
            # Engines of the fleet have none; without one LiteLLM would look for one in the environment.
            api_key="none",
            timeout=self._timeout_seconds,
            stream_timeout=self._timeout_seconds,
            max_retries=0,
            weight=held.weight,
        )
        about = {"id": held.id, "managed_by": OWNER, "replica_id": held.replica_id, "revision": held.recipe_revision}
        return Deployment(model_name=held.name, litellm_params=parameters, model_info=about)


def _change_of(router: Any) -> Callable[[list[Any], list[str]], None]:
    """How deployments are put and dropped in this release: in this order."""
    try:
        from litellm.router_api import ChangeSet  # noqa: PLC0415 - only once LiteLLM is wanted
    except ImportError:
        return lambda put, drop: _one_by_one(router, put, drop)

    def at_once(put: list[Any], drop: list[str]) -> None:
        router.apply(ChangeSet(upsert=put, delete=drop))

    return at_once


def _one_by_one(router: Any, put: list[Any], drop: list[str]) -> None:
    for deployment in put:
        router.upsert_deployment(deployment)
    for deployment_id in drop:
        router.delete_deployment(deployment_id)


def _as_picked() -> Any:
    """A callback that leaves the router no choice but the endpoint that a request names."""
    from litellm.integrations.custom_logger import CustomLogger  # noqa: PLC0415 - only once LiteLLM is wanted

    class AsPicked(CustomLogger):
        """Filters the deployments of a request that names its replica."""

        async def async_filter_deployments(
            self,
            model: str,
            healthy_deployments: list[Any],
            messages: Any,
            request_kwargs: dict[str, Any] | None = None,
            parent_otel_span: Any = None,
        ) -> list[Any]:
            """The deployments of the picked replica; none where it has gone."""
            del model, messages, parent_otel_span
            picked = ((request_kwargs or {}).get("litellm_metadata") or {}).get(PICKED)
            if picked is None:
                return healthy_deployments
            return [one for one in healthy_deployments if one["model_info"].get("replica_id") == picked]

    return AsPicked()
