"""What the fake coordinator of ``fakes.admin`` knows and answers: a small fleet in memory.

What it answers is simple and deterministic: a replica comes one step nearer to READY each time replicas are listed.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import yaml
from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1 import admin_service_pb2 as admin
from studio.v1.agent_service_pb2 import CommandProgress, CommandResult
from studio.v1.deployment_pb2 import Deployment, DeploymentSpec
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import Host
from studio.v1.recipe_pb2 import Recipe, RecipeRevision
from studio.v1.replica_pb2 import Failure, Replica, StartProgress
from studio.v1.route_pb2 import ApiKey, ProviderRoute
from studio_runtime.errors import (
    ConflictError,
    InvalidManifestError,
    NotFoundError,
    StudioError,
)

MANIFEST_WORDS = {"kv_cache_memory": "kv_cache_memory_bytes"}


def stamp() -> Timestamp:
    now = Timestamp()
    now.FromDatetime(datetime.now(UTC))
    return now


@dataclass
class Call:
    method: str
    request: Any
    metadata: dict[str, str]


@dataclass
class Fleet:
    """What the fake coordinator knows."""

    recipes: dict[str, list[RecipeRevision]] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    replicas: dict[str, Replica] = field(default_factory=dict)
    hosts: list[Host] = field(default_factory=list)
    keys: dict[str, ApiKey] = field(default_factory=dict)
    providers: dict[str, ProviderRoute] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    usage: list[admin.UsageTotal] = field(default_factory=list)
    logs: list[admin.StreamLogsResponse] = field(default_factory=list)
    # What each host says of each command.
    command_news: list[CommandProgress | CommandResult] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    refusals: dict[str, list[StudioError]] = field(default_factory=dict)
    # A replica whose deployment is named here fails while it starts.
    failing: dict[str, Failure] = field(default_factory=dict)
    # Replicas are stuck in the state they are in.
    frozen: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    def refuse(self, method: str, *errors: StudioError) -> None:
        """The next calls of ``method`` fail with ``errors``, one each."""
        self.refusals.setdefault(method, []).extend(errors)

    def asked(self, method: str) -> list[Any]:
        """The requests of ``method`` so far."""
        return [call.request for call in self.calls if call.method == method]

    def get_status(self, _request: admin.GetStatusRequest) -> admin.GetStatusResponse:
        return admin.GetStatusResponse(
            version="0.1.0",
            schema_revision="0008",
            leader=True,
            term=3,
            leader_address="127.0.0.1:7070",
            route_version=12,
        )

    def apply(self, request: admin.ApplyRequest) -> admin.ApplyResponse:
        answer = admin.ApplyResponse()
        documents = [document for document in yaml.safe_load_all(request.manifest) if document]
        problems = [
            admin.ManifestProblem(document=number, path=path, message="is missing", line=1)
            for number, document in enumerate(documents, 1)
            for path in ("kind", "name")
            if path not in document
        ]
        if problems:
            raise InvalidManifestError(f"{request.source_name} has {len(problems)} problems", problems)
        for document in documents:
            kind = document.pop("kind")
            take = self._apply_recipe if kind == "Recipe" else self._apply_deployment
            answer.applied.append(take(document, request))
        return answer

    def _apply_recipe(self, document: dict[str, Any], request: admin.ApplyRequest) -> admin.Applied:
        args = document.get("args", {})
        document["args"] = {MANIFEST_WORDS.get(key, key): value for key, value in args.items()}
        if document["args"].get("kv_cache_memory_bytes") == "1GiB":
            document["args"]["kv_cache_memory_bytes"] = 2**30
        count = document.get("resources", {}).get("gpu", {}).get("count")
        if count is not None:
            document["resources"]["gpu"]["count"] = {"value": count}
        recipe = ParseDict(document, Recipe())
        known = self.recipes.setdefault(recipe.name, [])
        if known and (request.create_only or known[-1].recipe == recipe):
            return admin.Applied(
                kind="Recipe", name=recipe.name, outcome=admin.Applied.OUTCOME_UNCHANGED, revision=len(known)
            )
        outcome = admin.Applied.OUTCOME_CHANGED if known else admin.Applied.OUTCOME_CREATED
        revision = len(known) + 1
        if not request.dry_run:
            known.append(
                RecipeRevision(recipe_name=recipe.name, revision=revision, recipe=recipe, created_at=stamp(), actor="t")
            )
            for deployment in self.deployments.values():
                if deployment.spec.recipe == recipe.name:
                    deployment.target_revision = revision
                    self._place(deployment)
        return admin.Applied(kind="Recipe", name=recipe.name, outcome=outcome, revision=revision)

    def _apply_deployment(self, document: dict[str, Any], request: admin.ApplyRequest) -> admin.Applied:
        spec = ParseDict(document, DeploymentSpec())
        known = self.deployments.get(spec.name)
        expected = request.expected_versions.get(spec.name, 0)
        if known and expected and expected != known.version:
            raise ConflictError(f"deployment {spec.name} changed: version {known.version}, not {expected}")
        if known and (request.create_only or known.spec == spec):
            return admin.Applied(
                kind="Deployment", name=spec.name, outcome=admin.Applied.OUTCOME_UNCHANGED, version=known.version
            )
        outcome = admin.Applied.OUTCOME_CHANGED if known else admin.Applied.OUTCOME_CREATED
        version = known.version + 1 if known else 1
        if not request.dry_run:
            deployment = Deployment(
                name=spec.name,
                spec=spec,
                state=Deployment.STATE_PENDING,
                target_revision=len(self.recipes.get(spec.recipe, [None])),
                version=version,
                created_at=stamp(),
                actor="t",
            )
            self.deployments[spec.name] = deployment
            self._place(deployment)
        return admin.Applied(kind="Deployment", name=spec.name, outcome=outcome, version=version)

    def _place(self, deployment: Deployment) -> None:
        for replica_id in [key for key, one in self.replicas.items() if one.deployment == deployment.name]:
            del self.replicas[replica_id]
        replicas = deployment.spec.replicas
        count = 0 if deployment.stopped else (replicas.min if replicas.HasField("min") else 1)
        deployment.wanted_replicas = count
        for number in range(1, count + 1):
            self.replicas[f"{deployment.name}-{number}"] = Replica(
                id=f"{deployment.name}-{number}",
                deployment=deployment.name,
                recipe_name=deployment.spec.recipe,
                recipe_revision=deployment.target_revision,
                host_name="lab-1",
                state=Replica.STATE_PENDING,
                state_since=stamp(),
            )

    def list_replicas(self, request: admin.ListReplicasRequest) -> admin.ListReplicasResponse:
        chosen = [one for one in self.replicas.values() if request.deployment in ("", one.deployment)]
        answer = admin.ListReplicasResponse(replicas=chosen)
        if not self.frozen:
            for replica in chosen:
                self._advance(replica)
        return answer

    def _advance(self, replica: Replica) -> None:
        deployment = self.deployments.get(replica.deployment)
        if replica.state == Replica.STATE_PENDING:
            replica.state = Replica.STATE_STARTING
            replica.progress.CopyFrom(
                StartProgress(phase=StartProgress.PHASE_WEIGHTS, share=0.5, detail="shard 1 of 2", phase_since=stamp())
            )
        elif replica.state == Replica.STATE_STARTING and replica.deployment in self.failing:
            replica.state = Replica.STATE_FAILED
            replica.failure.CopyFrom(self.failing[replica.deployment])
        elif replica.state == Replica.STATE_STARTING:
            replica.state = Replica.STATE_READY
            replica.ClearField("progress")
            if deployment:
                deployment.state = Deployment.STATE_READY
        elif replica.state in (Replica.STATE_DRAINING, Replica.STATE_STOPPING):
            del self.replicas[replica.id]

    def list_recipes(self, _request: admin.ListRecipesRequest) -> admin.ListRecipesResponse:
        return admin.ListRecipesResponse(recipes=[revisions[-1] for revisions in self.recipes.values()])

    def get_recipe(self, request: admin.GetRecipeRequest) -> admin.GetRecipeResponse:
        revisions = self.recipes.get(request.name, [])
        if not revisions or request.revision > len(revisions):
            raise NotFoundError(f"there is no recipe {request.name}", "`studio recipes list` shows those there are.")
        return admin.GetRecipeResponse(recipe=revisions[request.revision - 1])

    def delete_recipe(self, request: admin.DeleteRecipeRequest) -> admin.DeleteRecipeResponse:
        users = [one.name for one in self.deployments.values() if one.spec.recipe == request.name]
        if users:
            raise ConflictError(f"recipe {request.name} is used by {', '.join(users)}", "Delete those first.")
        if self.recipes.pop(request.name, None) is None:
            raise NotFoundError(f"there is no recipe {request.name}")
        return admin.DeleteRecipeResponse()

    def list_deployments(self, request: admin.ListDeploymentsRequest) -> admin.ListDeploymentsResponse:
        if request.name:
            return admin.ListDeploymentsResponse(deployments=[self._deployment(request.name)])
        return admin.ListDeploymentsResponse(deployments=self.deployments.values())

    def _deployment(self, name: str) -> Deployment:
        if name not in self.deployments:
            raise NotFoundError(f"there is no deployment {name}", "`studio deployments list` shows those there are.")
        return self.deployments[name]

    def stop_deployment(self, request: admin.StopDeploymentRequest) -> admin.StopDeploymentResponse:
        deployment = self._deployment(request.name)
        deployment.stopped = True
        for replica in self.replicas.values():
            if replica.deployment == request.name:
                replica.state = Replica.STATE_DRAINING
        return admin.StopDeploymentResponse(deployment=deployment)

    def start_deployment(self, request: admin.StartDeploymentRequest) -> admin.StartDeploymentResponse:
        deployment = self._deployment(request.name)
        deployment.stopped = False
        self._place(deployment)
        return admin.StartDeploymentResponse(deployment=deployment)

    def scale_deployment(self, request: admin.ScaleDeploymentRequest) -> admin.ScaleDeploymentResponse:
        deployment = self._deployment(request.name)
        deployment.spec.replicas.min = deployment.spec.replicas.max = request.replicas
        self._place(deployment)
        return admin.ScaleDeploymentResponse(deployment=deployment)

    def delete_deployment(self, request: admin.DeleteDeploymentRequest) -> admin.DeleteDeploymentResponse:
        self._deployment(request.name)
        del self.deployments[request.name]
        return admin.DeleteDeploymentResponse()

    def list_hosts(self, _request: admin.ListHostsRequest) -> admin.ListHostsResponse:
        return admin.ListHostsResponse(hosts=self.hosts)

    def list_events(self, request: admin.ListEventsRequest) -> admin.ListEventsResponse:
        chosen = [one for one in self.events if one.sequence > request.after_sequence and concerns(one, request)]
        return admin.ListEventsResponse(events=chosen[-request.limit :] if request.limit else chosen)

    def watch_events(self, request: admin.WatchEventsRequest) -> Iterator[admin.WatchEventsResponse]:
        for event in self.events:
            if event.sequence > request.after_sequence and concerns(event, request):
                yield admin.WatchEventsResponse(event=event)

    def run_command(self, _request: admin.RunCommandRequest) -> Iterator[admin.RunCommandResponse]:
        for said in self.command_news:
            if isinstance(said, CommandResult):
                yield admin.RunCommandResponse(result=said)
            else:
                yield admin.RunCommandResponse(progress=said)

    def stream_logs(self, request: admin.StreamLogsRequest) -> Iterator[admin.StreamLogsResponse]:
        if request.name not in self.deployments and request.name not in self.replicas:
            raise NotFoundError(
                f"there is no replica or deployment {request.name}", "`studio ps` shows those there are."
            )
        yield from self.logs

    def create_key(self, request: admin.CreateKeyRequest) -> admin.CreateKeyResponse:
        key_id = f"key{len(self.keys) + 1}"
        key = ApiKey(id=key_id, name=request.name, models=request.models, created_at=stamp())
        if request.HasField("expires_at"):
            key.expires_at.CopyFrom(request.expires_at)
        self.keys[key_id] = key
        return admin.CreateKeyResponse(key=key, secret=f"sk-{key_id}-0123456789abcdef")

    def list_keys(self, _request: admin.ListKeysRequest) -> admin.ListKeysResponse:
        return admin.ListKeysResponse(keys=self.keys.values())

    def revoke_key(self, request: admin.RevokeKeyRequest) -> admin.RevokeKeyResponse:
        if request.id not in self.keys:
            raise NotFoundError(f"there is no key {request.id}", "`studio keys list` shows those there are.")
        self.keys[request.id].revoked_at.CopyFrom(stamp())
        return admin.RevokeKeyResponse(key=self.keys[request.id])

    def add_provider(self, request: admin.AddProviderRequest) -> admin.AddProviderResponse:
        if request.provider.model in self.deployments:
            raise ConflictError(f"{request.provider.model} is a deployment already", "Choose another name.")
        self.providers[request.provider.model] = request.provider
        return admin.AddProviderResponse(provider=request.provider)

    def list_providers(self, _request: admin.ListProvidersRequest) -> admin.ListProvidersResponse:
        return admin.ListProvidersResponse(providers=self.providers.values())

    def remove_provider(self, request: admin.RemoveProviderRequest) -> admin.RemoveProviderResponse:
        if self.providers.pop(request.model, None) is None:
            raise NotFoundError(f"there is no provider model {request.model}")
        return admin.RemoveProviderResponse()

    def list_usage(self, _request: admin.ListUsageRequest) -> admin.ListUsageResponse:
        return admin.ListUsageResponse(totals=self.usage)


def concerns(event: Event, request: Any) -> bool:
    return all(
        not getattr(request, field_name) or getattr(request, field_name) == getattr(event, field_name)
        for field_name in ("deployment", "host", "replica")
    )
