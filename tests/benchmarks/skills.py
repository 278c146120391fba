"""Skills: do they run with other parameters and inputs, how fast against the run they came from, and over a grid.

What the comparison of speed compares, said plainly: the planned run's model replies come from a playbook, at once. Its
time is therefore measured without any model, and ``model_seconds`` is added to it, which is not measured but reckoned:
:data:`FIRST_TOKEN` seconds for each call and its reply at :data:`TOKENS_A_SECOND`. Without that part a skill is about
as fast as its run, since both run the same code; that ratio is reported beside it and has no bar.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from cmbagent_nb.skills.handle import Skill
from cmbagent_nb.workspace import Workspace
from tests.benchmarks.measure import Figure, environment, folder, median, now, rounds

#: How fast a model is reckoned to answer: seconds to its first token, tokens a second, characters a token.
FIRST_TOKEN, TOKENS_A_SECOND, TOKEN = 1.0, 60.0, 3.5
#: Demonstrations, with the mode in which they are run.
DEMONSTRATIONS = ("mauna-loa", "hz-chronometers", "planck-desi")


def skills_run() -> Iterator[Figure]:
    """Every starter skill with each of its parameters changed, and with a new input of the same schema."""
    with folder() as home, environment(home):
        workspace = Workspace(home / "home")
        workspace.skills.install_starter()
        found: list[dict[str, Any]] = []
        for skill in _starters(workspace):
            for values in _variations(skill, home):
                run = workspace.run_skill(skill, values, approve="").wait(300)
                row = workspace._core.db.rows("SELECT meta FROM skill_executions WHERE run_id = :id", id=run.id)
                calls = len(run.events().query("event_type == 'model_call'"))
                found.append(
                    {
                        "skill": skill.name,
                        "values": {name: str(value)[:60] for name, value in values.items()},
                        "ok": run.status == "completed" and len(row) == 1,
                        "error": run.error,
                        "calls": calls,
                    }
                )
        workspace.close()
    share = sum(item["ok"] for item in found) / len(found) * 100
    failed = [f"{item['skill']} {item['values']}: {item['error']}"[:200] for item in found if not item["ok"]]
    more = {"runs": len(found), "skills": len({item["skill"] for item in found}), "failed": failed}
    yield Figure("skills.run_with_changes", share, "% succeed", 95.0, at_least=True, more=more)
    yield Figure("skills.model_calls", float(sum(item["calls"] for item in found)), "calls", 0.0, more=more)


def _starters(workspace: Workspace) -> list[Skill]:
    frame = workspace.skills.list()
    return [workspace.skills.get(name) for name in frame[frame["status"] == "active"]["name"].unique()]


def _variations(skill: Skill, home: Path) -> Iterator[dict[str, Any]]:
    """Change one parameter after the other within what its kind allows, then give nine tenths of the input's rows."""
    for item in skill.parameters:
        if item.kind == "value" and item.choices:
            others = [choice for choice in item.choices if choice != item.default]
            if others:
                yield {item.name: others[0]}
        elif item.kind == "value" and item.type == "int":
            yield {item.name: max(1, item.default - max(1, abs(item.default) // 10))}
        elif item.kind == "value" and item.type == "float":
            yield {item.name: item.default * 0.98}
        elif item.kind == "input":
            path = skill.info.assets / item.default
            if path.suffix == ".parquet" and path.is_file():
                frame = pd.read_parquet(path)
                yield {item.name: frame.iloc[: max(1, len(frame) * 9 // 10)].reset_index(drop=True)}
        elif item.kind == "output":
            pure = Path(item.default)
            yield {item.name: pure.with_name(f"{pure.stem}_again{pure.suffix}").as_posix()}


def skills_speed() -> Iterator[Figure]:
    """The demonstrations: the planned run, the skill made of it as a run, and as a notebook; medians of three."""
    from importlib import import_module

    from cmbagent_nb.llm.playbook import Playbook

    with folder() as home, environment(home):
        workspace = Workspace(home / "home")
        for name in DEMONSTRATIONS:
            playbook = Playbook.load(name)
            module, _, function = playbook.inputs["df"].partition(":")
            inputs = {"df": getattr(import_module(module), function)()}
            options: dict[str, Any] = {"model": f"playbook:{name}", "mode": playbook.mode, "inputs": inputs}
            run = workspace.start(playbook.task, **options).wait(300)
            skill = run.extract_skill(name.replace("-", "_"), liveness_s=0)
            assert run.status == "completed" and skill.status == "active", (run.error, skill.info.verification)
            wall, cpu = _compared(workspace, playbook.task, options, skill)
            texts = [str(reply.text or reply.calls) for reply in playbook.replies.values()]
            model = sum(FIRST_TOKEN + len(text) / TOKEN / TOKENS_A_SECOND for text in texts)
            names = ("planned_without_model", "skill_as_run", "skill_as_notebook")
            more: dict[str, Any] = {"model_calls": len(texts), "model_seconds": model}
            more["reckoned"] = f"{FIRST_TOKEN} s a call, {TOKENS_A_SECOND:g} tokens a second"
            more["seconds"] = {key: round(value, 2) for key, value in zip(names, wall, strict=True)}
            more["processor_seconds"] = {key: round(value, 2) for key, value in zip(names, cpu, strict=True)}
            yield Figure(f"skills.faster.{name}", (wall[0] + model) / wall[1], "×", 10.0, at_least=True, more=more)
            # on a busy machine both computations take longer, and the model, which is elsewhere, does not
            yield Figure(f"skills.faster_by_processor_time.{name}", (cpu[0] + model) / cpu[1], "×", more=more)
            yield Figure(f"skills.faster_without_model.{name}", wall[0] / wall[1], "×", more=more)
        workspace.close()


def _compared(
    workspace: Workspace, task: str, options: dict[str, Any], skill: Skill
) -> tuple[list[float], list[float]]:
    """Return the seconds of the planned run, the skill as a run and as a notebook: by the clock, of the processor."""

    def planned() -> None:
        assert workspace.start(task, **options).wait(300).status == "completed"

    def as_run() -> None:
        done = workspace.run_skill(skill, approve="").wait(300)
        assert done.status == "completed" and done.cost_usd == 0.0, done.error

    def as_notebook() -> None:
        assert skill.run().success

    found = rounds(*(lambda work=work: _times(work) for work in (planned, as_run, as_notebook)), repeats=3)
    return tuple([median([times[place][kind] for times in found]) for place in range(3)] for kind in (0, 1))  # type: ignore[return-value]


def _times(work: Callable[[], None]) -> tuple[float, float]:
    """Return seconds by the clock, and of the processor: this process's and its children's."""
    begun, before = now(), os.times()
    work()
    after = os.times()
    return now() - begun, sum(after[:4]) - sum(before[:4])


def skills_sweep() -> Iterator[Figure]:
    """A grid of eight on one kernel at a time, and on as many as there are processors."""
    with folder() as home, environment(home):
        workspace = Workspace(home / "home")
        workspace.skills.install_starter()
        skill = workspace.skills.get("table-exploration")
        value = next(item for item in skill.parameters if item.kind == "value" and item.type in ("int", "float"))
        step = 1 if value.type == "int" else value.default / 100
        grid = {value.name: [value.default + step * number for number in range(8)]}
        times = []
        for parallel in (1, os.cpu_count() or 1):
            begun = now()
            frame = skill.sweep(grid, parallel=parallel)
            times.append(now() - begun)
            assert (frame["status"] == "completed").all(), frame["error"].tolist()
        workspace.close()
    more = {"skill": skill.name, "parameter": value.name, "one_by_one": times[0], "parallel": times[1]}
    yield Figure("skills.sweep_speedup", times[0] / times[1], "×", more=more | {"processors": os.cpu_count()})


def skills_starter_sweep() -> Iterator[Figure]:
    """Sweep 8 values of ``hz-fit``, as a part of the time of papermill's own API one after the other."""
    import shutil

    from papermill import execute_notebook

    from cmbagent_nb.workspace import Workspace

    values = [1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 1.9, 2.0]
    with folder() as home, environment(home):
        workspace = Workspace(home / "workspace")
        skill = workspace.skills.get("hz-fit")

        def ours() -> float:
            begun = now()
            frame = skill.sweep(Z_MAX=values)
            if set(frame["status"]) != {"completed"}:
                raise RuntimeError(f"the sweep ended as {sorted(frame['status'])}")
            return now() - begun

        def papermill() -> float:
            begun = now()
            for number, value in enumerate(values):
                place = home / f"papermill-{now()}-{number}"
                shutil.copytree(skill.info.assets, place)
                for name in ("data", "plots"):
                    (place / name).mkdir(exist_ok=True)
                execute_notebook(
                    str(skill.notebook), str(place / "out.ipynb"), {"Z_MAX": value}, cwd=place, progress_bar=False
                )
            return now() - begun

        found = rounds(ours, papermill, repeats=1)
        workspace.close()
    more = {"seconds": median([item[0] for item in found]), "papermill_s": median([item[1] for item in found])}
    yield Figure("skills.starter_sweep", median([a / b for a, b in found]), "of papermill's time", 0.38, more=more)
