"""One process of a run: `python -m tests.benchmarks._worker`, told by a line of JSON what it is to be."""

from __future__ import annotations

import json
import os
from importlib import import_module

from ._crowd import raise_descriptor_limit
from ._libraries import load
from ._run import Control, Run
from ._scenario import Scenario


def main() -> None:
    control = Control()
    job = json.loads(control.wait_line())
    if job["core"] is not None:
        # Before the library is imported: its threads inherit the choice.
        os.sched_setaffinity(0, {job["core"]})
    raise_descriptor_limit()
    scenario = Scenario(**job["scenario"])
    library = load(job["library"])
    for name, value in scenario.settings:
        _set(name, value)
    endpoint = job["endpoint"]
    if endpoint is None:
        control.tell("loaded")
        endpoint = json.loads(control.wait_line())["endpoint"]
    run = Run(scenario, endpoint, control)
    library.launch(getattr(library, job["role"]), run)
    control.tell("result", **run.result())


def _set(name: str, value: float) -> None:
    module, _, attribute = name.partition(":")
    target = import_module(module)
    # A setting that has moved must not be measured as one that makes no difference.
    if not hasattr(target, attribute):
        raise AttributeError(f"{module} has no {attribute} that could be changed")
    setattr(target, attribute, value)


if __name__ == "__main__":
    main()
