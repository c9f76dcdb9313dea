"""Every law on every estimator and library, and every law's check on an estimator that breaks it."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
from conftest import library

import advantage_zoo as az
from advantage_zoo.estimators import GRPO
from advantage_zoo.testing import BROKEN, INVARIANTS, check, check_estimator, check_law, conformance_test, tolerances
from advantage_zoo.testing.broken import broken, raw
from advantage_zoo.testing.invariants import laws_of

OURS = tuple(name for name in az.names() if ":" not in name)
CASES = [(name, law.id) for name in OURS for law in laws_of(az.estimator(name).claims)]
EXAMPLES = {"numpy": 30, "readonly": 5, "torch": 10, "strict": 5, "jax": 1}


@pytest.mark.parametrize(("name", "law"), CASES)
def test_the_law_holds(xp, name, law):
    check_law(INVARIANTS[law], az.estimator(name)(), xp, examples=EXAMPLES[xp.name])


def variants():
    """Instances whose parameters reach other branches; what they break of their class's claims is left out."""
    yield "grpo", GRPO(ddof=0, eps=0.0)
    yield "grpo", GRPO(singleton="raw")
    yield "ep_grpo", az.estimators.EPGRPO(gate_scope="sequence", bucket_norm="scale", progress_anchor="advantage")
    yield "ep_grpo", az.estimators.EPGRPO(gate_mean_one=True, gate_progress=False, progress_floor=0.0)
    yield "ep_grpo", az.estimators.EPGRPO(progress_anchor="none", num_buckets=1, eps=0.0)


@pytest.mark.parametrize("law", [law.id for law in INVARIANTS.values() if law.always])
def test_the_law_holds_for_other_parameters(law):
    for _, instance in variants():
        check_law(INVARIANTS[law], instance, library("numpy"), examples=15)


@pytest.mark.parametrize("law", INVARIANTS)
def test_the_check_catches_what_breaks_the_law(law):
    for case in BROKEN[law]:
        with pytest.raises(AssertionError, match=f"breaks {law} on {case.library}(?s:.*){law}: "):
            check_law(INVARIANTS[law], case.estimator, library(case.library), examples=40, compute=case.compute)


def test_every_law_has_a_name_a_sentence_and_a_source():
    for law in INVARIANTS.values():
        assert law.id == law.id.upper()
        assert law.law.endswith(".")
        assert law.source


def test_check_estimator_takes_a_name_or_a_class(monkeypatch):
    monkeypatch.setitem(check.EXAMPLES, "numpy", 5)
    check_estimator("grpo", backends=["numpy"])
    with pytest.raises(AssertionError, match=r"breaks PERMUTATION on numpy(?s:.*)Smallest batch(?s:.*)rLLM#605"):
        check_estimator(type(BROKEN["PERMUTATION"][0].estimator), backends=["numpy"])


def test_a_false_claim_is_caught():
    cls = type(broken(raw))
    cls.claims = frozenset({"SHIFT"})
    with pytest.raises(AssertionError, match="breaks SHIFT"):
        check_estimator(cls, backends=["numpy"])


def test_an_unknown_claim_is_named():
    @dataclass(frozen=True)
    class Boaster(GRPO):
        claims = frozenset({"ALWAYS_RIGHT"})

    with pytest.raises(LookupError, match="grpo claims ALWAYS_RIGHT"):
        check_estimator(Boaster)


def test_a_batch_of_one_shape_is_what_fails_in_the_message():
    with pytest.raises(AssertionError) as caught:
        check_law(INVARIANTS["SHIFT"], broken(raw), library("numpy"))
    assert "response_mask=array([[ True]])" in str(caught.value)  # shrunk to one token


def test_hypothesis_comes_with_the_testing_package_only():
    code = "import sys, advantage_zoo; assert 'hypothesis' not in sys.modules; import advantage_zoo.testing"
    subprocess.run([sys.executable, "-c", code], check=True)


test_conformance_of_a_spelling = conformance_test("grpo | clip(-1, 1)", backends=["readonly"])


def test_a_conformance_test_has_one_case_for_each_law_and_library():
    made = conformance_test(GRPO, backends=["numpy", "readonly"])
    ids = [case.id for mark in made.pytestmark for case in mark.args[1]]
    laws = [law.id for law in laws_of(GRPO.claims)]
    assert ids == [f"{law}-{name}" for name in ("numpy", "readonly") for law in laws]
    wrong = conformance_test(BROKEN["SHIFT"][0].estimator, backends=["numpy"])
    with pytest.raises(AssertionError, match="breaks SHIFT"):
        wrong(INVARIANTS["SHIFT"], "numpy")


def test_there_is_something_broken_for_every_law_and_a_tolerance_for_none_that_is_unknown():
    assert set(BROKEN) == set(INVARIANTS)
    assert set(tolerances.LAWS) <= set(INVARIANTS)
