"""An export is a manifest: what it says comes back, with the numbers that are pinned and what was stopped."""

from builders import a_deployment, a_deployment_spec, a_recipe
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.recipe_pb2 import RecipeRevision
from studio_coordinator.manifest import DesiredState, export, parse


def a_revision(name: str, revision: int, digest: str = "") -> RecipeRevision:
    recipe = a_recipe(name, max_model_len=1000 + revision)
    return RecipeRevision(recipe_name=name, revision=revision, recipe=recipe, digest=digest or f"{name}{revision}")


def test_an_empty_system_is_an_empty_text():
    assert export(DesiredState()) == ""


def test_what_is_pinned_keeps_its_number_and_the_newest_needs_none():
    state = DesiredState(
        newest=[a_revision("b", 8), a_revision("a", 2)],
        pinned=[a_revision("b", 3), a_revision("a", 2)],
        deployments=[a_deployment("z", stopped=True), a_deployment("c")],
    )
    parsed = parse(export(state))
    assert not parsed.problems
    assert [(number, recipe.name) for number, recipe in parsed.numbered] == [(2, "a"), (3, "b")]
    assert [(recipe.name, recipe.args.max_model_len.value) for recipe in parsed.recipes] == [("b", 1008)]
    assert [spec.name for spec in parsed.deployments] == ["c", "z"]
    assert parsed.stopped == {"z"}


def test_a_newest_revision_that_says_what_the_last_number_says_is_not_told_twice():
    state = DesiredState(newest=[a_revision("a", 8, "same")], pinned=[a_revision("a", 3, "same")])
    parsed = parse(export(state))
    assert (parsed.recipes, len(parsed.numbered)) == ([], 1)


def test_the_same_settings_in_another_order_are_the_same_text():
    texts = []
    for words in (["x", "y", "method"], ["method", "y", "x"]):
        revision = a_revision("a", 1)
        for word in words:
            revision.recipe.args.speculative[word] = 1
            revision.recipe.extra_args[word].struct_value[word] = 1
        texts.append(export(DesiredState(newest=[revision])))
    assert texts[0] == texts[1]


@given(st.dictionaries(st.sampled_from("abc"), st.sets(st.integers(1, 9), min_size=1, max_size=4), max_size=3))
def test_every_number_comes_back(numbers: dict[str, set[int]]):
    state = DesiredState(
        newest=[a_revision(name, max(known)) for name, known in numbers.items()],
        pinned=[a_revision(name, number) for name, known in numbers.items() for number in known - {max(known)}],
        deployments=[a_deployment(name, spec=a_deployment_spec(name)) for name in numbers],
    )
    parsed = parse(export(state)) if numbers else parse("kind: Recipe\nname: x\nengine: {name: demo}")
    assert not parsed.problems
    if numbers:
        assert {(recipe.name, number) for number, recipe in parsed.numbered} == {
            (one.recipe_name, one.revision) for one in state.pinned
        }
        assert {recipe.name for recipe in parsed.recipes} == set(numbers)


def problems(text: str) -> list[tuple[str, str]]:
    return [(problem.path, problem.message) for problem in parse(text).problems]


RECIPE = "kind: Recipe\nname: a\nengine: {name: demo}\n"
DEPLOYMENT = "kind: Deployment\nname: a\nrecipe: a\n"


def test_a_number_that_is_none_is_refused_with_its_place():
    for said in ("0", "x", "-1", "[1]", "3000000000"):
        ((path, message),) = problems(f"{RECIPE}revision: {said}")
        assert path == "revision"
        assert "from 1 on" in message
    assert problems(f"{RECIPE}revision: null") == []
    assert problems(f"{RECIPE}revision: 1\nrevision: 2") == [("revision", "given twice; first in line 4")]


def test_stopped_is_true_or_false():
    assert problems(f"{DEPLOYMENT}stopped: perhaps") == [("stopped", "expected true or false, got 'perhaps'")]
    assert parse(f"{DEPLOYMENT}stopped: no").stopped == set()


def test_a_number_is_given_once_beside_the_newest():
    twice = f"{RECIPE}revision: 3\n---\n{RECIPE}revision: 3\n---\n{RECIPE}"
    assert problems(twice) == [("name", "document 1 gives the r3 of recipe 'a' already")]


def test_the_two_words_belong_to_one_kind_each():
    assert [path for path, _ in problems(f"{RECIPE}stopped: true")] == ["stopped"]
    assert [path for path, _ in problems(f"{DEPLOYMENT}revision: 1")] == ["revision"]
