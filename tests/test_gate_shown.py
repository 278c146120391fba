"""What a gate shows: everything, in every front end, with no character that nobody sees."""

from __future__ import annotations

import html
import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmbagent_nb.notebook.gates import GateCard
from cmbagent_nb.render.gate import KINDS, gate_html, gate_text, shown
from cmbagent_nb.render.html import run_html
from cmbagent_nb.render.text import esc, visible
from cmbagent_nb.verbs.follow import gate_lines
from cmbagent_nb.verbs.output import Output
from tests.test_render_graph import snapshot

#: Bidirectional marks, isolates, zero-width characters, fillers, tags, controls, separators, a byte order mark.
HIDDEN = (
    "\u202e\u202a\u2066\u2069\u200e\u061c\u200b\u200c\u200d\u2060\ufeff\u00ad\u3164\u115f\u180e"
    "\u2028\u0085\x1b\x08\r\x00\u2800"
)
TAGS = "".join(chr(0xE0000 + ord(letter)) for letter in "rm")


def gate(text: str) -> dict[str, Any]:
    """A gate whose every text is ``text``."""
    step = {"title": text, "agent": text, "instructions": text, "bullet_points": [text], "expected_outputs": [text]}
    return {
        "id": "1" * 36,
        "run_id": "2" * 36,
        "approval_type": "tool_call",
        "node_id": "step_1",
        "context": {
            "title": text,
            "body": text,
            "note": text,
            "plan": {"goal": text, "steps": [{**step, "extra": text}, {**step, "depends_on": [1]}]},
            "code": text,
            "file": text,
            "parameters": {text: text},
            "error": text,
            "output": text,
            "files": [text],
            "options": [{"id": "approved", "label": "Run it"}],
            "hash": "a" * 64,
        },
    }


def everywhere(text: str) -> dict[str, str]:
    """How each front end shows a gate, as text."""
    row = gate(text)

    def plain(markup: str) -> str:
        return html.unescape(re.sub(r"<[^>]*>", "", markup))

    return {
        "card": plain(GateCard(row, lambda *_: None).widget.children[0].value),
        "saved copy": plain(run_html(snapshot(gates=[row])).partition('<div class="cmbv-frame')[2]),
        "command line": "\n".join(gate_lines(row, "cmbagent")),
        "panel": "\n".join(
            [
                shown(row).title,
                *(part.text for part in shown(row).parts),
                *("\n".join([step.title, *step.lines]) for part in shown(row).parts for step in part.steps),
            ]
        ),
    }


def hidden_in(text: str) -> list[str]:
    return [
        f"U+{ord(letter):04X}"
        for letter in text
        if unicodedata.category(letter) in ("Cf", "Cc", "Cs", "Co", "Zl", "Zp") and letter not in "\n\t"
    ]


@pytest.mark.parametrize("letter", [*HIDDEN, *TAGS], ids=lambda letter: f"U+{ord(letter):04X}")
def test_a_hidden_character_is_visible_everywhere(letter: str) -> None:
    for name, text in everywhere(f"a{letter}b").items():
        assert not hidden_in(text), name
        assert f"a⟨U+{ord(letter):04X}⟩b" in text, name


def test_json_for_programs_means_the_same_and_hides_nothing() -> None:
    text = f"a{HIDDEN}{TAGS}b"
    output = Output({"code": text})
    output.as_json = True
    assert not hidden_in(output.text)
    assert json.loads(output.text)["code"] == text


def test_letters_that_pass_for_others_are_visible_in_code() -> None:
    assert visible("\u0440rint(h0)", code=True) == "⟨U+0440⟩rint(h0)"
    assert visible("\u0397z = 1\u00a0+ 2", code=True) == "⟨U+0397⟩z = 1⟨U+00A0⟩+ 2"
    for honest in ("Ω_m = 0.3; Δχ2 = σ8 # Ωm", "# Привет, мир", "x = 'é'  # naïve", "print('✔️ done')", "5\u202f%"):
        assert visible(honest) == honest
    assert visible("Ω_m, σ8, Δχ2, λmax, ρc", code=True) == "Ω_m, σ8, Δχ2, λmax, ρc"


@given(st.text(), st.booleans())
def test_visible_hides_nothing_and_changes_nothing_twice(text: str, code: bool) -> None:
    once = visible(text, code=code)
    assert not hidden_in(once)
    assert visible(once, code=code) == once
    assert html.unescape(esc(text, code=code)) == once


def test_everything_is_there_however_long() -> None:
    code = "\n".join(f"line_{number} = {number}" for number in range(1, 5001))
    texts = everywhere(code)
    for name, text in texts.items():
        assert "line_5000 = 5000" in text, name
        missing = [number for number in range(1, 5001, 97) if f"line_{number} = {number}" not in text]
        assert not missing, name
    steps = [{"title": f"Title {n} " + "t" * 300, "instructions": f"Do {n} " + "i" * 5000} for n in range(40)]
    row = {**gate("x"), "context": {"title": "Approve the plan?", "plan": {"goal": "g", "steps": steps}}}
    for text in (html.unescape(gate_html(shown(row))), "\n".join(gate_text(row))):
        for step in steps:
            assert step["title"] in text and step["instructions"] in text


def test_every_kind_of_part_is_known_to_the_panel() -> None:
    assert {part.kind for part in shown(gate("x")).parts} <= set(KINDS)


@pytest.mark.parametrize(
    "context", [None, {}, {"plan": 3}, {"plan": {"steps": "x"}}, {"plan": {"steps": [1, None]}}, {"code": 5}]
)
def test_a_gate_of_another_form_is_shown_all_the_same(context: Any) -> None:
    row = {"id": "1" * 36, "approval_type": "tool_call", "context": context}
    assert shown(row).title == "tool call"
    assert gate_html(shown(row)) and gate_text(row)
