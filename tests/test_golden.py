"""Presets give what the frameworks' own functions gave (tests/golden/*.json), with no framework installed."""

import copy

import numpy as np
import pytest
from conftest import library
from golden.common import HERE, TOLERANCE, advantages_of, assert_close, batch_of, read, values_of
from golden.derive import drift

import advantage_zoo as az
from advantage_zoo.testing import INVARIANTS, check_law

GOLDEN = {path.stem: read(path) for path in sorted(HERE.glob("*.json"))}
CASES = [
    pytest.param(case, id=f"{case['preset']}-{case['about']}-{number}")
    for golden in GOLDEN.values()
    for number, case in enumerate(golden["cases"])
]


@pytest.mark.parametrize("case", CASES)
def test_the_preset_gives_what_the_framework_gave(case):
    got = values_of(case["preset"], batch_of(case), **case["params"])
    assert_close(got, advantages_of(case), TOLERANCE, f"{case['function']}, {case['source']}, {case['about']}")


@pytest.mark.parametrize("preset", [name for name in az.presets() if not name.endswith("@literal")])
def test_every_preset_has_golden_vectors(preset):
    framework = preset.partition("@")[2]
    assert preset in {case["preset"] for golden in GOLDEN.values() for case in golden["cases"]}, framework


# Float32 keeps the others only up to its rounding.
@pytest.mark.parametrize(
    ("law", "name", "examples"), [("MASKED_BLIND", "numpy", 5), ("FINITE", "numpy", 5), ("NO_SYNC", "torch", 1)]
)
@pytest.mark.parametrize("preset", az.presets())
def test_presets_keep_what_does_not_depend_on_rounding(preset, law, name, examples):
    check_law(INVARIANTS[law], az.estimator(preset)(), library(name), examples=examples)


@pytest.mark.parametrize("framework", GOLDEN)
def test_drift_is_noticed(framework):
    old = GOLDEN[framework]
    assert drift(old, old) == []
    assert "version" in drift(old, old | {"version": "0"})[0]
    assert "cases" in drift(old, old | {"cases": old["cases"][1:]})[0]
    other = copy.deepcopy(old)
    row = np.argmax(np.abs(advantages_of(other["cases"][0])).max(1))
    other["cases"][0]["advantages"][row][0] += 1e-4
    other["cases"][1]["source"] = "elsewhere:1"
    assert len(drift(old, other)) == 2
