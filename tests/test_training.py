"""What every adapter does in a step: the first look, the advantages, what is logged, the dump."""

from dataclasses import replace

import numpy as np
import pytest
from test_dumping import PROMPTS, Letters, batch_of

import advantage_zoo as az
from advantage_zoo.adapting import critic_targets, lacking, make_batch
from advantage_zoo.rollouts import RolloutFileError, read_rollouts
from advantage_zoo.training import Training

EPGRPO = az.make("ep_grpo")


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return az.RolloutBatch(
        rewards=np.array([1.0, 0.0, 0.5, 0.0]),
        response_mask=np.ones((4, 3), bool),
        group_ids=np.array([0, 0, 1, 1]),
        **{name: -rng.random((4, 3)) for name in ("logprobs", "ref_logprobs")},
        entropies=rng.random((4, 3)),
    )


@pytest.fixture
def training():
    return Training("tests", timing="seconds")


def test_it_gives_what_compute_advantages_gives_and_logs_means_since_the_last_reading(training, batch):
    other = replace(batch, rewards=np.array([1.0, 1.0, 0.5, 0.5]))
    expected = [az.compute_advantages(x, "ep_grpo") for x in (batch, other)]
    for x, advantages in zip((batch, other), expected, strict=True):
        with training.timed():
            found = training.estimate(x, EPGRPO, name="ep_grpo | whiten", step=3)
        np.testing.assert_array_equal(found.values, advantages.values)
    metrics = training.metrics()
    values = [float(x.diagnostics["zero_variance_groups"]) for x in expected]
    assert values[0] != values[1]
    assert metrics["advantage/ep_grpo_whiten/zero_variance_groups"] == pytest.approx(sum(values) / 2)
    assert metrics["seconds"] > 0
    assert training.metrics() == {}


def test_logging_reads_the_device_once(training, batch, monkeypatch):
    torch = pytest.importorskip("torch")
    names = ("rewards", "response_mask", "group_ids", "logprobs", "ref_logprobs", "entropies")
    batch = az.RolloutBatch(**{name: torch.tensor(getattr(batch, name)) for name in names})
    training.estimate(batch, EPGRPO, name="ep_grpo", step=0)
    reads = []
    for name in ("item", "tolist", "__float__", "__int__", "__bool__", "cpu", "numpy"):
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda x, *a, n=name, f=original: reads.append(n) or f(x, *a))
    assert len(training.metrics()) > 2
    assert reads == ["tolist"]


def test_only_the_first_batch_of_an_estimator_is_checked_in_full_and_rounding_is_overlooked(training, batch):
    rounded = replace(batch, entropies=batch.entropies.copy(), logprobs=batch.logprobs.copy())
    rounded.entropies[0, 0], rounded.logprobs[1, 1] = -0.125, 0.03
    broken = replace(batch, entropies=batch.entropies - 3)
    nan = replace(batch, ref_logprobs=np.full((4, 3), np.nan))
    training.estimate(rounded, EPGRPO, name="a", step=0)
    training.estimate(broken, EPGRPO, name="a", step=0)
    for bad, message in ((broken, "entropies.*below 0 nats"), (nan, "ref_logprobs.*is nan")):
        with pytest.raises(ValueError, match=message):
            Training("tests", timing="seconds").estimate(bad, EPGRPO, name="a", step=0)


def test_rollouts_are_on_disk_after_a_flush(training, tmp_path):
    batch, tokens = batch_of()
    dump = training.dump(tmp_path / "dump", Letters())
    assert training.dump(str(tmp_path / "dump"), Letters()) is dump
    dump.write(batch, step=2, prompts=PROMPTS, responses=tokens)
    training.flush()
    assert training.metrics()["seconds_dump"] > 0
    assert read_rollouts(tmp_path / "dump" / "step_000002.parquet").metadata == {"source": "tests", "step": 2}
    (tmp_path / "dump" / "step_000003.parquet").mkdir()
    dump.write(batch, step=3, prompts=PROMPTS, responses=tokens)
    with pytest.raises(RolloutFileError, match=r"step_000003.parquet can't be written"):
        training.flush()


def test_a_sentence_for_each_field_that_is_needed_and_not_there():
    advice = {"entropies": "set entropies=true", "values": "set critic=true"}
    assert lacking(EPGRPO, ["values", "entropies", "ref_logprobs"], advice) == [
        "ep_grpo needs entropies: set entropies=true.",
        "ep_grpo needs ref_logprobs: there is no column of this name.",
    ]
    assert lacking(az.make("grpo"), ["values", "entropies"], advice) == []


def test_fields_that_only_a_plugin_knows_are_extras(batch):
    fields = {"logprobs": batch.logprobs, "values": None, "difficulty": np.ones(4)}
    made = make_batch(fields, rewards=batch.rewards, response_mask=batch.response_mask, group_ids=batch.group_ids)
    assert made.logprobs is batch.logprobs
    assert made.values is None
    assert set(made.extras) == {"difficulty"}


@pytest.mark.parametrize("which", ["gae(whiten=true)", "gae@verl(discount=1, lam=1)", "gae | clip(-1, 1) | whiten"])
def test_a_critic_learns_what_is_neither_whitened_nor_clipped(batch, which):
    """With lam = 1 that is the reward to come, whatever the critic says."""
    batch = replace(batch, values=np.random.default_rng(1).random((4, 3)))
    targets = critic_targets(batch, az.make(which.replace("gae |", "gae(lam=1, discount=1) |")))
    if "gae(whiten" in which:
        expected = az.compute_advantages(batch, "gae").values + batch.values
    else:
        expected = np.repeat(batch.rewards[:, None], 3, axis=1)
    np.testing.assert_allclose(targets, expected, atol=1e-12)
