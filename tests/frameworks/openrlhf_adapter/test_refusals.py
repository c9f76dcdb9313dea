"""OpenRLHF's own command line under the adapter: what it refuses before anything starts, in which words."""

import importlib
import sys

import pytest
from advantage_zoo_openrlhf.points import BINDING, MAKER
from frameworks.openrlhf_adapter.made import ESTIMATOR, NO_KL
from frameworks.openrlhf_run.made import REFERENCE

import advantage_zoo as az
from advantage_zoo.binding import Point


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("ep_grop", *REFERENCE),
            "No estimator is called 'ep_grop' (did you mean 'ep_grpo'?); there are dapo, dr_grpo",
        ),
        (("grpo |", *NO_KL), "'grpo |' cannot be read at character 7"),
        (
            ("ep_grpo",),
            "ep_grpo needs ref_logprobs: pass --algo.kl.use_loss and --algo.kl.init_coef above 0 "
            "(it is 0.01; 1e-12 has the reference without its pull).",
        ),
        (("ep_grpo", "--algo.kl.use_loss", *NO_KL), "--algo.kl.init_coef above 0 (it is 0;"),
        (("prime", *NO_KL), "prime needs ref_logprobs"),
        (
            ("grpo",),
            "--algo.kl.init_coef 0.01 puts a KL penalty into the reward, which grpo would drop: pass "
            "--algo.kl.use_loss, or --algo.kl.init_coef 0.",
        ),
        (
            ("ep_grpo", *REFERENCE, "--rollout.n_samples_per_prompt", "1"),
            "--rollout.n_samples_per_prompt is 1, and ep_grpo compares the responses to a prompt with each other; set",
        ),
        (
            ("grpo | whiten", *NO_KL, "--rollout.n_samples_per_prompt", "1"),
            "and grpo | whiten compares the responses to a prompt",
        ),
        (("gae()",), "gae needs values: OpenRLHF has a critic for its own gae alone."),
        (("otb", *NO_KL), "otb needs sum_pi_squared: OpenRLHF's forward pass does not compute it."),
        (("gdpo", *NO_KL), "gdpo needs reward_components: a reward is one number in OpenRLHF."),
        (
            ("grpo", *NO_KL, "--reward.clip_range", "-5", "5"),
            "--reward.clip_range -5 5 has no effect on grpo; leave it out.",
        ),
        (("grpo", *NO_KL, "--algo.advantage.gamma", "0.9"), "--algo.advantage.gamma 0.9 has no effect on grpo;"),
        (("grpo", *NO_KL, "--algo.advantage.no_std_norm"), "--algo.advantage.no_std_norm has no effect on grpo;"),
        (
            ("grpo", *NO_KL, "--algo.dynamic_filtering_enable", "--reward.remote_url", "unscored.py"),
            "--algo.dynamic_filtering_enable keeps prompts by their `scores`, which unscored.py "
            "(--reward.remote_url) does not return, and would go by the rewards: return them, too.",
        ),
        (
            ("ep_grpo", *REFERENCE, "--zoo.ep_grpo.num_bucket", "5"),
            "--zoo.ep_grpo.num_bucket: ep_grpo has no parameter 'num_bucket' (did you mean 'num_buckets'?)",
        ),
        (("ep_grpo", *REFERENCE, "--zoo.ep_grpo.num_buckets", "0"), "ep_grpo.num_buckets is 0; expected at least 1."),
        (("ep_grpo", *REFERENCE, "--zoo.ep_grpo.num_buckets"), "--zoo.ep_grpo.num_buckets: expected one argument"),
        (
            ("ep_grpo", *REFERENCE, "--zoo.num_buckets", "5"),
            "--zoo.num_buckets: the estimator is ep_grpo; leave it out, or give --zoo.ep_grpo.PARAM VALUE.",
        ),
        (
            ("ep_grpo", *REFERENCE, "--zoo.ep_grpo.beta", "1", "--zoo.ep_grpo.beta=2"),
            "--zoo.ep_grpo.beta is given twice, as 1 and 2.",
        ),
        (
            ("ep_grpo", *REFERENCE, "--zoo.grpo.eps", "1e-4"),
            "--zoo.grpo.eps: the estimator is ep_grpo; leave it out, or give --zoo.ep_grpo.PARAM VALUE.",
        ),
        (
            ("dr_grpo", "--zoo.dr_grpo.eps", "1"),
            "--zoo.dr_grpo.eps has no effect: dr_grpo is OpenRLHF's own; 'dr_grpo()' is the zoo's.",
        ),
        (("ep_grpo", *REFERENCE, "--zoo.config", "no.yaml"), "No such file or directory: 'no.yaml'"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(refusal, flags, message):
    assert message in refusal(ESTIMATOR, *flags)


def test_dynamic_filtering_with_scores_is_taken(run):
    assert run(ESTIMATOR, "grpo", *NO_KL, "--algo.dynamic_filtering_enable").algo.dynamic_filtering_enable


def test_an_agent_that_names_no_scores_is_refused(refusal):
    agent = ("--algo.dynamic_filtering_enable", "--train.agent_func_path", "unscored.py")
    assert "which unscored.py (--train.agent_func_path) does not return" in refusal(ESTIMATOR, "grpo", *NO_KL, *agent)


@pytest.mark.parametrize("single", ["reinforce()", "reinforce_pp", "remax", "reinforce_pp@openrlhf"])
def test_what_compares_no_responses_runs_with_one_a_prompt(run, single):
    assert run(ESTIMATOR, single, *NO_KL, "--rollout.n_samples_per_prompt", "1").zoo.estimator == az.make(single)


def test_entropies_at_a_temperature_are_refused_where_openrlhf_does_not_scale_them(run, refusal, monkeypatch):
    flags = (ESTIMATOR, "ep_grpo", *REFERENCE, "--rollout.temperature", "0.7")
    assert run(*flags).zoo.estimator == az.make("ep_grpo")
    real = importlib.metadata.version
    old = lambda name: "0.11.0" if name == "openrlhf" else real(name)  # noqa: E731
    monkeypatch.setattr("advantage_zoo_openrlhf.arguments.version", old)
    assert "--rollout.temperature 0.7: OpenRLHF 0.11.0 takes entropies at temperature 1" in refusal(*flags)
    assert run(*flags[:-1], "1").zoo.estimator == az.make("ep_grpo")
    assert run(ESTIMATOR, "grpo", *NO_KL, *flags[-2:]).zoo.estimator == az.make("grpo")


def test_a_parameter_and_its_flag_are_not_both_given(refusal):
    flags = ("grpo@openrlhf(clip_range=[-1, 1])", *NO_KL, "--reward.clip_range", "-2", "2")
    message = "--reward.clip_range -2 2 has no effect on grpo@openrlhf(clip_range=[-1.0, 1.0]); leave it out."
    assert message in refusal(ESTIMATOR, *flags)


def test_a_broken_plugin_is_named_and_takes_nobody_down(run, refusal, tmp_path, monkeypatch):
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[advantage_zoo]\nbroken = no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("advantage_zoo.registry._loaded", {})
    assert run(ESTIMATOR, "grpo", *NO_KL).zoo.estimator == az.make("grpo")
    assert "Plugin broken: failed to load from 'no_such_module'" in refusal(ESTIMATOR, "theirs", *NO_KL)


@pytest.mark.parametrize("moved", ["RemoteExperienceMaker.gone", "RemoteExperienceMaker.make_experience"])
def test_a_point_that_has_moved_is_said_before_anything_starts(run, refusal, monkeypatch, moved):
    point = Point(MAKER, moved, "renamed", "advantage_zoo_openrlhf.training:overwrite")
    monkeypatch.setitem(vars(BINDING), "problems", {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vars(BINDING), "points", (point,))
        BINDING.bind_module(sys.modules[MAKER])
    message = refusal(ESTIMATOR, "grpo", *NO_KL)
    assert f"does not fit openrlhf 0.11.2: {MAKER}.{moved} could not be bound" in message
    assert message.endswith("Releases that fit: 0.11.2.")
    assert not hasattr(run(ESTIMATOR, "dr_grpo"), "zoo")  # OpenRLHF's own go on


def test_a_folder_for_rollouts_that_cannot_be_made_is_refused(run, refusal, tmp_path):
    (tmp_path / "file").touch()
    flags = (ESTIMATOR, "grpo", *NO_KL, "--zoo.dump_rollouts")
    assert f"{tmp_path}/file/there can't be made or written to" in refusal(*flags, f"{tmp_path}/file/there")
    assert run(*flags, f"{tmp_path}/there").zoo.dump == f"{tmp_path}/there"
    assert "--zoo.dump_rollouts has no effect: gae is OpenRLHF's own" in refusal("--zoo.dump_rollouts", "there")
