r"""Knows LaTeX's commands that begin like an escape of JSON, and what in a text is mathematics.

``\nu`` in a JSON string is a line break and the letter "u" to a parser. A command of ``CERTAIN`` leaves a rest that
no line and no column begins with ("heta" of ``\theta``); one of ``POSSIBLE`` leaves a rest that may be a word or a
name ("u" of ``\nu``), so that what is around it decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

CERTAIN = frozenset(
    """
    nabla natural nearrow nwarrow neswarrow newline newcommand newpage newenvironment newtheorem newlength nicefrac
    nleftarrow nLeftarrow nleftrightarrow nobreak nobreakspace nocite noindent nolimits nonumber nonfrenchspacing norm
    normalfont normalsize notag notin nparallel nprec npreceq nRightarrow nrightarrow nsubseteq nsubset nsucc nsucceq
    nsupseteq ntriangleleft ntriangleright numberline nvdash nvDash
    tableofcontents tabularnewline tanh tbinom tensor textasciitilde textbackslash textbf textcite textcolor textdegree
    textit textmd textmu textnormal textrm textsc textsf textsl textstyle textsubscript textsuperscript texttt textup
    textwidth tfrac thanks theta thetaup thickapprox thicksim thickspace thinspace therefore thispagestyle tilde times
    tiny title toprule triangle triangledown triangleleft trianglelefteq triangleq triangleright twoheadrightarrow
    twocolumn twoheadleftarrow theequation textheight tauup
    """.split()  # noqa: SIM905 - a list of quoted words cannot be read
)
POSSIBLE = frozenset(
    """
    ncong ne neg neq nexists ngeq ngtr ni nleq nless nmid node not nsim nu num nup
    tag tan tau text to top tr trace tt
    """.split()  # noqa: SIM905 - a list of quoted words cannot be read
)
#: Those whose rest is a word that a line may begin with.
WORDS = frozenset(
    {"neg", "nexists", "nless", "nmid", "node", "not", "num", "nup", "tag", "tan", "text", "top", "trace"}
)
#: Commands that begin like the other escapes: a carriage return, a form feed, a backspace.
OTHERS = frozenset(
    """
    raggedright raisebox rangle ratio rbrace rbrack rceil ref reals renewcommand resizebox restriction rfloor rho right
    rightarrow rightarrowtail rightharpoondown rightharpoonup rightleftharpoons rightmargin risingdotseq rlap rm
    rmfamily root rotatebox roman row rule rvert rVert rtimes rgroup rsub
    """.split()  # noqa: SIM905 - a list of quoted words cannot be read
)

_DISPLAY = re.compile(
    r"\$\$.{1,4000}?\$\$|\\{1,2}\[.{1,2000}?\\{1,2}\]|"
    r"\\{1,2}begin\{(?P<name>equation|align|aligned|gather|gathered|multline|eqnarray|cases|split|array|[pbvVB]?matrix)"
    r"(?P<star>\*?)\}.{1,2000}?\\{1,2}end\{(?P=name)(?P=star)\}",
    re.DOTALL,
)
_INLINE = re.compile(
    r"(?<![\\$])\$(?![\s$])(?:[^$\\]|\\.){1,1000}?(?<!\s)\$(?![\d$])|\\{1,2}\(.{1,500}?\\{1,2}\)", re.DOTALL
)


def mathematics(raw: str) -> Iterator[tuple[int, int, bool]]:
    """Find the formulas in a string that is still raw: where each begins and ends, and whether it is set apart.

    >>> list(mathematics("a $5 and $x$, $$y$$"))
    [(14, 19, True), (9, 12, False)]
    """
    if "$" not in raw and "\\" not in raw:
        return
    displays = [match.span() for match in _DISPLAY.finditer(raw)]
    yield from ((start, end, True) for start, end in displays)
    for match in _INLINE.finditer(raw):
        if not any(start < match.end() and match.start() < end for start, end in displays):
            yield match.start(), match.end(), False
