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
    yield "ep_grpo", az.estimators.EPGRPO(progress_coordinate="position", progress_groups="zero_variance")


@pytest.mark.parametrize("law", [law.id for law in INVARIANTS.values() if law.always])
def test_the_law_holds_for_other_parameters(law):
    for _, instance in variants():
        check_law(INVARIANTS[law], instance, library("numpy"), examples=15)


@pytest.mark.parametrize("law", INVARIANTS)
def test_the_check_catches_what_breaks_the_law(law):
    for case in BROKEN[law]:
        with pytest.raises(AssertionError, match=f"breaks {law} on {case.backend}(?s:.*){law}: "):
            check_law(INVARIANTS[law], case.estimator, library(case.backend), examples=40, compute=case.compute)


def test_every_law_has_a_name_a_sentence_and_a_source():
    for law in INVARIANTS.values():
        assert law.id == law.id.upper()
        assert law.law.endswith(".")
        assert law.source


def test_check_estimator_takes_a_name_or_a_class(monkeypatch):
    monkeypatch.setitem(check.EXAMPLES, "numpy", 5)
    check_estimator("grpo", backends=["numpy"])
    with pytest.raises(AssertionError, match=r"breaks PERMUTATION on numpy(?s:.*)Smallest batch(?s:.*)rllm#605"):
        check_estimator(type(BROKEN["PERMUTATION"][0].estimator), backends=["numpy"])


def test_a_false_claim_is_caught():
    cls = type(broken(raw))
    cls.claims = frozenset({"SHIFT"})
    with pytest.raises(AssertionError, match="breaks SHIFT"):
        check_estimator(cls, backends=["numpy"])


def test_an_unknown_claim_is_named():
    @dataclass(frozen=True)
    class Boaster(GRPO):
        name = "boaster"
        claims = frozenset({"ALWAYS_RIGHT"})

    with pytest.raises(LookupError, match="boaster claims ALWAYS_RIGHT"):
        check_estimator(Boaster)


def test_a_batch_of_one_shape_is_what_fails_in_the_message():
    with pytest.raises(AssertionError) as caught:
        check_law(INVARIANTS["SHIFT"], broken(raw), library("numpy"))
    assert "response_mask=array([[ True]])" in str(caught.value)  # shrunk to one token
    assert "logprobs" not in str(caught.value)


def test_hypothesis_comes_with_the_testing_package_only():
    code = "import sys, advantage_zoo; assert 'hypothesis' not in sys.modules; import advantage_zoo.testing"
    subprocess.run([sys.executable, "-c", code], check=True)


def estimator_of(function, needs=(), claims=(), tokens=False):
    cls = type(broken(function, needs, tokens=tokens))
    cls.name = "mine"
    cls.claims = frozenset(claims)
    return cls


def message_of(cls, *backends, **options):
    with pytest.raises(AssertionError) as caught:
        check_estimator(cls, backends=backends or ["numpy"], **options)
    return str(caught.value)


def test_an_estimator_that_fails_breaks_the_law_that_was_tried():
    def fails(batch):
        raise IndexError("boom")

    text = message_of(estimator_of(fails))
    assert "breaks MASKED_ZERO on numpy" in text
    assert "MASKED_ZERO: it fails while this is tried (IndexError: boom)." in text
    assert "Smallest batch: rewards=array([0.])" in text
    assert text.splitlines()[-1].startswith("Source: a NaN advantage on a masked token")
    text = message_of(estimator_of(lambda batch: batch.rewards, tokens=True))  # one number a response
    assert "returned values of shape" in text
    assert "expected one a token" in text


def test_the_message_shows_what_the_estimator_reads_and_the_seed():
    text = message_of(estimator_of(raw, claims=["SHIFT"]))
    assert "rewards=array([0.]), response_mask=array([[ True]]), group_ids=array([0]), num_groups=1 (seed 0)" in text


def test_the_usual_group_of_eight_is_among_the_batches():
    def large(batch):
        return batch.xp.where(batch.xp.take(batch.group_sizes, batch.group_ids) >= 8, batch.rewards, 0.0)

    assert "breaks ZERO_SUM" in message_of(estimator_of(large, claims=["ZERO_SUM"]))


def test_a_breach_under_jax_alone_is_not_called_the_smallest(jax):
    def wrong_in_jax(batch):
        return batch.rewards * (1.5 if "jax" in type(batch.rewards).__module__ else 1.0)

    text = message_of(estimator_of(wrong_in_jax), "jax")
    assert "breaks AGREE on jax" in text
    assert "A batch: rewards=" in text


def test_fields_of_the_estimators_own_are_drawn():
    mine = estimator_of(lambda batch: batch.step_rewards, needs=("step_rewards",), tokens=True)
    check_estimator(mine, backends=["numpy"])
    row = estimator_of(lambda batch: batch.difficulty, needs=("difficulty",))
    check_estimator(row, backends=["numpy"], row_fields=["difficulty"])
    assert "it fails while this is tried" in message_of(row)


def test_what_cannot_be_registered_is_not_checked():
    class Plain(az.Estimator):
        name = "plain"

        def compute(self, batch):
            return az.Advantages(batch.to_tokens(batch.rewards))

    with pytest.raises(TypeError, match=r"not decorated with @dataclass\(frozen=True\)"):
        check_estimator(Plain)
    for nothing in ([], "numpy"):
        with pytest.raises(TypeError, match="expected a list of names"):
            check_estimator("grpo", backends=nothing)


def test_a_library_without_devices_is_not_said_to_keep_what_it_cannot_break():
    _, pairs = check.cases("grpo", ["numpy", "torch"])
    found = {(law.id, name) for law, name in pairs}
    assert ("NO_SYNC", "torch") in found
    assert not {("NO_SYNC", "numpy"), ("NO_GRAD", "numpy")} & found


test_conformance_of_a_spelling = conformance_test("grpo | clip(-1, 1)", backends=["readonly"])


def test_a_conformance_test_has_one_case_for_each_law_and_library():
    made = conformance_test(GRPO, backends=["numpy", "readonly"])
    ids = [case.id for mark in made.pytestmark for case in mark.args[1]]
    laws = [law.id for law in laws_of(GRPO.claims) if not law.traced_only]
    assert ids == [f"{law}-{name}" for name in ("numpy", "readonly") for law in laws]
    wrong = conformance_test(BROKEN["SHIFT"][0].estimator, backends=["numpy"])
    with pytest.raises(AssertionError, match="breaks SHIFT"):
        wrong(INVARIANTS["SHIFT"], "numpy")


def test_there_is_something_broken_for_every_law_and_a_tolerance_for_none_that_is_unknown():
    assert set(BROKEN) == set(INVARIANTS)
    assert set(tolerances.LAWS) <= set(INVARIANTS)
