"""Prints the flags of an installed engine as JSON: `python list_flags.py vllm | sglang | tabbyapi CHECKOUT`.

Run by the engine's own Python, which has nothing of ours; the form is that of `flag_list.FlagList.encode`. Importing an engine
may print, so the answer is one line with a mark of its own.
"""

import argparse
import json
import sys
from importlib import import_module
from typing import Any

MARK = "STUDIO-FLAGS "


def main(engine: str, checkout: str = "") -> None:
    """Print the list."""
    rows = tabbyapi(checkout) if engine == "tabbyapi" else from_parser({"vllm": vllm, "sglang": sglang}[engine]())
    sys.stdout.write(f"\n{MARK}{json.dumps(rows)}\n")


def vllm() -> argparse.ArgumentParser:
    """The parser of `vllm serve`, built by the subcommand itself: its modules move between versions."""
    serve = import_module("vllm.entrypoints.cli.serve").cmd_init()[0]
    parser = import_module("vllm.utils.argparse_utils").FlexibleArgumentParser()
    served: argparse.ArgumentParser = serve.subparser_init(parser.add_subparsers())
    return served


def sglang() -> argparse.ArgumentParser:
    """The parser of `sglang serve`."""
    parser = argparse.ArgumentParser()
    import_module("sglang.srt.server_args").ServerArgs.add_cli_args(parser)
    return parser


def from_parser(parser: argparse.ArgumentParser) -> list[dict[str, Any]]:
    """A row for each option."""
    return [
        row
        for action in parser._actions  # noqa: SLF001 - argparse has no other way to list its options
        if not isinstance(action, (argparse._HelpAction, argparse._VersionAction))  # noqa: SLF001 - they end the program
        and (row := _row(action)) is not None
    ]


def _row(action: argparse.Action) -> dict[str, Any] | None:
    names = [each.removeprefix("--") for each in action.option_strings if each.startswith("--")]
    if not names:
        return None
    off = ""
    if isinstance(action, argparse.BooleanOptionalAction):
        off = next(name for name in names if name.startswith("no-"))
        names = [name for name in names if not name.startswith("no-")]
        takes = "toggle"
    elif action.nargs == 0:
        takes = "switch"
    elif action.nargs == "?":
        takes = "optional"
    else:
        takes = "value" if action.nargs is None else "list"
    return {"names": names, "takes": takes, "off": off, "section": ""}


def tabbyapi(checkout: str) -> list[dict[str, Any]]:
    """The keys of TabbyAPI's configuration file, by section, from its own model of it."""
    sys.path.insert(0, checkout)
    sections = import_module("common.config_models").TabbyConfigModel.model_json_schema(ref_template="{model}")
    definitions = sections["$defs"]
    rows = []
    for section, reference in sections["properties"].items():
        named = {each for each in _references(reference) if each in definitions}
        for key, schema in ((k, s) for name in named for k, s in definitions[name]["properties"].items()):
            kinds = {"boolean": "toggle", "array": "list"}
            takes = next((kinds[kind] for kind in _types(schema) if kind in kinds), "value")
            rows.append({"names": [key.replace("_", "-")], "takes": takes, "off": "", "section": section})
    return rows


def _references(schema: dict[str, Any]) -> list[str]:
    found = [schema["$ref"]] if "$ref" in schema else []
    return found + [name for each in schema.get("anyOf", schema.get("allOf", [])) for name in _references(each)]


def _types(schema: dict[str, Any]) -> list[str]:
    found = [schema["type"]] if "type" in schema else []
    return found + [kind for each in schema.get("anyOf", []) for kind in _types(each)]


if __name__ == "__main__":
    main(*sys.argv[1:])
