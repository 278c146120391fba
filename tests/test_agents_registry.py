"""Agents as data: the roster, a user's own files and objects, and what is wrong with a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cmbagent_nb.agents.registry import AgentSpec, Registry
from cmbagent_nb.errors import SettingsError, UsageError

GOOD = """
name: statistician
role: helper
description: Checks
  statistics.
instructions: Check them.
tools: [inspect_data, "agent:researcher"]
reply: text
"""


def test_roster_is_whole() -> None:
    registry = Registry.load()
    assert set(registry.names()) == {"planner", "plan_reviewer", "engineer", "executor", "researcher", "summarizer"}
    assert registry.plannable() == ["engineer", "researcher"]
    forms = {spec.name: spec.reply for spec in registry}
    assert forms == {
        "planner": "plan", "plan_reviewer": "review", "engineer": "code", "executor": "verdict", "researcher": "report",
            "summarizer": "text",
    }  # fmt: skip
    assert set(registry.roles().values()) == {"primary", "helper", "validator"}


def test_instructions_are_neutral() -> None:
    """Nothing in the roster knows of a domain, a machine or a date."""
    for spec in Registry.load():
        text = f"{spec.instructions} {spec.description}".lower()
        assert len(spec.instructions) > 500
        assert not re.search(r"cosmolog|planck|camb\b|cmb\b|/home|20[0-9][0-9]", text), spec.name


def test_a_file_is_enough(tmp_path: Path) -> None:
    """A YAML file in the workspace, or in the folder of the settings, makes an agent that can be planned with."""
    home = tmp_path / "home"
    (home / "agents").mkdir(parents=True)
    (home / "agents" / "s.yaml").write_text(GOOD)
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "engineer.yaml").write_text("name: engineer\ndescription: Mine.\ninstructions: Write R.\nreply: code\n")
    registry = Registry.load(extra, home)
    assert "statistician" in registry.plannable()
    assert registry["statistician"].description == "Checks statistics."
    assert registry["statistician"].role == "helper" and registry["statistician"].tools[1] == "agent:researcher"
    assert registry["engineer"].instructions == "Write R."


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("name: x\ndescription: [a", 2, "expected"),
        ("name: x\ndescription: d\ninstructions: i\nmood: good\n", 4, "'mood' is not one of"),
        ("name: x\ndescription: d\ninstructions: i\n\nreply: poem\n", 5, "'poem'"),
        ("name: x\ninstructions: i\ndescription: d\ntools: [hammer]\n", 4, "'hammer'"),
        ("name: 1\ndescription: d\ninstructions: i\n", 1, "not a text"),
        ("name: bad name\ndescription: d\ninstructions: i\n", 1, "letters"),
        ("name: x\ndescription: d\n", 1, "no instructions"),
        ("name: x\ndescription: d\ninstructions: i\nplannable: maybe\n", 4, "true or false"),
        ("- just\n- a list\n", 1, "mapping"),
        ("", 1, "mapping"),
        ("name: x\n\tdescription: d\n", 2, "token"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, text: str, line: int, what: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        Registry.load(tmp_path)
    assert f"{path}, line {line}:" in str(caught.value)
    assert what in str(caught.value)


def test_a_helper_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(GOOD.replace("agent:researcher", "agent:nobody"))
    with pytest.raises(SettingsError, match="nobody"):
        Registry.load(tmp_path)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="agents_dir"):
        Registry.load(tmp_path / "missing")
    assert Registry.load("", tmp_path / "missing").names(), "a workspace needs no folder of agents"


def test_objects_can_be_registered() -> None:
    from ag2 import Agent

    registry = Registry.load()
    spec = registry.register(Agent("poet", "You write poems.\nShort ones."))
    assert (spec.description, spec.reply, spec.agent.name) == ("You write poems.", "text", "poet")
    registry.register(AgentSpec(name="quiet", description="d", plannable=False))
    assert "poet" in registry.plannable() and "quiet" not in registry.plannable()
    with pytest.raises(UsageError, match="description"):
        registry.register(Agent("nameless"))
    with pytest.raises(UsageError, match="no agent 'nobody'"):
        registry["nobody"]


def test_a_run_can_change_models_and_instructions() -> None:
    registry = Registry.load()
    changed = registry.changed({"engineer": "openai:gpt-5"}, {"engineer": "Use polars."})
    assert changed["engineer"].model == "openai:gpt-5"
    assert changed["engineer"].instructions.endswith("Use polars.\n")
    assert registry["engineer"].model is None and "polars" not in registry["engineer"].instructions
    with pytest.raises(UsageError, match="nobody"):
        registry.changed({"nobody": "openai:gpt-5"})
