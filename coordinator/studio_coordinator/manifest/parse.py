"""Text to recipes, deployments and the rest of the desired state: read the tree, decode, check; all problems at once.

Two words stand beside ``kind``, for what an export has to keep although no recipe or deployment says it itself: ``revision: 3``
in a recipe is the number that it has, or is to have; ``stopped: true`` in a deployment is that an operator stopped it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from studio.v1.admin_service_pb2 import ManifestProblem
from studio.v1.deployment_pb2 import DeploymentSpec
from studio.v1.host_pb2 import Host
from studio.v1.recipe_pb2 import Recipe
from studio.v1.route_pb2 import Price, ProviderRoute, Tenant

from studio_coordinator.manifest.checks import check
from studio_coordinator.manifest.decode import BOOLS, Decoder, is_null, read_int
from studio_coordinator.manifest.kinds import EXPECTED, KINDS, Item, kind_of, name_of
from studio_coordinator.manifest.names import did_you_mean
from studio_coordinator.manifest.tree import Mapping, Node, Scalar, TreeError, read_documents


@dataclass
class Parsed:
    """What a manifest says, in its order. With ``problems`` the rest is incomplete and must not be used."""

    recipes: list[Recipe] = field(default_factory=list)
    # Recipes with a number of their own, which may come beside the newest one of the same name.
    numbered: list[tuple[int, Recipe]] = field(default_factory=list)
    deployments: list[DeploymentSpec] = field(default_factory=list)
    # Names of deployments that are stopped.
    stopped: set[str] = field(default_factory=set)
    # The rest of the desired state.
    tenants: list[Tenant] = field(default_factory=list)
    prices: list[Price] = field(default_factory=list)
    providers: list[ProviderRoute] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    problems: list[ManifestProblem] = field(default_factory=list)

    @property
    def all_recipes(self) -> list[Recipe]:
        """With a number of their own or without."""
        return [*(recipe for _, recipe in self.numbered), *self.recipes]

    @property
    def objects(self) -> list[str]:
        """Everything that it says something about: ``Recipe/NAME``, ``Deployment/NAME``; each once."""
        items: list[Item] = [*self.all_recipes, *self.deployments, *self.fleet]
        return list(dict.fromkeys(f"{kind_of(item)}/{name_of(item)}" for item in items))

    @property
    def fleet(self) -> list[Item]:
        """What is neither a recipe nor a deployment."""
        return [*self.tenants, *self.prices, *self.providers, *self.hosts]


def parse(text: str) -> Parsed:
    """Read a manifest: YAML documents, or one JSON document, each with its ``kind``."""
    parsed = Parsed()
    # Where each recipe name and each public model name was given first.
    given: dict[tuple[str, str], int] = {}
    try:
        for document, node in read_documents(text):
            _document(parsed, document, node, given)
    except TreeError as error:
        parsed.problems.append(ManifestProblem(document=error.document, message=error.message, line=error.line))
    if not (parsed.objects or parsed.problems):
        parsed.problems.append(ManifestProblem(document=1, message="the manifest is empty", line=1))
    # From top to bottom, as one mends them.
    parsed.problems.sort(key=lambda problem: (problem.document, problem.line))
    return parsed


def _document(parsed: Parsed, document: int, node: Node, given: dict[tuple[str, str], int]) -> None:
    def problem(path: str, message: str, line: int) -> None:
        parsed.problems.append(ManifestProblem(document=document, path=path, message=message, line=line))

    if not isinstance(node, Mapping):
        problem("", f"expected fields, beginning with kind: {EXPECTED}", node.line)
        return
    kind, kind_line = _kind(node)
    if kind not in KINDS:
        said = f"{kind!r} is not known" if kind else "missing"
        problem("kind", f"{said}: expected {EXPECTED}{did_you_mean(kind, KINDS)}", kind_line)
        return
    decoder = Decoder()
    item, words = KINDS[kind].message(), {"kind", KINDS[kind].beside}
    beside = _beside(kind, node, decoder.problems)
    fields = Mapping(node.line, [entry for entry in node.entries if entry.key not in words])
    decoder.fill(item, fields, only=KINDS[kind].fields)
    for path, message, line in decoder.problems:
        problem(path, message, line)
    # A field that could not be read has been reported; what is checked about it then would only confuse.
    unread = {path for path, _, _ in decoder.problems}
    for path, message in (*check(item), *_given_twice(item, beside, document, given)):
        if not any(path == other or path.startswith((f"{other}.", f"{other}[")) for other in unread if other):
            problem(path, message, _line_of(path, decoder.lines, node.line))
    _keep(parsed, item, beside)


def _keep(parsed: Parsed, item: Item, beside: int) -> None:
    match item:
        case DeploymentSpec():
            parsed.deployments.append(item)
            parsed.stopped |= {item.name} if beside else set()
        case Recipe() if beside:
            parsed.numbered.append((beside, item))
        case Recipe():
            parsed.recipes.append(item)
        case Tenant():
            parsed.tenants.append(item)
        case Price():
            parsed.prices.append(item)
        case ProviderRoute():
            parsed.providers.append(item)
        case Host():
            parsed.hosts.append(item)


def _beside(kind: str, node: Mapping, problems: list[tuple[str, str, int]]) -> int:
    """What stands beside ``kind``: the number of a recipe's revision, 1 for a deployment that is stopped; else 0."""
    word, said = KINDS[kind].beside, 0
    entries = [entry for entry in node.entries if entry.key == word and not is_null(entry.value)]
    for entry in entries:
        text = entry.value.text if isinstance(entry.value, Scalar) else ""
        try:
            said = _revision(text) if kind == "Recipe" else int(BOOLS[text.lower()])
        except (KeyError, ValueError):
            expected = "the number of a revision, from 1 on" if kind == "Recipe" else "true or false"
            problems.append((word, f"expected {expected}, got {text!r}", entry.line))
    if len(entries) > 1:
        problems.append((word, f"given twice; first in line {entries[0].line}", entries[1].line))
    return said


def _revision(text: str) -> int:
    number = read_int(text, 31)
    if number < 1:
        raise ValueError
    return number


def _given_twice(
    item: Item, revision: int, document: int, given: dict[tuple[str, str], int]
) -> Iterator[tuple[str, str]]:
    """Names of this document that an earlier one gave: of its kind, or public model names of deployments and providers."""
    kind = kind_of(item).lower()
    if isinstance(item, DeploymentSpec | ProviderRoute):
        kind = "public model name"
    elif revision:
        kind = f"r{revision} of recipe"
    names = {name_of(item): KINDS[kind_of(item)].name}
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
