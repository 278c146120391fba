"""AG2 is imported without the packages of providers that are not used, and is otherwise as it always is."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PROVIDERS = ("openai", "anthropic", "google.genai", "ollama")


def outcome(code: str) -> Any:
    """Return what a fresh interpreter prints as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_provider_is_imported_before_it_is_used() -> None:
    """Also where the user imports AG2, and a provider that is used brings none of the others."""
    code = f"""
import json, sys
import cmbagent_nb.agents
import ag2
before = [name for name in {PROVIDERS!r} if name in sys.modules]
from ag2.config import OpenAIConfig
print(json.dumps([before, [name for name in {PROVIDERS!r} if name in sys.modules], OpenAIConfig(model="m").model]))
"""
    assert outcome(code) == [[], ["openai"], "m"]


def test_the_module_holds_what_it_holds_without_us() -> None:
    """Each public name is the same object, from the same module; the import system is left as it was."""
    look = """
import json, sys
{first}
finders = [type(finder).__name__ for finder in sys.meta_path]
import ag2.config
found = {{name: str(getattr(ag2.config, name)).split(" id=")[0] for name in ag2.config.__all__}}
from ag2.config import *
import ag2.config.gemini as package
print(json.dumps([found, OpenAIConfig.__module__, package.GeminiConfig is GeminiConfig, hasattr(ag2.config, "x"),
    isinstance(ag2.config.openai, type(sys)), [type(finder).__name__ for finder in sys.meta_path][{skip}:]]))
"""
    ours = outcome(look.format(first="import cmbagent_nb.llm", skip=0))
    assert ours == outcome(look.format(first="", skip=0))


def test_ag2_that_is_there_already_stays_as_it_is() -> None:
    code = """
import json, sys
import ag2.config
held = ag2.config.OpenAIConfig
finders = list(sys.meta_path)
import cmbagent_nb.capture
print(json.dumps([ag2.config.OpenAIConfig is held, sys.meta_path == finders]))
"""
    assert outcome(code) == [True, True]


def test_a_package_that_is_not_installed_is_told_as_by_ag2() -> None:
    code = """
import json, sys
sys.modules["anthropic"] = None
import cmbagent_nb.llm
from ag2.config import AnthropicConfig
try:
    AnthropicConfig(model="m")
except ImportError as error:
    print(json.dumps(str(error)))
"""
    assert "ag2[anthropic]" in outcome(code)
