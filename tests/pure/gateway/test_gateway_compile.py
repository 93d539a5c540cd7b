"""What is compiled may be: the machine code must do what the sources say."""

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

GATEWAY = Path(__file__).parents[3] / "gateway"


def compile_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gateway_compile", GATEWAY / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", compile_script().MODULES)
def test_nothing_that_is_compiled_waits(name: str):
    """A compiled coroutine that waits while it handles an exception shows this exception to all others."""
    tree = ast.parse((GATEWAY / "studio_gateway" / f"{name}.py").read_text(encoding="utf-8"))
    waiting = [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef) and not _is_declared(node)]
    assert [node.name for node in waiting] == []


def _is_declared(node: ast.AsyncFunctionDef) -> bool:
    """It is a protocol's, and has no body but its docstring."""
    return all(isinstance(statement, ast.Expr) for statement in node.body)
