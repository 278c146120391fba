r"""Sets a model's reasoning apart from what it answers.

========================================  ====================================================================
``<think>…</think>`` and its like         tags of many names, in angle, square and other brackets, as special tokens
``<|channel|>analysis<|message|>…``       channels; what is in the final one is the answer
an opening tag at the beginning, no       the reply has no answer
closing one
a closing tag only                        all before it is reasoning: the opening one was in the prompt
a tag within an object, a code span or    is what the model writes about, and stays
a fence of an answer
========================================  ====================================================================

>>> split_reasoning('<think>{"a": 1}? No.</think>\n{"a": "<think>"}')
('{"a": "<think>"}', '{"a": 1}? No.')
>>> split_reasoning("hm, yes.\n</think>\nYes.")
('Yes.', 'hm, yes.')
"""

from __future__ import annotations

import re

from cmbagent_nb.llm.reading.lenient import Effort, NotJSON, read_value

_SURE = r"think|thinking|thought|thoughts|reasoning|antthinking|seed:think|inner_?monologue|chain_of_thought"
_BRACKETS = "THINK|THINKING|REASONING|think|thinking"
_OTHER = (
    r"analysis|reflections?|scratch_?pad|deliberation|reason|rationale|cot|planning|critique|brainstorm(?:ing)?"
    r"|(?:internal|inner|thought|thinking|reasoning)[_-]?(?:process|thoughts?|monologue|reasoning)|chain-of-thought"
)
_HEADER = r"(?:<\|start\|>\s*\w*)?<\|channel\|>\s*{name}\b[^<]{{0,80}}(?:<\|constrain\|>\s*\w+\s*)?<\|message\|>"

#: Each way of writing reasoning: how it opens, how it closes, and whether it may stand within a text that is no JSON.
_WAYS: tuple[tuple[str, str, bool], ...] = (
    (rf"<\|?(?:{_SURE})(?:\s[^<>]{{0,200}})?\|?>", rf"<\|?/(?:{_SURE})\s*\|?>", True),
    (rf"<\|?(?:{_OTHER})(?:\s[^<>]{{0,200}})?\|?>", rf"<\|?/(?:{_OTHER})\s*\|?>", False),
    (rf"\[(?:{_BRACKETS})\](?!\()", rf"\[/(?:{_BRACKETS})\]", True),
    (r"◁(?:think|thinking)▷", r"◁/(?:think|thinking)▷", True),
    (r"<\|(?:begin_of_|start_|START_)(?:thought|thinking|reasoning|THINKING)\|>",
     r"<\|(?:end_of_|end_|END_)(?:thought|thinking|reasoning|THINKING)\|>", True),
    (r"<unused94>", r"<unused95>", True),
    (r"<\|channel>\s*(?:thought|analysis)\b", r"<channel\|>", True),
    (_HEADER.format(name=r"(?!final)\w+"),
     rf"{_HEADER.format(name='final')}|<\|end\|>(?:\s*<\|start\|>\s*assistant(?=\s*(?!<\|)))?", True),
    (r"<details\s[^<>]{0,200}reasoning[^<>]{0,200}>", r"</details>", False),
    (r"```(?:thinking|think|thoughts?|reasoning)[ \t]*\n", r"\n[ \t]*```", False),
)  # fmt: skip
#: A header of the final channel closes what is before it, however that began.
_FINAL = _HEADER.format(name="final")
_OPENS = [re.compile(opens, re.IGNORECASE if index < 2 else 0) for index, (opens, _, _) in enumerate(_WAYS)]
_CLOSES = [re.compile(closes, re.IGNORECASE if index < 2 else 0) for index, (_, closes, _) in enumerate(_WAYS)]
#: A leak of channels whose special tokens were dropped: "analysisWe need … assistantfinalYes."
_LEAK = re.compile(r"\A\s*analysis(?=[A-Z\s\"'])(.*?)assistant(?:commentary.*?assistant)?\s*final", re.DOTALL)
_OBJECT = r"\{(?=\s*(?:[\"'}]|[A-Za-z_$][\w$]*\s*:|//|/\*|#))"
_DRAFT = re.compile(_OBJECT)
_FENCE = re.compile(r"```[^\n]*\n.*?\n[ \t]*```", re.DOTALL)
_SPAN = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_STOPS = re.compile(
    r"(?:\s*(?:<\|(?:return|end|call|im_end|endoftext|eot_id|end_of_text|END_RESPONSE|end_of_solution)\|>"
    r"|</s>|<eos>|<end_of_turn>|<｜end▁of▁sentence｜>))+\s*\Z"
)
_STARTS = re.compile(r"\A\s*(?:<\|(?:START_RESPONSE|begin_of_solution)\|>|<\|start\|>\s*assistant)")
_ANSWER = re.compile(r"\A\s*<(answer|response|final_answer)>(.*)</\1>\s*\Z", re.DOTALL | re.IGNORECASE)
_ANY = re.compile(
    "|".join(
        [
            *(f"(?P<open{index}>(?i:{opens}))" for index, (opens, _, _) in enumerate(_WAYS)),
            *(f"(?P<close{index}>(?i:{closes}))" for index, (_, closes, _) in enumerate(_WAYS[:7])),
            f"(?P<final>{_FINAL})",
            f"(?P<object>{_OBJECT})",
            r"(?P<string>\"\s*\{\s*\\+\")",
            "(?P<code>`)",
        ]
    ),
    re.DOTALL,
)


def split_reasoning(text: str, *, structured: bool = True) -> tuple[str, str]:
    """Return what a reply answers, and the reasoning before it, between it and after it.

    ``structured`` tells that the answer is an object; else it is a text, in which fences and code spans are the
    model's own.
    """
    if (leak := _LEAK.match(text)) is not None:
        return text[leak.end() :].strip(), leak[1].strip()
    if not any(mark in text for mark in ("<", "[", "◁", "```th", "```re")):
        return text, ""
    parts = _Parts(text, structured=structured)
    parts.split()
    if not parts.thoughts and parts.answers == [text]:
        answer = text if structured else _bare(text)
    else:
        answer = _bare("".join(parts.answers).strip())
    return answer, "\n\n".join(thought for thought in parts.thoughts if thought)


def _bare(text: str) -> str:
    """Take off what stands around an answer: tokens that end a reply, a tag that names it."""
    text = _STARTS.sub("", _STOPS.sub("", text))
    match = _ANSWER.match(text)
    return match[2].strip() if match else text


class _Parts:
    """The parts of one reply."""

    def __init__(self, text: str, *, structured: bool) -> None:
        self.text = text
        self.structured = structured
        self.answers: list[str] = []
        self.thoughts: list[str] = []
        self.nested = False
        self.effort = Effort(text)
        self.last_closing: dict[int, int] = {}

    def split(self) -> None:
        position = kept = 0
        while (found := _ANY.search(self.text, position)) is not None:
            name = found.lastgroup or ""
            if name in ("object", "string"):
                position = self._past_object(found.start())
            elif name == "code":
                position = self._past_code(found.start())
            elif name.startswith("open"):
                way = int(name.removeprefix("open"))
                leading = not self.text[: found.start()].strip(" \ufeff\n\t\r")
                if not (leading or self.structured or _WAYS[way][2]):
                    position = found.end()
                    continue
                closed = self._closing(way, found.end())
                if closed is None and not (leading or self.structured):
                    position = found.end()
                    continue
                self.answers.append(self.text[kept : found.start()])
                end = closed.start() if closed else len(self.text)
                self.thoughts.append(self.text[found.end() : end].strip())
                self.nested = self.nested or _OPENS[way].search(self.text, found.end(), end) is not None
                position = kept = closed.end() if closed else len(self.text)
            else:
                position = found.end()
                if self._is_end(found, kept):
                    self.thoughts.append("".join([*self.answers, self.text[kept : found.start()]]).strip())
                    self.answers = []
                    kept = found.end()
        self.answers.append(self.text[kept:])

    def _closing(self, way: int, start: int) -> re.Match[str] | None:
        """Find what closes reasoning: not what stands in the strings of a draft, if there is anything else."""
        if way not in self.last_closing:
            ends = [match.start() for match in _CLOSES[way].finditer(self.text)]
            self.last_closing[way] = ends[-1] if ends else -1
        if self.last_closing[way] < start:
            return None
        first = _CLOSES[way].search(self.text, start)
        position = start
        while first is not None:
            found = _CLOSES[way].search(self.text, position)
            if found is None:
                break
            draft = _DRAFT.search(self.text, position, found.start())
            if draft is None:
                return found
            position = max(self._past_object(draft.start()), draft.end())
        return first

    def _is_end(self, found: re.Match[str], kept: int) -> bool:
        """Tell whether a closing tag without an opening one ends the reasoning."""
        way = found.lastgroup or ""
        if way == "final":
            return True
        if not (self.structured or _WAYS[int(way.removeprefix("close"))][2]):
            return False
        if self.thoughts and not _STOPS.sub("", self.text[found.end() :]).strip():
            return False  # closed twice: what is before it is the answer
        return self.structured or self.nested or not self.thoughts

    def _past_object(self, start: int) -> int:
        """Return where an object ends, or a string that holds one: tags in their strings do not count."""
        if self.effort.left > 0:
            try:
                return read_value(self.text, start)[1]
            except NotJSON as error:
                self.effort.spend(error, start)
        return start + 1

    def _past_code(self, start: int) -> int:
        if not self.structured:
            for pattern in (_FENCE, _SPAN):
                if (match := pattern.match(self.text, start)) is not None:
                    return match.end()
        while self.text.startswith("`", start):
            start += 1
        return start
