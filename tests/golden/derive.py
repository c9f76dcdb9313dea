"""`python tests/golden/derive.py FRAMEWORK [--check]` writes golden vectors by calling the framework's own functions.

To be run in the framework's environment; ``--check`` writes nothing and fails where version, calls, batches or values
have changed. The calls stand in ``calls_FRAMEWORK.py``.
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from golden.common import TOLERANCE, advantages_of, assert_close, derive_case, path_of, read, small_batches, write


def derive(framework: str) -> dict[str, Any]:
    """All cases of a framework: each of its calls on each batch that it takes."""
    calls = importlib.import_module(f"golden.calls_{framework}")
    cases = [
        derive_case(label, call, about, batch)
        for label, call in calls.CALLS.items()
        for about, batch in {**small_batches(), **getattr(calls, "BATCHES", {})}.items()
        if call.accepts(batch)
    ]
    return {"framework": framework, "version": calls.VERSION, "cases": cases}


def drift(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs, a sentence each."""
    if old["version"] != new["version"]:
        return [f"The vectors are of version {old['version']}, installed is {new['version']}."]
    if len(old["cases"]) != len(new["cases"]):
        return [f"There are {len(old['cases'])} cases on file, {len(new['cases'])} were derived."]
    found: list[str] = []
    for number, (one, two) in enumerate(zip(old["cases"], new["cases"], strict=True)):
        what = f"Case {number}, {one['preset']} on {one['about']}"
        found += [f"{what}: {key} differs." for key in one if key != "advantages" and one[key] != two.get(key)]
        before, after = advantages_of(one), advantages_of(two)
        if not np.array_equal(np.isnan(before), np.isnan(after)):
            found.append(f"{what}: NaN stands elsewhere.")
        try:
            assert_close(np.nan_to_num(after), before, TOLERANCE, what)
        except AssertionError as error:
            found.append(f"{what}: {error}")
    return found


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework")
    parser.add_argument("--check", action="store_true", help="write nothing; fail on drift")
    arguments = parser.parse_args()
    golden, path = derive(arguments.framework), path_of(arguments.framework)
    if not arguments.check:
        write(golden, path)
        print(f"Wrote {len(golden['cases'])} cases to {path}.")
        return
    found = drift(read(path), golden)
    if found:
        sys.exit("\n".join([*found, f"Run {Path(__file__).name} {arguments.framework} and look at what it changes."]))
    print(f"{len(golden['cases'])} cases of {arguments.framework} {golden['version']} are as on file.")


if __name__ == "__main__":
    main()
