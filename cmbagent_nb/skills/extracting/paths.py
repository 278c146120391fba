"""The files that a step's code names: those it reads from outside, and those it makes."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import libcst as cst

from cmbagent_nb.skills.extracting import vocabulary as words
from cmbagent_nb.skills.extracting.candidate import Finder, clean_path
from cmbagent_nb.skills.extracting.source import dotted, try_literal
from cmbagent_nb.skills.model import Kind

#: Functions that say a file's name, and do nothing with the file.
_SAYS = frozenset({"print", "log", "info", "debug", "warning", "warn", "write", "append", "format", "echo", "dumps"})


class Paths(Finder):
    """Collects the texts that are paths of inputs and outputs, whole or in pieces."""

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        value = try_literal(node)
        if not isinstance(value, str) or not value or id(node) in self.taken_nodes:
            return
        parent = self.source.parents.get(node)
        place = self.files.input_for(value)
        if place is not None:
            self._file(place, node, "input")
        elif clean_path(value) in self.files.outputs:
            if self._names_a_file(node, parent):
                self._file(value, node, "output")
        elif "/" not in value and words.FILE_SUFFIX.search(value) and self._is_piece(node, parent):
            if self._alone(value, self.files.inputs):
                self._file(value, node, "input")
            elif self._alone(value, self.files.outputs):
                self._file(value, node, "output")

    def _alone(self, name: str, paths: object) -> bool:
        """Tell whether one file alone has this name."""
        known = [path for path in list(paths) if isinstance(path, str)] if isinstance(paths, (dict, frozenset)) else []
        return sum(PurePosixPath(path).name == name and not path.startswith("/") for path in known) == 1

    def _file(self, value: str, node: cst.SimpleString, kind: Kind) -> None:
        pure = PurePosixPath(value)
        stem = re.sub(r"\W+", "_", pure.stem).strip("_").lower() or kind
        stem = f"file_{stem}" if stem[0].isdigit() else stem
        source = "file read" if kind == "input" else "file made"
        self.add(f"{stem}_file", value, node, "value", kind=kind, source=source)

    def _names_a_file(self, node: cst.SimpleString, parent: cst.CSTNode | None) -> bool:
        """Tell whether a text is used as a path: it is an argument, a piece, a value of a name; it is not only said."""
        if isinstance(parent, (cst.BinaryOperation, cst.Assign, cst.AnnAssign, cst.NamedExpr, cst.Param)):
            return True
        if not isinstance(parent, cst.Arg):
            return False
        call = self.source.parents.get(parent)
        return isinstance(call, cst.Call) and dotted(call.func)[-1] not in _SAYS

    def _is_piece(self, node: cst.CSTNode, parent: cst.CSTNode | None) -> bool:
        if isinstance(parent, cst.BinaryOperation):
            return isinstance(parent.operator, cst.Divide) and parent.right is node
        call = self.source.parents.get(parent) if isinstance(parent, cst.Arg) else None
        return isinstance(call, cst.Call) and dotted(call.func)[-2:] == ["path", "join"] and call.args[-1] is parent
