"""Defers AG2's import of every provider package that is installed until that provider is used.

``ag2.config`` imports the packages of all providers when it is loaded, though a run uses one: with OpenAI, Anthropic
and Gemini installed that is four of the five seconds that ``import ag2`` takes. While ``ag2.config`` is loaded here,
its subpackages are stand-ins; afterwards each name is imported when it is first asked for, as PEP 562 describes.
Nothing else about the module changes, also for the user's own code.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_CONFIG = "ag2.config"
_PROVIDERS = ("openai", "anthropic", "bedrock", "dashscope", "gemini", "mistral", "ollama", "typesafe", "xai", "zai")


class _Deferred:
    """The place of a name of a provider's subpackage that has not been imported yet."""

    def __init__(self, provider: str) -> None:
        self.provider = provider


class _StandIns(MetaPathFinder, Loader):
    """Gives stand-ins for the subpackages of the providers."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        parent, _, last = name.rpartition(".")
        return ModuleSpec(name, self) if parent == _CONFIG and last in _PROVIDERS else None

    def exec_module(self, module: ModuleType) -> None:
        provider = module.__name__.rpartition(".")[2]

        def deferred(name: str) -> _Deferred:
            if name.startswith("__"):
                raise AttributeError(name)
            return _Deferred(provider)

        vars(module)["__getattr__"] = deferred


class _ConfigLoader(Loader):
    """Loads ``ag2.config`` with stand-ins for its providers."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        stand_ins = _StandIns()
        sys.meta_path.insert(0, stand_ins)
        try:
            self._loader.exec_module(module)
        finally:
            sys.meta_path.remove(stand_ins)
            for provider in _PROVIDERS:
                loaded = sys.modules.get(f"{_CONFIG}.{provider}")
                if loaded is not None and getattr(loaded.__spec__, "loader", None) is stand_ins:
                    del sys.modules[f"{_CONFIG}.{provider}"]
                    vars(module).pop(provider, None)
        homes = {name: value.provider for name, value in vars(module).items() if isinstance(value, _Deferred)}
        for name in homes:
            del vars(module)[name]
        vars(module)["__getattr__"] = _importer(module, homes)


def _importer(module: ModuleType, homes: dict[str, str]) -> Callable[[str], Any]:
    def get(name: str) -> Any:
        if name in _PROVIDERS:
            return importlib.import_module(f"{_CONFIG}.{name}")
        if name not in homes:
            raise AttributeError(f"module {_CONFIG!r} has no attribute {name!r}")
        try:
            value = getattr(importlib.import_module(f"{_CONFIG}.{homes[name]}"), name)
        except ImportError as error:  # as ag2.config itself does
            from ag2.exceptions import missing_optional_dependency

            value = missing_optional_dependency(name, homes[name], error)
        setattr(module, name, value)
        return value

    return get


class _ConfigFinder(MetaPathFinder):
    """Finds ``ag2.config`` once, and then leaves the import system as it was."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _CONFIG:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _ConfigLoader(spec.loader)
        return spec


def defer_providers() -> None:
    """Defer the providers' packages when AG2 is imported; nothing happens when it has been imported already."""
    if _CONFIG not in sys.modules and not any(isinstance(finder, _ConfigFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ConfigFinder())
