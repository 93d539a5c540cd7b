"""The deployments that a story may have: how each is rolled out, spans hosts, or comes and goes by demand."""

from dataclasses import dataclass

from fakes.world import stamp
from google.protobuf.duration_pb2 import Duration
from studio.v1.deployment_pb2 import CanaryPolicy, Deployment, IdlePolicy, RolloutPolicy
from studio.v1.recipe_pb2 import Recipe

from sim.schedule import START

CANARY_SECONDS = 10
WATCHED = CanaryPolicy(share=0.2, min_requests=5, **{"for": Duration(seconds=CANARY_SECONDS)})


@dataclass(frozen=True)
class Role:
    rollout: RolloutPolicy
    # Hosts of one replica.
    span: int = 1
    idle: IdlePolicy | None = None
    # Where nobody asks for it in the end.
    rests_at: Deployment.Rest.ValueType = Deployment.REST_UNSPECIFIED

    @property
    def watches_canaries(self) -> bool:
        return self.rollout.HasField("canary")


CAST = {
    "chat": Role(RolloutPolicy(canary=WATCHED)),
    "embed": Role(RolloutPolicy()),
    "big": Role(RolloutPolicy(canary=WATCHED, on_failure="pause")),
    "wide": Role(RolloutPolicy(), span=2),
    "nap": Role(
        RolloutPolicy(),
        idle=IdlePolicy(
            sleep_after=Duration(seconds=8), deep_sleep_after=Duration(seconds=16), stop_after=Duration(seconds=30)
        ),
        rests_at=Deployment.REST_STOPPED,
    ),
    "doze": Role(
        RolloutPolicy(canary=WATCHED),
        idle=IdlePolicy(sleep_after=Duration(seconds=10)),
        rests_at=Deployment.REST_SLEEP,
    ),
}
ON_DEMAND = frozenset(name for name, role in CAST.items() if role.idle is not None)
# Of each story; there is room for all of them twice.
ROLES = 3


def recipe_of(name: str) -> Recipe:
    recipe = Recipe(name=name)
    recipe.engine.name = "vllm"
    recipe.resources.gpu.count.value = 1
    if CAST[name].span > 1:
        recipe.resources.hosts = CAST[name].span
    if CAST[name].idle is not None:
        recipe.args.sleep_mode = True
    return recipe


def deployment_of(name: str, replicas: int) -> Deployment:
    deployment = Deployment(name=name, target_revision=1, version=1, created_at=stamp(START))
    deployment.spec.name = deployment.spec.recipe = name
    deployment.spec.replicas.min = replicas
    deployment.spec.rollout.CopyFrom(CAST[name].rollout)
    idle = CAST[name].idle
    if idle is not None:
        deployment.spec.idle.CopyFrom(idle)
    return deployment
