"""Which objects a request is about, and which of an answer's are a tenant's own. Pure.

An object is written as in the audit log: ``Deployment/chat``, ``Key/ab12``, ``Tenant/blue``.
"""

from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import Message

# What is named by one field of the request.
NAMED = {
    "AdminService/StopDeployment": ("Deployment", "name"),
    "AdminService/StartDeployment": ("Deployment", "name"),
    "AdminService/ScaleDeployment": ("Deployment", "name"),
    "AdminService/DeleteDeployment": ("Deployment", "name"),
    "AdminService/WakeDeployment": ("Deployment", "name"),
    "AdminService/SleepDeployment": ("Deployment", "name"),
    "AdminService/GetRollout": ("Deployment", "name"),
    "AdminService/PauseRollout": ("Deployment", "name"),
    "AdminService/ResumeRollout": ("Deployment", "name"),
    "AdminService/UndoRollout": ("Deployment", "name"),
    "AdminService/StreamLogs": ("Serving", "name"),
    "AdminService/DeleteRecipe": ("Recipe", "name"),
    "AdminService/RollbackRecipe": ("Recipe", "name"),
    "AdminService/UpdateHost": ("Host", "host"),
    "AdminService/RemoveHost": ("Host", "host"),
    "AdminService/RunCommand": ("Host", "host"),
    "AdminService/CreateKey": ("Tenant", "tenant"),
    "AdminService/RevokeKey": ("Key", "id"),
    "AdminService/UpdateKey": ("Key", "id"),
    "AdminService/RotateKey": ("Key", "id"),
    "AdminService/PutTenant": ("Tenant", "tenant.name"),
    "AdminService/RemoveTenant": ("Tenant", "name"),
    "AdminService/PutPrice": ("Price", "price.model"),
    "AdminService/RemovePrice": ("Price", "model"),
    "AdminService/AddProvider": ("Provider", "provider.model"),
    "AdminService/RemoveProvider": ("Provider", "model"),
    "AccessService/CreateOperator": ("Operator", "name"),
    "AccessService/RevokeOperator": ("Operator", "name"),
    "AccessService/CreateJoinToken": ("JoinToken", "name"),
    "AccessService/RevokeJoinToken": ("JoinToken", "id"),
    "AccessService/RevokeIdentity": ("Identity", "identity"),
    "AccessService/PutSecret": ("Secret", "name"),
    "AccessService/RemoveSecret": ("Secret", "name"),
}
# Requests that say whose the new object is to be; a tenant's operator need not say it.
GIVES_TENANT = frozenset(
    {"AdminService/CreateKey", "AccessService/CreateOperator", "AccessService/PutSecret"},
)
# What the answers list, and which field says whose it is: a tenant, or a deployment that is a tenant's.
TENANT_LISTS = {
    "AdminService/ListDeployments": ("deployments", "spec.tenant"),
    "AdminService/ListKeys": ("keys", "tenant"),
    "AdminService/ListTenants": ("tenants", "name"),
    "AdminService/ListUsage": ("totals", "tenant"),
    "AccessService/ListOperators": ("operators", "tenant"),
    "AccessService/ListSecrets": ("secrets", "tenant"),
}
DEPLOYMENT_LISTS = {
    "AdminService/ListReplicas": ("replicas", "deployment"),
    "AdminService/ListEvents": ("events", "deployment"),
}

Owns = Callable[[str], bool]


def objects_of(method: str, request: Message) -> list[str]:
    """The objects that the request names; for an export, the deployments (recipes are everybody's to read)."""
    if method == "AdminService/ExportState":
        names: list[str] = list(getattr(request, "names", ()))
        return [name for name in names if name.startswith("Deployment/")]
    if method not in NAMED:
        return []
    kind, path = NAMED[method]
    return [f"{kind}/{_at(request, path)}"]


def take_for_tenant(method: str, request: Message, tenant: str) -> None:
    """Fill in, in a request of a tenant's operator, what goes without saying."""
    # Both carry these fields; the contract's Python classes have no common base that says so.
    said: Any = request
    if method in GIVES_TENANT and not said.tenant:
        said.tenant = tenant
    if method == "AdminService/ListUsage" and "tenant" not in said.group_by:
        # Within one tenant this changes no sum, and lets the others' be told apart.
        said.group_by.extend([*([] if said.group_by else ["model"]), "tenant"])


def asks_for_everything(method: str, request: Message) -> bool:
    """Whether the request is about the whole fleet because it names nothing."""
    return method == "AdminService/ExportState" and not getattr(request, "names", ())


def needs_deployments(method: str) -> bool:
    """Whether pruning the answer asks which deployments are the tenant's."""
    return method in DEPLOYMENT_LISTS or method in ("AdminService/WatchEvents", "AdminService/ListHosts")


def prune(method: str, response: Message, tenant: str, owns: Owns) -> bool:
    """Leave in ``response`` only what is the tenant's; False: nothing of it is, so it is not to be sent.

    ``owns`` says whether a deployment is the tenant's.
    """
    said: Any = response
    if method in TENANT_LISTS:
        field, path = TENANT_LISTS[method]
        _keep(said, field, lambda item: _at(item, path) == tenant)
    elif method in DEPLOYMENT_LISTS:
        field, path = DEPLOYMENT_LISTS[method]
        _keep(said, field, lambda item: owns(_at(item, path)))
    elif method == "AdminService/Plan" and said.preempted:
        # Whose they are is nobody else's to know.
        count = len(said.preempted)
        said.ClearField("preempted")
        said.preempted.append(f"{count} replica{'s' if count > 1 else ''} of lower priority")
    elif method == "AdminService/WatchEvents":
        return owns(said.event.deployment)
    elif method == "AdminService/ListHosts":
        for process in _processes(said):
            if process.replica_id and not owns(process.replica_id.rpartition("-")[0]):
                process.replica_id = process.command = ""
    return True


def _processes(response: Any) -> Iterator[Any]:
    for host in response.hosts:
        for gpu in host.gpus:
            yield from gpu.figures.processes


def _keep(response: Any, field: str, wanted: Callable[[Any], bool]) -> None:
    kept = [item for item in getattr(response, field) if wanted(item)]
    response.ClearField(field)
    getattr(response, field).extend(kept)


def _at(message: Any, path: str) -> str:
    for name in path.split("."):
        message = getattr(message, name)
    return str(message)
