"""Rewrites each `await x` of some modules into `await fault.at(point, x)`, when they are imported.

Call `install()` before anything imports them. The armed point raises once, instead of awaiting.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import inspect
import sys
from collections.abc import Awaitable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

#: The modules whose awaits are broken, and in whose rooms a broken await could end a loop.
MODULES = (
    "unstuck.runner.runner",
    "unstuck.runner.prefetch",
    "unstuck.runner.write_buffer",
    "unstuck.runner.process",
    "unstuck.runner.pipe_reader",
    "unstuck.streaming.hub",
    "unstuck.streaming.catch_up",
    "unstuck.streaming.heartbeat",
    "unstuck.streaming.direct",
    "unstuck.streaming.viewer",
    "unstuck.store.sqlite",
    "unstuck.webhooks.dispatcher",
    "unstuck.webhooks.sender",
    "unstuck.files.retention",
)


class InjectedError(RuntimeError):
    """An error that the server itself never raises."""


class Fault:
    """The await that raises once. `at` takes the place of every await."""

    def __init__(self) -> None:
        self.points: list[str] = []
        self.armed: str | None = None
        self.hit = False

    def arm(self, point: str) -> None:
        self.armed, self.hit = point, False

    async def at(self, point: str, awaited: Awaitable[Any]) -> Any:
        if point != self.armed:
            return await awaited
        self.armed, self.hit = None, True
        if inspect.iscoroutine(awaited):
            awaited.close()
        raise InjectedError(point)


fault = Fault()


class _Awaits(ast.NodeTransformer):
    def __init__(self, module: str) -> None:
        self._module = module
        self._function: list[str] = []

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        self._function.append(node.name)
        self.generic_visit(node)
        self._function.pop()
        return node

    def visit_Await(self, node: ast.Await) -> ast.AST:
        self.generic_visit(node)
        count = sum(one.startswith(f"{self._module}.{self._function[-1]} ") for one in fault.points)
        point = f"{self._module}.{self._function[-1]} {count + 1}"
        fault.points.append(point)
        at = ast.Attribute(ast.Name("__fault__", ast.Load()), "at", ast.Load())
        return ast.copy_location(ast.Await(ast.Call(at, [ast.Constant(point), node.value], [])), node)


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        tree = ast.parse(self.get_data(path), path)
        tree = ast.fix_missing_locations(_Awaits(fullname.removeprefix("unstuck.")).visit(tree))
        return compile(tree, path, "exec")

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__fault__"] = fault
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(fullname, spec.origin)
        return spec


def install() -> None:
    assert not set(MODULES) & set(sys.modules), "too late: they are imported already"
    sys.meta_path.insert(0, _Finder())
