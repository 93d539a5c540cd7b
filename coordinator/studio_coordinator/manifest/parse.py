"""Text to recipes and deployments: read the tree, decode, check; all problems at once."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from studio.v1.admin_service_pb2 import ManifestProblem
from studio.v1.deployment_pb2 import DeploymentSpec
from studio.v1.recipe_pb2 import Recipe

from studio_coordinator.manifest.checks import check_deployment, check_recipe
from studio_coordinator.manifest.decode import Decoder
from studio_coordinator.manifest.names import did_you_mean
from studio_coordinator.manifest.tree import Mapping, Node, Scalar, TreeError, read_documents

KINDS = ("Recipe", "Deployment")


@dataclass
class Parsed:
    """What a manifest says, in its order. With ``problems`` the rest is incomplete and must not be used."""

    recipes: list[Recipe] = field(default_factory=list)
    deployments: list[DeploymentSpec] = field(default_factory=list)
    problems: list[ManifestProblem] = field(default_factory=list)


def parse(text: str) -> Parsed:
    """Read a manifest: YAML documents, or one JSON document, each with ``kind: Recipe`` or ``kind: Deployment``."""
    parsed = Parsed()
    # Where each recipe name and each public model name was given first.
    given: dict[tuple[str, str], int] = {}
    try:
        for document, node in read_documents(text):
            _document(parsed, document, node, given)
    except TreeError as error:
        parsed.problems.append(ManifestProblem(document=error.document, message=error.message, line=error.line))
    if not (parsed.recipes or parsed.deployments or parsed.problems):
        parsed.problems.append(ManifestProblem(document=1, message="the manifest is empty", line=1))
    # From top to bottom, as one mends them.
    parsed.problems.sort(key=lambda problem: (problem.document, problem.line))
    return parsed


def _document(parsed: Parsed, document: int, node: Node, given: dict[tuple[str, str], int]) -> None:
    def problem(path: str, message: str, line: int) -> None:
        parsed.problems.append(ManifestProblem(document=document, path=path, message=message, line=line))

    if not isinstance(node, Mapping):
        problem("", "expected fields, beginning with kind: Recipe or kind: Deployment", node.line)
        return
    kind, kind_line = _kind(node)
    if kind not in KINDS:
        said = f"{kind!r} is not known" if kind else "missing"
        problem("kind", f"{said}: expected Recipe or Deployment{did_you_mean(kind, KINDS)}", kind_line)
        return
    body = Mapping(node.line, [entry for entry in node.entries if entry.key != "kind"])
    decoder = Decoder()
    item = Recipe() if kind == "Recipe" else DeploymentSpec()
    decoder.fill(item, body)
    for path, message, line in decoder.problems:
        problem(path, message, line)
    # A field that could not be read has been reported; what is checked about it then would only confuse.
    unread = {path for path, _, _ in decoder.problems}
    checks = check_recipe(item) if isinstance(item, Recipe) else check_deployment(item)
    for path, message in (*checks, *_given_twice(item, document, given)):
        if not any(path == other or path.startswith((f"{other}.", f"{other}[")) for other in unread if other):
            problem(path, message, _line_of(path, decoder.lines, node.line))
    if isinstance(item, Recipe):
        parsed.recipes.append(item)
    else:
        parsed.deployments.append(item)


def _given_twice(
    item: Recipe | DeploymentSpec, document: int, given: dict[tuple[str, str], int]
) -> Iterator[tuple[str, str]]:
    """Names of this document that an earlier one gave: of recipes, or public model names of deployments."""
    kind = "recipe" if isinstance(item, Recipe) else "public model name"
    names = {item.name: "name"}
    if isinstance(item, DeploymentSpec):
        names = {alias: f"aliases[{index}]" for index, alias in enumerate(item.aliases)} | names
    for name, path in names.items():
        first = given.setdefault((kind, name), document)
        if name and first != document:
            yield path, f"document {first} gives the {kind} {name!r} already"


def _kind(node: Mapping) -> tuple[str, int]:
    for entry in node.entries:
        if entry.key == "kind" and isinstance(entry.value, Scalar):
            return entry.value.text, entry.line
    return "", node.line


def _line_of(path: str, lines: dict[str, int], otherwise: int) -> int:
    """The line of ``path``, or of the nearest part of it that was written."""
    while path and path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return lines.get(path, otherwise)
