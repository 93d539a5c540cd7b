import pytest
from studio.v1.admin_service_pb2 import ManifestProblem
from studio_cli.errors import UnreachableError, error_of, exit_code, explain, locate
from studio_cli.up.keeper import RoleFailedError
from studio_runtime.errors import (
    ConflictError,
    InvalidError,
    InvalidManifestError,
    NotFoundError,
    OverloadedError,
    SafetyError,
    StudioError,
    UnavailableError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StudioError("x"), 1),
        (UnavailableError("the database does not answer"), 1),
        (OverloadedError("x"), 1),
        (RoleFailedError("x"), 1),
        (InvalidError("x"), 2),
        (InvalidManifestError("x", []), 2),
        (NotFoundError("x"), 3),
        (ConflictError("x"), 4),
        (SafetyError("x"), 5),
        (UnreachableError("x"), 6),
    ],
)
def test_exit_codes(error: StudioError, code: int):
    assert exit_code(error) == code
    assert exit_code(error_of(code)("x")) == code


def test_every_problem_of_a_manifest_is_told_with_its_place():
    problems = [
        ManifestProblem(document=2, path="args.max_model_len", message="is not a number", line=14),
        ManifestProblem(path="name", message="is missing"),
        ManifestProblem(message="is not YAML"),
    ]
    assert list(explain(InvalidManifestError("recipe.yaml has 3 problems", problems))) == [
        "Error: recipe.yaml has 3 problems",
        "  document 2, line 14, args.max_model_len: is not a number",
        "  name: is missing",
        "  is not YAML",
        "Nothing was changed. Mend what is listed and apply again.",
    ]


def test_a_problem_without_a_place_has_no_colon():
    assert locate(ManifestProblem()) == ""
