r"""Valid replies, and what models and servers make of them: each mutation comes with the value that is meant.

A mutation that loses a part of the answer means ``None``: the reader may then give the value or say why it cannot,
but nothing else.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cmbagent_nb.agents.replies import Code, Reply, Report, Review, Verdict, plan_model

PLAN = plan_model(["engineer", "researcher"])

#: Scripts whose backslashes a model may forget to double without a doubt about what is meant.
SCRIPTS = [
    "import re\n\nNAMES = re.compile(r\"\\bNGC\\s*(\\d+)\\b\")\nprint(NAMES.findall('NGC 1 \\t NGC2\\n'))\n",
    'import matplotlib.pyplot as plt\n\nplt.xlabel(r"$\\nu$ [GHz]")\nplt.ylabel(r"$\\frac{\\theta}{\\rho}$")\n'
    'plt.title("a\\nb")\n',
    "path = r'C:\\new\\table\\raw\\data.csv'\nwith open(path) as file:\n\ttext = file.read()\n"
    "\tprint(text.split('\\t'))\n",
    "# keep $\\tau$ fixed\ndef f(x):\n    '''Return it.\n\n    More.\n    '''\n    return f\"{x}\\r\\n\"\n",
    'print("""\nfirst\nsecond\n""")\nu = 1\nnu = 2\ntau = u / nu\n',
    'x = ""\ny = \'\'\nz = b""\nprint(x or "none\\n", y, z)\n',
]
#: Scripts that hold what a careless reader stumbles over.
CODE = [
    *SCRIPTS,
    'TAG = "<think>"\nEND = "</think>"\nprint(TAG, "{", END, "}}")\n',
    'print("```python\\nprint(1)\\n```")\n',
    'import json\n\nprint(json.dumps({"filename": "DRAFT", "python_code": "x = {}", "approved": False}))\n',
    'text = """```json\n{"filename": "a", "python_code": "b"}\n```\n"""\nprint(text)\n',
    "s = 'it\\'s'\nprint('\\\\', s)  # a backslash\n",
    "print('<|channel|>analysis<|message|>no<|end|>', '[THINK]', '◁think▷')\n",
    "print('\u00e9\u03b1\U0001f600')\n",
]
TEXTS = [
    "# Slope\n\nThe slope is $\\frac{a}{b}$ with $\\beta$, $\\theta_0$ and $\\nu$.\n\n- $\\Omega_m$\n- $\\rho$\n",
    "$$\n\\alpha = \\nabla \\times \\tau\n$$\n\nIn `C:\\temp\\new.csv`: \\nu is free.",
    "| a | b |\n|---|---|\n| $\\sigma_8$ | \\textbf{x} |\n\nMatch `\\d+\\t\\w+`.",
]
PROSE = [
    *TEXTS,
    "The tag `<think>` is no answer; `</think>` neither.\n\n```python\nprint('<think>')\n```\n",
    '```json\n{"markdown": "DRAFT"}\n```\n\nThat is the format; {x} is a set.',
    "Tabs:\ta\tb\nnew lines\nup to 3\nto be\nnot to be\ttop\n\nequal",
    "Doubled: $\\\\alpha$ stays, and \\n is two characters.",
    "Caf\u00e9 \u201cquoted\u201d \U0001f600",
    "nothing special",
]


@dataclass
class Case:
    """A mutated reply: its text, what it means, its form, and the mutations it went through."""

    text: str
    meant: dict[str, Any] | None
    form: type[Reply]
    names: list[str]
    draft: bool = False  #: whether a draft stands in what is set aside as reasoning


def a_value(random: random.Random, form: type[Reply], *, draft: bool = False) -> dict[str, Any]:
    """Make a valid reply of a form; a draft is another one and says so in each text."""
    mark = "DRAFT" if draft else "FINAL"
    decoration = {
        "reasoning": random.choice(["because", "", "since {x} holds"]),
        "alternatives_considered": random.choice([[], ["another way"]]),
        "confidence": random.choice([0.0, 0.5, 1.0]),
    }
    if form is Review:
        return {"approved": not draft, "recommendations": [mark], **decoration}
    if form is Verdict:
        return {"achieved": not draft, "reason": f"{mark} {random.choice(PROSE)}", "fix_suggestion": "", **decoration}
    if form is Report:
        return {"title": mark, "markdown": f"{mark}\n\n{random.choice(PROSE)}", **decoration}
    if form is Code:
        code = f"# {mark}\n{random.choice(CODE)}"
        return {"filename": "a.py", "explanation": random.choice(PROSE), "modification_summary": "",
                "python_code": code, **decoration}  # fmt: skip
    step = {"title": mark, "agent": "engineer", "instructions": random.choice(PROSE), "bullet_points": [],
            "depends_on": [], "needs_approval": False, "expected_outputs": ["data/*.json"]}  # fmt: skip
    return {"goal": mark, "steps": [step] * random.randint(1, 3), **decoration}


# ---- how an object is written


def plain(random: random.Random, value: dict[str, Any]) -> str:
    return json.dumps(value, indent=random.choice([None, 1, 2]), ensure_ascii=random.choice([True, False]))


def trailing_commas(random: random.Random, value: dict[str, Any]) -> str:
    return json.dumps(value)[:-1] + random.choice([",}", ", \n}", ",\n  // done\n}"])


def commented(random: random.Random, value: dict[str, Any]) -> str:
    return "{ " + random.choice(["// the answer\n", "/* {no} */", "# so\n"]) + json.dumps(value)[1:]


def python_literal(random: random.Random, value: dict[str, Any]) -> str:
    return repr(value)


def bare_names(random: random.Random, value: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {json.dumps(item)}" for name, item in value.items()) + "}"


def line_breaks_in_strings(random: random.Random, value: dict[str, Any]) -> str:
    """Put line breaks and tabs into the strings as they are, as models without a grammar do."""
    out = []
    text = json.dumps(value)
    position = 0
    while position < len(text):
        if text[position] == "\\":
            pair = text[position : position + 2]
            out.append({"\\n": "\n", "\\t": "\t"}.get(pair, pair))
            position += 2
        else:
            out.append(text[position])
            position += 1
    return "".join(out)


def twice(random: random.Random, value: dict[str, Any]) -> str:
    """Write a field twice; the last one counts, as everywhere."""
    name = random.choice(list(value))
    return "{" + f"{json.dumps(name)}: {json.dumps(value[name])}, " + json.dumps(value)[1:]


def not_a_number(random: random.Random, value: dict[str, Any]) -> str:
    return json.dumps({**value, "confidence": random.choice([float("nan"), float("inf")])})


def huge_integer(random: random.Random, value: dict[str, Any]) -> str:
    return json.dumps({**value, "confidence": "@"}).replace('"@"', "9" * random.choice([20, 4301, 6000]))


def extra_fields(random: random.Random, value: dict[str, Any]) -> str:
    return json.dumps({"type": "answer", **value, "mood": {"approved": None, "deep": [1, {"a": 2}]}})


def wrapped(random: random.Random, value: dict[str, Any]) -> str:
    name = random.choice(["Code", "answer", "response", "parameters"])
    return json.dumps({name: value} if random.random() < 0.7 else {"type": "object", "properties": {"x": value}})


def listed(random: random.Random, value: dict[str, Any]) -> str:
    return f"[{json.dumps(value)}]"


def as_a_string(random: random.Random, value: dict[str, Any]) -> str:
    return json.dumps(json.dumps(value))


WRITTEN = [plain, plain, trailing_commas, commented, python_literal, bare_names, line_breaks_in_strings, twice,
           not_a_number, huge_integer, extra_fields, wrapped]  # fmt: skip
#: Ways that stand alone: nothing may be around them.
ALONE = [listed, as_a_string]


# ---- what stands around it

TAGS = [
    ("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<THINK>", "</THINK>"), ("<think time='3'>", "</think>"),
    ("<reasoning>", "</reasoning>"), ("<thought>", "</thought>"), ("<reflection>", "</reflection>"),
    ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷"), ("<seed:think>", "</seed:think>"),
    ("<scratchpad>", "</scratchpad>"), ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"), ("<unused94>thought\n", "<unused95>"),
    ("<|channel>thought\n", "<channel|>"), ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|start|>assistant<|channel|>analysis<|message|>",
     "<|end|>\n<|start|>assistant<|channel|>final <|constrain|>json<|message|>"),
    ("```thinking\n", "\n```\n"), ("analysis", "assistantfinal"),
]  # fmt: skip
THOUGHTS = [
    "First try: @. Wrong units.",
    "Let me see.\n```json\n@\n```\nNo, that is not it: {x} and \\frac{a}{b}.",
    "@",
    'Maybe @ or @? The set {1, 2}, it\'s {"a": hm}.',
    "I should not write <think> here. @",
    "A draft that is cut: @!",
]
BEFORE = ["", "Here it is:\n", "With $\\frac{a}{b}$ and {x}: ", "{" * 3 + "a" + "}" * 3 + " " + "\\mathbf{x} " * 30,
          "Not {\"approved\" or so}, but\n\n", "I've thought about it. It's:\n"]  # fmt: skip
AFTER = ["", "\n", "\nThat is all.", "\n\nThe set {a, b} is $\\{a\\}$.", " <|end|>", "</s>"]


def in_a_fence(random: random.Random, text: str) -> str:
    return f"```{random.choice(['json', 'JSON', '', 'json5'])}\n{text}\n```"


def dressed(random: random.Random, text: str) -> str:
    return random.choice(BEFORE) + text + random.choice(AFTER)


def with_bom(random: random.Random, text: str) -> str:
    return "\ufeff" + text


def in_tags(random: random.Random, text: str) -> str:
    return f"<answer>{text}</answer>"


DRESSES = [in_a_fence, dressed, dressed, with_bom, in_tags]


def thought(random: random.Random, draft: str) -> str:
    text = random.choice(THOUGHTS)
    return text.replace("@!", draft[: len(draft) // 2]).replace("@", draft)


def a_case(seed: int) -> Case:
    """Make the case of a seed."""
    rng = random.Random(seed)
    form = rng.choice([Review, Verdict, Report, Code, Code, PLAN])
    value, draft = a_value(rng, form), a_value(rng, form, draft=True)
    meant: dict[str, Any] | None = value
    names: list[str] = []
    alone = rng.random() < 0.06
    write: Callable[..., str] = rng.choice(ALONE if alone else WRITTEN)
    text = write(rng, value)
    names.append(write.__name__)
    if write in (not_a_number, huge_integer):
        meant = {**value, "confidence": 0.0}
    for dress in [] if alone else rng.sample(DRESSES, rng.randint(0, 2)):
        text = dress(rng, text)
        names.append(dress.__name__)
    told = json.dumps(draft)
    how = rng.random()
    thinks = False
    if how < 0.45:
        opening, closing = rng.choice(TAGS)
        thinking = thought(rng, told)
        if opening == "analysis":
            thinking = f"We see. {thinking}"
        if "<think>" in thinking and "think" not in opening.lower():
            thinking = thinking.replace("<think>", "it")
        if opening.startswith("```"):
            thinking = thinking.replace("\n```", "\n~~~")
        text = f"{opening}{thinking}{closing}{rng.choice(['', chr(10), ' '])}{text}"
        names.append(f"thought in {opening.strip()}")
        thinks = told in thinking
    elif how < 0.55:
        text = f"{thought(rng, told)}\n</think>\n\n{text}"
        names.append("closing tag only")
    elif how < 0.65 and not alone:
        text = f"First {told}. But that is wrong:\n\n{text}"
        names.append("draft in prose")
    elif how < 0.7:
        text = f"{text}<think>{thought(rng, told)}</think>"
        names.append("thought after")
        if alone:
            meant = value
    if rng.random() < 0.12:
        text = text[: rng.randint(0, len(text))]
        names.append("cut")
        meant, thinks = None, False
    return Case(text, meant, form, names, thinks)


def undoubled(text: str) -> str:
    """Write JSON as a model does that forgets to double its backslashes."""
    return text.replace("\\\\", "\\")
