"""Drafts to a manifest: each recipe, and a stopped deployment for the public name that it had."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from studio.v1.admin_service_pb2 import ConvertedField
from studio.v1.deployment_pb2 import DeploymentSpec

from studio_coordinator.manifest.checks import COMMIT, check_recipe
from studio_coordinator.manifest.dump import documents_to_yaml, dump
from studio_coordinator.manifest.names import ALIAS, ALIAS_RULE, NAME, NAME_RULE
from studio_coordinator.manifest.parse import parse
from studio_coordinator.manifest.upstream.draft import Draft
from studio_coordinator.manifest.upstream.extra import take_extra
from studio_coordinator.manifest.upstream.fields import ALIASES, FIELDS, PYTHON_ENGINES, UNSAID
from studio_coordinator.manifest.upstream.reading import read


@dataclass(frozen=True)
class Converted:
    """A manifest that can be applied, empty where no recipe was taken over, and what became of each field."""

    manifest: str = ""
    report: list[ConvertedField] = field(default_factory=list)


def convert(text: str) -> Converted:
    """Upstream's JSON in our words. Raises ValueError where ``text`` holds no recipes at all."""
    report: list[ConvertedField] = []
    documents: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    recipes: set[str] = set()
    for number, upstream in enumerate(read(text), 1):
        draft = _drafted(upstream, number)
        if draft.recipe.name in recipes:
            draft.refused("id", "an earlier recipe has the same", fatal=True)
        if not draft.broken:
            recipes.add(draft.recipe.name)
            documents.append(dump(draft.recipe))
            documents += _deployment(draft, names)
        report += draft.report
    manifest = documents_to_yaml(documents) if documents else ""
    problems = parse(manifest).problems if manifest else []
    if problems:
        raise ValueError(f"{problems[0].path}: {problems[0].message}")
    return Converted(manifest, report)


def _drafted(upstream: Mapping[str, Any], number: int) -> Draft:
    said = {ALIASES.get(name, name): (name, value) for name, value in upstream.items()}
    draft = Draft(str(upstream.get("id") or f"#{number}")[:63])
    _take_id(draft, upstream.get("id"))
    said.setdefault("backend", ("backend", None))
    for name in FIELDS:
        if name in said:
            _take(draft, name, *said[name])
    if "model_path" not in said:
        draft.refused("model_path", "missing", fatal=True)
    # Upstream folds top-level keys that it does not know into extra_args.
    rest = {name: value for name, (_, value) in said.items() if name not in FIELDS and name not in ("id", "extra_args")}
    extra = said.get("extra_args", ("", None))[1]
    if isinstance(extra, dict):
        rest |= extra
    elif extra is not None:
        draft.refused("extra_args", "expected arguments by name")
    for name, value in rest.items():
        take_extra(draft, name, value)
    _settle(draft, said)
    return draft


def _take_id(draft: Draft, value: Any) -> None:
    name = str(value or "")
    if NAME.fullmatch(name):
        draft.recipe.name = name
        draft.renamed("id", "name")
    else:
        draft.refused("id", f"{name!r} is not a name: {NAME_RULE}" if name else "missing", fatal=True)


def _take(draft: Draft, name: str, written: str, value: Any) -> None:
    before = len(draft.report)
    try:
        FIELDS[name](draft, name, value)
    except ValueError as error:
        draft.refused(name, str(error), fatal=name in ("backend", "model_path"))
    # A name is reported as it was written.
    for entry in draft.report[before:]:
        entry.field = written + entry.field.removeprefix(name)


def _settle(draft: Draft, said: Mapping[str, Any]) -> None:
    """What depends on several fields, and what goes without saying there but not here."""
    if draft.trusts_remote_code and COMMIT.fullmatch(draft.recipe.model.revision):
        draft.recipe.args.trust_remote_code = True
        draft.mapped("trust_remote_code", "args.trust_remote_code")
    elif draft.trusts_remote_code:
        note = "runs the model's own code, so it needs model.revision to be a commit (40 hexadecimal digits)"
        draft.refused("trust_remote_code", note)
    if draft.engine in PYTHON_ENGINES:
        for name in (name for name in UNSAID if name not in said):
            draft.changed(name, "", UNSAID[name])
    if not draft.broken:
        for path, message in list(check_recipe(draft.recipe)):
            draft.refused(path, message, fatal=True)


def _deployment(draft: Draft, names: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Under the name that applications used; stopped, because upstream ran one model at a time."""
    served = draft.served
    if not served:
        return
    own = {served} if NAME.fullmatch(served) else {served, draft.recipe.name}
    taken = sorted(name for name in own if name in names)
    if not ALIAS.fullmatch(served):
        draft.refused("served_model_name", f"{served!r} is not a public model name: {ALIAS_RULE}")
    elif taken:
        draft.refused(
            "served_model_name", f"{taken[0]!r} is the public name of {names[taken[0]]} already; a name has one"
        )
    else:
        names |= dict.fromkeys(own, draft.recipe.name)
        spec = DeploymentSpec(name=served, recipe=draft.recipe.name)
        if len(own) > 1:
            spec.name, spec.aliases[:] = draft.recipe.name, [served]
        note = f"stopped, as upstream ran one model at a time: studio start {spec.name}"
        draft.renamed("served_model_name", f"Deployment/{spec.name}", note)
        kind, *rest = dump(spec).items()
        yield dict([kind, ("stopped", True), *rest])
