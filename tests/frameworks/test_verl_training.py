"""verl's stock command, whole, on a CPU: `python -m verl.trainer.main_ppo algorithm.adv_estimator=...`.

tests/frameworks/verl_cpu says what stands in for accelerators and for vLLM. Each run is a Ray cluster of its own.
`python -m pytest tests/frameworks/test_verl_training.py -s` prints what the adapter costs.
"""

import re
import shutil
from dataclasses import fields as fields_of

import numpy as np
import pytest
from frameworks.verl_cpu.launch import dumping, make_inputs, train

import advantage_zoo as az
from advantage_zoo.rollouts import read_rollouts

torch = pytest.importorskip("torch")
pytest.importorskip("transfer_queue")

STEPS = 3
BOTH = pytest.mark.parametrize("trainer", ["default", "legacy"])
ESTIMATORS = ("ep_grpo", "grpo@verl", "surprise")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    """A finished run of an estimator under a trainer; each is made once."""
    done = {}

    def finished(name, trainer):
        if (name, trainer) not in done:
            folder = tmp_path_factory.mktemp("run")
            settings = [f"algorithm.adv_estimator={name}", f"trainer.use_v1={trainer == 'default'}"]
            if name != "grpo":  # verl's own
                settings.append(dumping(folder))
            if name == "ep_grpo":
                settings += ["+algorithm.ep_grpo.num_buckets=4", "+algorithm.ep_grpo.progress_warmup_steps=2"]
            done[name, trainer] = train(inputs, folder, *settings)
            assert done[name, trainer].status == 0, done[name, trainer].output[-8000:]
        return done[name, trainer]

    return finished


def estimator(name, step):
    return az.make(name, num_buckets=4, progress_weight=0.1 * min(step, 2)) if name == "ep_grpo" else az.make(name)


def rows_in_order(logprobs, advantages, mask):
    """Each row's log-probabilities and advantages at its valid tokens, sorted: the loss may see rows in another order.

    Log-probabilities tell rows apart, but for equal responses, which the advantages then put into order.
    """
    rows = [(logprobs[i][mask[i]].tolist(), advantages[i][mask[i]].tolist()) for i in range(len(mask))]
    return sorted((tuple(old), tuple(values)) for old, values in rows)


@BOTH
@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_reaches_the_loss_is_what_the_zoo_computes_on_the_dumped_rollouts(run, name, trainer):
    """And the preset is held to verl's own grpo as well."""
    finished = run(name, trainer)
    assert len(finished.losses) == len(finished.dumps) == STEPS
    for step, (loss, path) in enumerate(zip(finished.losses, finished.dumps, strict=True)):
        rollouts = read_rollouts(path)
        assert len(rollouts) == 16
        batch = rollouts.batch()
        expected = az.compute_advantages(in_float32(batch), estimator(name, step)).values.numpy()
        assert np.abs(expected).max() > 0.1
        found = rows_in_order(
            loss["old_log_prob"].numpy(), loss["advantages"].numpy(), loss["response_mask"].numpy() != 0
        )
        wanted = rows_in_order(batch.logprobs, expected, batch.response_mask)
        assert len(found) == len(wanted)
        for (old, values), (logprobs, advantages) in zip(found, wanted, strict=True):
            assert old == logprobs
            np.testing.assert_allclose(values, advantages, atol=1e-6)
        if name == "grpo@verl":
            np.testing.assert_allclose(verls_own_grpo(batch), expected, atol=1e-6)


def in_float32(batch):
    """As verl has it. In float64, tokens that stand on the edge of two buckets may fall into the other."""
    fields = {f.name: getattr(batch, f.name) for f in fields_of(batch) if getattr(batch, f.name) is not None}
    arrays = {name: torch.tensor(x) for name, x in fields.items() if isinstance(x, np.ndarray)}
    return az.RolloutBatch(
        num_groups=batch.num_groups,
        **{name: x.float() if x.is_floating_point() else x for name, x in arrays.items()},
    )


def verls_own_grpo(batch):
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    rewards = torch.zeros(batch.response_mask.shape)
    rewards[:, 0] = torch.tensor(batch.rewards)
    advantages, _ = compute_grpo_outcome_advantage(rewards, torch.tensor(batch.response_mask), batch.group_ids)
    return advantages.numpy()


@BOTH
def test_the_policy_moves_away_from_its_reference(run, trainer):
    first, *later = [read_rollouts(path).batch() for path in run("ep_grpo", trainer).dumps]
    gaps = [np.abs(batch.logprobs - batch.ref_logprobs)[batch.response_mask].max() for batch in (first, *later)]
    assert gaps[0] == 0
    assert all(gap > 1e-3 for gap in gaps[1:])
    assert all(step["actor/grad_norm"] > 0 for step in run("ep_grpo", trainer).metrics)


@BOTH
def test_the_estimators_metrics_are_among_verls(run, trainer):
    steps = run("ep_grpo", trainer).metrics
    assert len(steps) == STEPS
    for step in steps:
        assert 0 <= step["advantage/ep_grpo/zero_variance_groups"] <= 1
        assert step["timing_s/advantage_zoo"] < step["timing_s/adv"]
    assert steps[0]["advantage/ep_grpo/progress_share"] == 0  # the policy is its reference
    assert steps[2]["advantage/ep_grpo/progress_share"] > 0


@BOTH
def test_the_estimator_and_its_parameters_are_printed_once(run, trainer):
    (line,) = re.findall(r"algorithm.adv_estimator=ep_grpo: .*", run("ep_grpo", trainer).output)
    assert "num_buckets=4" in line
    assert "progress_weight=linear(0, 0.2, 2)" in line
    assert "verl 0.9.1" in line


def test_a_dumped_batch_can_be_compared(run):
    from click.testing import CliRunner

    from advantage_zoo.cli import main

    done = CliRunner().invoke(
        main, ["compare", str(run("ep_grpo", "default").dumps[1]), "-e", "grpo,ep_grpo", "--json"]
    )
    assert done.exit_code == 0, done.output


def test_the_adapter_costs_no_forward_pass_and_a_small_share_of_a_step(run, capsys):
    """Against verl's own grpo, with the same settings. A share, not a time: the machine may be busy."""
    ours, theirs = run("ep_grpo", "default"), run("grpo", "default")
    assert ours.forward_passes == theirs.forward_passes
    assert len(ours.forward_passes) == 3 * STEPS  # old and reference log-probabilities, the update
    shares, dumping_shares = (
        [step[f"timing_s/advantage_zoo{what}"] / step["timing_s/step"] for step in ours.metrics]
        for what in ("", "_dump")
    )
    with capsys.disabled():
        print(
            f"\nforward passes: {len(ours.forward_passes)} with ep_grpo, {len(theirs.forward_passes)} with grpo",
            end="; ",
        )
        print("the adapter's share of each step:", ", ".join(f"{share:.2%}" for share in shares), end="; ")
        print("of dumping:", ", ".join(f"{share:.2%}" for share in dumping_shares))
    assert min(shares) < 0.05
    assert sorted(dumping_shares)[1] < 0.02


def test_a_worker_that_is_killed_ends_the_run_with_rays_message(inputs, tmp_path):
    """And what was dumped before is whole."""
    finished = train(
        inputs,
        tmp_path,
        "algorithm.adv_estimator=ep_grpo",
        "trainer.use_v1=False",
        dumping(tmp_path),
        VERL_CPU_KILL="2",
    )
    assert finished.status != 0
    assert "ActorDiedError" in finished.output
    assert len(finished.losses) == 1
    assert [len(read_rollouts(path)) for path in finished.dumps] == [16, 16]
    assert {path.suffix for path in (tmp_path / "rollouts").iterdir()} == {".parquet"}


def test_the_stock_command_refuses_missing_settings_before_ray_starts(inputs, tmp_path):
    finished = train(inputs, tmp_path, "algorithm.adv_estimator=ep_grpo", "actor_rollout_ref.actor.use_kl_loss=False")
    assert finished.status == 1
    assert (
        "ValueError: algorithm.adv_estimator=ep_grpo: ep_grpo needs ref_logprobs: set actor_rollout_ref"
        in finished.output
    )
    assert "Started a local Ray instance" not in finished.output
    shutil.rmtree(tmp_path / "records")
    finished = train(inputs, tmp_path, "algorithm.adv_estimator=ep_grpo", "+algorithm.ep_grpo.num_bukets=5")
    assert finished.status == 1
    assert "(did you mean 'num_buckets'?)" in finished.output
