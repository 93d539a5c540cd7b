"""The first recipe put in force, and everything that is to serve waited for."""

import uuid

from studio.v1.admin_service_pb2 import ApplyRequest, GetRecipeRequest, ListDeploymentsRequest
from studio.v1.deployment_pb2 import Deployment
from studio.v1.recipe_pb2 import Recipe
from studio_runtime.errors import NotFoundError, StudioError
from studio_runtime.tracing import span

from studio_cli.coordinator import Coordinator
from studio_cli.report import Report
from studio_cli.up.first_recipe import first_name, is_as_asked, manifest
from studio_cli.up.options import UpOptions
from studio_cli.up.served import all_answer
from studio_cli.waiting import until_serving


async def serve_first(
    coordinator: Coordinator, options: UpOptions, gpu_count: int, report: Report
) -> tuple[list[str], str]:
    """Have the first recipe served, if there is nothing yet or it was asked for, and wait for all that is to serve.

    Returns the models that serve, and what is wrong with the others; empty where nothing is.
    """
    deployments = await list_deployments(coordinator)
    if not deployments or (options.asks_for_recipe and not await already_so(coordinator, options)):
        request = ApplyRequest(
            manifest=manifest(options, gpu_count),
            source_name="studio up",
            idempotency_key=str(uuid.uuid4()),
            create_only=not options.asks_for_recipe,
        )
        with span("studio up"):
            await coordinator.call(coordinator.admin.Apply, request, f"deploy {first_name(options)}")
        deployments = await list_deployments(coordinator)
    serving: list[str] = []
    problems: list[str] = []
    for deployment in deployments:
        if deployment.stopped:
            report.line(f"  {deployment.name} is stopped: studio start {deployment.name}")
            continue
        try:
            await until_serving(coordinator, deployment.name, report, options.timeout_seconds, all_answer)
        except StudioError as error:
            problems.append(error.message)
            report.warning(f"{error.message}\n  {error.hint}\n  studio describe {deployment.name}")
        else:
            serving.append(deployment.name)
            if words := await remark(coordinator, deployment, gpu_count):
                report.line(words)
    return serving, "; ".join(problems)


async def remark(coordinator: Coordinator, deployment: Deployment, gpu_count: int) -> str:
    """Be honest about a stand-in; empty where there is nothing to say."""
    recipe = await get_recipe(coordinator, deployment.spec.recipe)
    if recipe is None or recipe.engine.name != "demo":
        return ""
    why = "" if gpu_count else ": no GPU here"
    return f"  {deployment.name} is a stand-in engine{why}; try --engine vllm --model …"


async def already_so(coordinator: Coordinator, options: UpOptions) -> bool:
    """Whether what was asked for is what is there; then what an operator has changed about it since stays."""
    deployment = next(iter(await list_deployments(coordinator, first_name(options))), None)
    recipe = await get_recipe(coordinator, deployment.spec.recipe) if deployment else None
    return recipe is not None and is_as_asked(recipe, options)


async def list_deployments(coordinator: Coordinator, name: str = "") -> list[Deployment]:
    """All deployments, or the one of that name."""
    request = ListDeploymentsRequest(name=name)
    try:
        answer = await coordinator.call(coordinator.admin.ListDeployments, request, "list the deployments")
    except NotFoundError:
        return []
    return list(answer.deployments)


async def get_recipe(coordinator: Coordinator, name: str) -> Recipe | None:
    """The newest revision of a recipe; None where there is none."""
    try:
        answer = await coordinator.call(
            coordinator.admin.GetRecipe, GetRecipeRequest(name=name), f"look at recipe {name}"
        )
    except NotFoundError:
        return None
    return answer.recipe.recipe
