"""The starter skills: what it costs that they are there, and whether each survives being given to somebody else.

``sharing.travelled`` is the share of the six that were exported, imported into another workspace, refused to run, were
trusted, verified there and ran with other values than their defaults, in the three formats in turn.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from cmbagent_nb.errors import SkillUntrusted
from cmbagent_nb.skills.handle import Skill
from cmbagent_nb.workspace import Workspace
from tests.benchmarks.measure import ROUNDS, Figure, environment, folder, median, now
from tests.held import verify_again
from tests.make_starter import RECIPES
from tests.test_starter import VARIED

FORMATS = ("folder", "json", "zip")


def installed() -> Iterator[Figure]:
    """Measure the first look at an empty library, and a look at one that has them."""
    spent, processor, looks = [], [], []
    for _ in range(ROUNDS):
        with folder() as place, environment(place):
            workspace = Workspace(place / "home")
            workspace._core.writer.barrier().result()
            began, used = now(), time.process_time()
            new = workspace.skills.install_starter()
            spent.append(now() - began)
            processor.append(time.process_time() - used)
            assert len(new) == len(RECIPES)
            began = now()
            for _ in range(100):
                workspace.skills.install_starter()
            looks.append((now() - began) / 100)
            workspace.close()
    yield Figure("starter.install", median(spent) * 1e3, "ms", 100, more={"processor_ms": median(processor) * 1e3})
    yield Figure("starter.look", median(looks) * 1e3, "ms", 1)


def travelled() -> Iterator[Figure]:
    """Give each starter skill to another workspace and run it there."""
    arrived, seconds = [], []
    with folder() as place, environment(place):
        here = Workspace(place / "here")
        here.skills.install_starter()
        for number, name in enumerate(RECIPES):
            form = FORMATS[number % len(FORMATS)]
            there = Workspace(place / f"there-{number}")
            began = now()
            if _travels(here.skills.get(name), there, place / "out", form):
                arrived.append(name)
            seconds.append(now() - began)
            there.close()
        here.close()
    lost = sorted(set(RECIPES) - set(arrived))
    share = len(arrived) / len(RECIPES)
    yield Figure("sharing.travelled", share, "share", 1.0, at_least=True, more={"skills": len(RECIPES), "lost": lost})
    yield Figure("sharing.travel", median(seconds), "s")


def _travels(skill: Skill, there: Workspace, out: Path, form: str) -> bool:
    taken = there.skills.import_(skill.export(out, form))
    try:
        taken.run()
    except SkillUntrusted:
        taken = verify_again(taken.trust())
        return taken.verified and taken.run(**VARIED[skill.name][0]).success
    return False  # it ran before anybody trusted it
