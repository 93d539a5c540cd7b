"""``studio recipes``, ``studio export`` and ``studio import`` as they are typed, against a real coordinator."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import yaml
from fakes.cli import Said
from structlog.testing import capture_logs
from studio_cli.__main__ import run
from studio_runtime.settings import Address

RECIPE = "kind: Recipe\nname: tiny\nengine: {{name: demo}}\npreset: low-latency\nargs: {{max_model_len: {length}}}\n"
DEPLOYMENT = "kind: Deployment\nname: chat\nrecipe: tiny\nreplicas: {min: 1}\n"

Typed = Callable[..., Awaitable[Said]]


@pytest.fixture
def studio(
    address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Typed]:
    """Type a command; it runs in a thread, since the coordinator has this test's loop, and its log the same output."""
    monkeypatch.setenv("STUDIO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("STUDIO_COORDINATOR", str(address))
    monkeypatch.setenv("COLUMNS", "200")

    async def type_in(*words: str) -> Said:
        capfd.readouterr()
        code = await asyncio.to_thread(run, words)
        said = capfd.readouterr()
        return Said(code, said.out, said.err)

    with capture_logs():
        yield type_in


def a_file(folder: Path, text: str, name: str = "x.yaml") -> str:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return str(file)


async def applied(studio: Typed, folder: Path, *lengths: int) -> None:
    for length in lengths:
        file = a_file(folder, RECIPE.format(length=length))
        assert (await studio("recipes", "apply", "-f", file, "--no-wait")).code == 0


async def test_history_diff_and_rollback(studio: Typed, tmp_path: Path):
    await applied(studio, tmp_path, 10, 20)
    head, *rows = (await studio("recipes", "history", "tiny")).out.splitlines()
    assert head.split()[0] == "REVISION"
    assert [row.split()[0] for row in rows] == ["r2", "r1"]
    assert (await studio("recipes", "diff", "tiny")).out == "# tiny r1 → r2\nargs.max_model_len: 10 → 20\n"
    said = await studio("recipes", "rollback", "tiny", "--to", "1", "--if-revision", "2")
    assert said.out == "recipe tiny changed (r3)\n  args.max_model_len: 20 → 10\n"
    stale = await studio("recipes", "rollback", "tiny", "--if-revision", "2")
    assert stale.code == 4
    assert "20 → 10" in stale.err
    assert [one["revision"] for one in json.loads((await studio("recipes", "history", "tiny", "-o", "json")).out)] == [
        3,
        2,
        1,
    ]
    assert json.loads((await studio("recipes", "diff", "tiny", "-o", "json")).out)["from_revision"] == 2
    assert (await studio("recipes", "diff", "tny")).code == 3


async def test_an_edit_is_got_changed_and_applied_unless_stale(studio: Typed, tmp_path: Path):
    await applied(studio, tmp_path, 10)
    got = (await studio("recipes", "get", "tiny")).out
    edited = a_file(tmp_path, got.replace("10", "11"))
    assert (await studio("recipes", "apply", "-f", edited, "--if-revision", "1")).out.startswith(
        "recipe tiny changed (r2)"
    )
    stale = await studio("recipes", "apply", "-f", edited, "--if-revision", "1")
    assert stale.code == 4
    assert "at revision 2" in stale.err
    both = a_file(tmp_path, got + "---\n" + DEPLOYMENT, "both.yaml")
    missing = await studio("apply", "-f", edited, "--if-version", "3")
    assert (missing.code, "0 deployments" in missing.err) == (2, True)
    assert (await studio("apply", "-f", both, "--if-revision", "2", "--if-version", "9")).code == 4


async def test_a_deployments_verbs_are_refused_when_stale(studio: Typed, tmp_path: Path):
    await applied(studio, tmp_path, 10)
    await studio("apply", "-f", a_file(tmp_path, DEPLOYMENT), "--no-wait")
    for words in (
        ["scale", "chat", "2"],
        ["stop", "chat"],
        ["start", "chat"],
        ["delete", "deployment", "chat", "--yes"],
    ):
        assert (await studio(*words, "--if-version", "7")).code == 4
    assert (await studio("scale", "chat", "2", "--if-version", "1", "--no-wait")).code == 0
    assert (await studio("recipes", "get", "tiny")).out.startswith("# chat serves r1\nkind: Recipe\n")
    assert "\n# chat serves r1\n" in (await studio("recipes", "show", "tiny")).out


async def test_the_preset_is_shown_written_out(studio: Typed, tmp_path: Path):
    await applied(studio, tmp_path, 10)
    effective = yaml.safe_load((await studio("recipes", "show", "tiny", "--effective")).out)
    assert effective["args"] == {"max_model_len": 10, "max_num_seqs": 32}
    assert "preset" not in effective
    (as_json,) = json.loads((await studio("recipes", "show", "tiny", "--effective", "-o", "json")).out)
    assert as_json == effective
    assert "preset: low-latency" in (await studio("recipes", "show", "tiny")).out


async def test_validate_lists_every_problem_and_changes_nothing(studio: Typed, tmp_path: Path):
    bad = await studio("recipes", "validate", "-f", a_file(tmp_path, "kind: Recipe\nname: a b\nengine: {name: dmo}\n"))
    assert bad.code == 2
    assert "line 2, name" in bad.err
    assert "line 3, engine.name" in bad.err
    good = await studio("recipes", "validate", "-f", a_file(tmp_path, RECIPE.format(length=1)))
    assert good.out == "recipe tiny is valid\n"
    assert (await studio("recipes", "list", "-o", "json")).out == "[]\n"


async def test_export_and_import(studio: Typed, tmp_path: Path):
    await applied(studio, tmp_path, 10)
    await studio("apply", "-f", a_file(tmp_path, DEPLOYMENT), "--no-wait")
    exported = (await studio("export")).out
    file = a_file(tmp_path, exported.replace("max_model_len: 10", "max_model_len: 99"), "fleet.yaml")
    dry = await studio("import", file, "--dry-run")
    assert "args.max_model_len: 10 → 99" in dry.out
    assert "dry run" in dry.out
    kept = await studio("import", file, "--keep-existing", "-o", "json", "--no-wait")
    assert [one["outcome"] for one in json.loads(kept.out)] == ["UNCHANGED", "UNCHANGED"]
    assert (await studio("export")).out == exported
    assert (await studio("import", file, "--no-wait")).code == 0
    assert "max_model_len: 99" in (await studio("recipes", "export")).out
    names = [one["name"] for one in json.loads((await studio("export", "-o", "json")).out)]
    assert names == ["tiny", "chat"]
    assert (await studio("export", "Recipe/nothing")).code == 3


async def test_nothing_is_exported_as_nothing(studio: Typed):
    for words in (["export"], ["recipes", "export"]):
        assert (await studio(*words)) == Said(0, "", "")


UPSTREAM = json.dumps(
    [
        {
            "id": "old",
            "model_path": "o/m",
            "served_model_name": "old-chat",
            "extra_args": {"swap_space": 4, "x_y": False},
        },
        {"id": "apple", "model_path": "o/m", "backend": "mlx"},
    ]
)


async def test_upstreams_recipes_are_told_of_and_taken_over(studio: Typed, tmp_path: Path):
    file = a_file(tmp_path, UPSTREAM, "recipes.json")
    shown = await studio("recipes", "import", file, "--manifest")
    assert [document["kind"] for document in yaml.safe_load_all(shown.out)] == ["Recipe", "Deployment"]
    assert "swap_space" in shown.err
    dry = await studio("recipes", "import", file, "--dry-run")
    assert "nothing was changed" in dry.out
    assert (await studio("recipes", "list", "-o", "json")).out == "[]\n"
    said = await studio("recipes", "import", file)
    assert said.code == 0
    outcomes = {tuple(words[:2]): words[2] for line in said.out.splitlines() if len(words := line.split()) > 2}
    assert outcomes["old", "extra_args.swap_space"] == "obsolete"
    assert outcomes["old", "extra_args.x_y"] == "changed"
    assert outcomes["apple", "backend"] == "refused"
    assert "recipe old created (r1)" in said.out
    again = await studio("recipes", "import", file)
    assert "--replace" in again.err
    data = json.loads((await studio("recipes", "import", file, "--replace", "-o", "json")).out)
    assert {one["outcome"] for one in data["applied"]} == {"UNCHANGED"}
    assert data["report"][0]["outcome"] == "RENAMED"


async def test_where_no_recipe_can_be_taken_over_the_reasons_are_told(studio: Typed, tmp_path: Path):
    said = await studio(
        "recipes", "import", a_file(tmp_path, json.dumps({"id": "a", "model_path": "..", "backend": "mlx"}))
    )
    assert said.code == 2
    assert "there is no engine 'mlx' here" in said.err
    assert (await studio("recipes", "import", a_file(tmp_path, "hello"))).code == 2
