"""The end of a script in a kernel: what would end the process ends the cell, and what wants a loop gets one."""

from __future__ import annotations

import ast
from typing import Any

import libcst as cst

from cmbagent_nb.skills.extracting.cell_imports import used_names
from cmbagent_nb.skills.extracting.source import dotted, is_main_guard, try_literal

RUN_APART = "_run_in_a_thread"
_REFUSAL = 'raise RuntimeError(f"the code ended with status {{{name}!r}}")'


def end_quietly(module: cst.Module) -> tuple[str, bool]:
    """Return a script's code such that its ``sys.exit`` does not end the kernel, and whether it reads ``sys.argv``."""
    module = module.visit(_Awaiter())
    body = list(module.body)
    if body:
        last = body[-1]
        if isinstance(last, cst.If) and is_main_guard(last) and isinstance(last.body, cst.IndentedBlock):
            inner = list(last.body.body)
            inner[-1:] = _without_exit(inner[-1])
            inner = inner or [cst.SimpleStatementLine([cst.Pass()])]
            body[-1] = last.with_changes(body=last.body.with_changes(body=inner))
        else:
            body[-1:] = _without_exit(last)
    module = module.with_changes(body=body)
    tree = ast.parse(module.code)
    code = module.code.strip("\n")
    if _exits(tree):
        code = _catch_exit(module)
    used = used_names(tree) | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return code, bool(used & {"argv", "argparse", "parse_args", "ArgumentParser", "optparse", "fire", "click"})


def _exit_call(node: cst.CSTNode) -> cst.Call | None:
    if isinstance(node, cst.Call) and dotted(node.func) in (["sys", "exit"], ["exit"], ["quit"], ["os", "_exit"]):
        return node
    if isinstance(node, cst.Call) and dotted(node.func) == ["SystemExit"]:
        return node
    return None


def _without_exit(statement: Any) -> list[Any]:
    """Return a script's last statement such that its ``sys.exit`` does not end the kernel."""
    if not (isinstance(statement, cst.SimpleStatementLine) and len(statement.body) == 1):
        return [statement]
    item = statement.body[0]
    value = item.value if isinstance(item, cst.Expr) else item.exc if isinstance(item, cst.Raise) else None
    call = _exit_call(value) if value is not None else None
    if call is None or (call.args and call.args[0].star):
        return [statement]
    argument = call.args[0].value if call.args else None
    if argument is None or (isinstance(argument, cst.Name) and argument.value == "None"):
        return []
    status = try_literal(argument)
    if status is not None and not isinstance(status, (str, bool)) and status == 0:
        return []
    lines = cst.parse_module(f"_status = 0\nif _status:\n    {_REFUSAL.format(name='_status')}\n").body
    assignment = cst.ensure_type(lines[0], cst.SimpleStatementLine)
    set_status = cst.ensure_type(assignment.body[0], cst.Assign).with_changes(value=argument)
    return [statement.with_changes(body=[set_status]), lines[1]]


def _exits(tree: ast.AST) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in {"exit", "quit", "SystemExit"} and isinstance(node.ctx, ast.Load):
            return True
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.exit":
            return True
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "sys"
            and any(item.name == "exit" for item in node.names)
        ):
            return True
    return False


def _catch_exit(module: cst.Module) -> str:
    """Put a cell into ``try``: its exit with status 0 is its end, any other is an error."""
    guarded = cst.Try(
        body=cst.IndentedBlock(list(module.body) or [cst.SimpleStatementLine([cst.Pass()])]),
        handlers=[
            cst.ExceptHandler(
                type=cst.Name("SystemExit"),
                name=cst.AsName(cst.Name("_ended")),
                body=cst.IndentedBlock(
                    list(
                        cst.parse_module(f"if _ended.code:\n    {_REFUSAL.format(name='_ended.code')} from None\n").body
                    )
                ),
            )
        ],
    )
    return module.with_changes(body=[guarded]).code.strip("\n")


class _Awaiter(cst.CSTTransformer):
    """``asyncio.run(x)`` becomes ``await x`` at the top of a script; in a function it runs in a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self.depth += 1

    def leave_FunctionDef(self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef) -> cst.FunctionDef:
        self.depth -= 1
        return updated_node

    def visit_Lambda(self, node: cst.Lambda) -> None:
        self.depth += 1

    def leave_Lambda(self, original_node: cst.Lambda, updated_node: cst.Lambda) -> cst.Lambda:
        self.depth -= 1
        return updated_node

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        if dotted(original_node.func) == ["asyncio", "run"] and updated_node.args:
            if self.depth:
                return updated_node.with_changes(func=cst.Name(RUN_APART))
            return cst.Await(updated_node.args[0].value, lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        return updated_node
