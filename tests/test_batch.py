"""RolloutBatch refuses what does not fit, naming field and shape; validate names row and value."""

import dataclasses
import pickle
import warnings

import numpy as np
import pytest

import advantage_zoo as az

GOOD = {
    "rewards": np.array([1.0, 0.0, 1.0]),
    "response_mask": np.ones((3, 2), dtype=bool),
    "group_ids": np.array([0, 0, 0]),
    "num_groups": 1,
}
TOKENS = ("logprobs", "ref_logprobs", "entropies", "token_rewards", "values")
SIGNALS = {"logprobs": np.full((3, 2), -1.0), "ref_logprobs": np.full((3, 2), -1.0), "entropies": np.ones((3, 2))}


def make(xp=None, **fields):
    fields = {**GOOD, **fields}
    if xp is not None:
        fields = {k: xp.asarray(v, None) if isinstance(v, np.ndarray) else v for k, v in fields.items()}
    return az.RolloutBatch(**fields)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"rewards": None}, TypeError, "rewards is missing"),
        ({"response_mask": None}, TypeError, "response_mask is missing"),
        ({"group_ids": None}, TypeError, "group_ids is missing"),
        ({"rewards": np.ones((3, 1))}, ValueError, r"rewards has shape \(3, 1\); expected \(B,\)"),
        ({"rewards": np.ones(0)}, ValueError, "rewards is empty"),
        ({"rewards": np.ones(3, complex)}, ValueError, "rewards has dtype complex128"),
        ({"response_mask": np.ones((3, 2), int)}, ValueError, "response_mask has dtype int64; expected bool"),
        (
            {"response_mask": np.ones(3, bool)},
            ValueError,
            r"response_mask has shape \(3,\); expected \(B, T\) with B = 3",
        ),
        ({"response_mask": np.ones((4, 2), bool)}, ValueError, r"response_mask has shape \(4, 2\)"),
        ({"response_mask": np.ones((3, 0), bool)}, ValueError, r"response_mask has shape \(3, 0\)"),
        ({"group_ids": np.zeros(2, int)}, ValueError, r"group_ids has shape \(2,\); expected \(3,\)"),
        ({"group_ids": np.zeros(3)}, ValueError, "group_ids has dtype float64; expected integral"),
        ({"num_groups": 0}, ValueError, "num_groups is 0"),
        ({"num_groups": 1.5}, ValueError, "num_groups is 1.5"),
        ({"num_groups": True}, ValueError, "num_groups is True"),
        ({"baseline_rewards": np.ones(2)}, ValueError, r"baseline_rewards has shape \(2,\)"),
        ({"reward_components": np.ones(3)}, ValueError, r"reward_components has shape \(3,\); expected \(B, K\)"),
        ({"reward_components": np.ones((2, 4))}, ValueError, r"reward_components has shape \(2, 4\)"),
        ({"extras": {"hints": np.ones(5)}}, ValueError, r"extras\['hints'\] has shape \(5,\)"),
        ({"extras": {"hints": [1, 2, 3]}}, TypeError, r"extras\['hints'\] is a list"),
        ({"extras": {"logprobs": np.ones((3, 2))}}, ValueError, "extras holds 'logprobs'"),
        ({"cu_seqlens": np.array([0, 1, 2, 3])}, ValueError, r"response_mask has shape \(3, 2\); a packed batch"),
    ]
    + [({name: np.ones((3, 3))}, ValueError, rf"{name} has shape \(3, 3\); expected \(3, 2\)") for name in TOKENS]
    + [({name: np.ones((3, 2), int)}, ValueError, f"{name} has dtype int64; expected real floating") for name in TOKENS]
    + [({name: [[0.0, 0.0]] * 3}, TypeError, f"{name} is a list, not an array") for name in TOKENS],
)
def test_the_constructor_names_what_does_not_fit(fields, error, message):
    with pytest.raises(error, match=message):
        make(**fields)


def test_rewards_that_are_no_array():
    with pytest.raises(TypeError, match="list"):
        make(rewards=[1.0, 0.0, 1.0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cu_seqlens": np.array([0, 2, 4])}, r"cu_seqlens has shape \(3,\); expected \(4,\)"),
        ({"cu_seqlens": np.array([0.0, 2, 4, 6])}, "cu_seqlens has dtype float64"),
        ({"logprobs": np.ones(5)}, r"logprobs has shape \(5,\); expected \(6,\)"),
    ],
)
def test_a_packed_batch_names_what_does_not_fit(fields, message):
    packed = {**GOOD, "response_mask": np.ones(6, bool), "cu_seqlens": np.array([0, 2, 4, 6]), **fields}
    with pytest.raises(ValueError, match=message):
        az.RolloutBatch.packed(**packed)


def test_a_packed_batch_needs_to_know_its_tokens():
    fields = {k: v for k, v in GOOD.items() if k != "response_mask"}
    with pytest.raises(ValueError, match="needs response_mask or a token field"):
        az.RolloutBatch.packed(cu_seqlens=np.array([0, 2, 4, 6]), **fields)
    batch = az.RolloutBatch.packed(cu_seqlens=np.array([0, 2, 4, 6]), logprobs=np.zeros(6), **fields)
    assert batch.response_mask.tolist() == [True] * 6


@pytest.mark.parametrize("ends", [[0, 2, 4, 5], [1, 2, 4, 6], [0, 4, 2, 6]])
def test_cumulative_lengths_are_looked_at(xp, ends):
    batch = make(xp, response_mask=np.ones(6, bool), cu_seqlens=np.array(ends))
    for use in (az.validate, lambda b: az.compute_advantages(b, "grpo")):
        with pytest.raises(ValueError, match=r"cu_seqlens is .*; expected numbers from 0 to 6"):
            use(batch)


def test_two_libraries_do_not_mix(torch):
    with pytest.raises(TypeError, match="logprobs is a torch array and rewards a numpy one"):
        make(logprobs=torch.zeros(3, 2))
    with pytest.raises(ValueError, match="logprobs is on device meta and rewards on cpu"):
        az.RolloutBatch(
            rewards=torch.zeros(3),
            response_mask=torch.ones(3, 2, dtype=torch.bool),
            group_ids=torch.zeros(3, dtype=torch.long),
            logprobs=torch.zeros(3, 2, device="meta"),
        )


@pytest.mark.parametrize(
    ("field", "number", "message"),
    [
        ("logprobs", np.nan, r"logprobs\[1, 0\] \(row 1, column 0\) is nan: not finite"),
        ("entropies", np.inf, r"entropies\[1, 0\] \(row 1, column 0\) is inf: not finite"),
        ("ref_logprobs", 0.5, r"ref_logprobs\[1, 0\] \(row 1, column 0\) is 0.5: above 0 nats"),
        ("entropies", -0.5, r"entropies\[1, 0\] \(row 1, column 0\) is -0.5: below 0 nats"),
    ],
)
def test_validate_names_row_and_value(xp, field, number, message):
    broken = SIGNALS[field].copy()
    broken[1, 0] = number
    with pytest.raises(ValueError, match=message):
        az.validate(make(xp, **{**SIGNALS, field: broken}))
    mask = np.array([[True, True], [False, True], [True, True]])
    az.validate(make(xp, response_mask=mask, **{**SIGNALS, field: broken}))  # masked: it may hold anything


@pytest.mark.parametrize("use", [az.validate, lambda batch: az.compute_advantages(batch, "dr_grpo")])
def test_what_would_spoil_a_computation_is_refused(xp, use):
    with pytest.raises(ValueError, match=r"rewards\[1\] \(row 1\) is nan: not finite"):
        use(make(xp, rewards=np.array([0.0, np.nan, 1.0])))
    with pytest.raises(ValueError, match=r"group_ids\[2\] \(row 2\) is 3: not in \[0, 1\)"):
        use(make(xp, group_ids=np.array([0, 0, 3])))
    with pytest.raises(ValueError, match=r"group_ids\[0\] \(row 0\) is -1"):
        use(make(xp, group_ids=np.array([-1, 0, 0])))


def test_a_message_lists_the_first_offenders_only():
    with pytest.raises(ValueError, match=r"rewards\[0\].*rewards\[1\].*rewards\[2\].*, and 1 more: not finite"):
        az.validate(
            az.RolloutBatch(rewards=np.full(4, np.nan), response_mask=np.ones((4, 1), bool), group_ids=np.zeros(4, int))
        )


def test_validate_warns_of_waste(xp):
    with pytest.warns(az.RolloutWarning, match=r"1 of 2 groups have one response \(group 1 is the first\)"):
        az.validate(make(xp, group_ids=np.array([0, 0, 1]), num_groups=2))
    empty = np.array([[True, True], [False, False], [True, True]])
    with pytest.warns(az.RolloutWarning, match=r"1 of 3 responses have no valid token \(row 1 is the first\)"):
        az.validate(make(xp, response_mask=empty))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        az.validate(make(xp, **SIGNALS))


def test_a_missing_field_is_named():
    with pytest.raises(ValueError, match="ep_grpo needs entropies and logprobs and ref_logprobs"):
        az.compute_advantages(make(), "ep_grpo")


def test_num_groups_defaults_to_the_number_of_rows():
    assert make(num_groups=None).num_groups == 3
    assert type(make(num_groups=np.int64(2)).num_groups) is int


def test_integers_and_booleans_are_rewards(xp):
    expected = xp.asnumpy(az.compute_advantages(make(xp), "grpo").values)
    for dtype in (int, bool):
        got = az.compute_advantages(make(xp, rewards=GOOD["rewards"].astype(dtype)), "grpo").values
        np.testing.assert_allclose(xp.asnumpy(got), expected, rtol=1e-6)


def test_replace_checks_again():
    batch = make()
    assert dataclasses.replace(batch, rewards=np.zeros(3)).rewards.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="rewards has shape"):
        dataclasses.replace(batch, rewards=np.zeros((3, 3)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch.rewards = np.zeros(3)


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "ep_grpo"])
def test_estimators_are_values(name):
    cls = az.estimator(name)
    one, same = cls(), cls()
    assert one == same
    assert hash(one) == hash(same)
    assert len({one, same}) == 1
    assert pickle.loads(pickle.dumps(one)) == one
    for f in dataclasses.fields(cls):
        if f.type is float or isinstance(f.default, float):
            assert dataclasses.replace(one, **{f.name: f.default + 1}) != one
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.eps = 1.0


def test_batches_are_pickled(xp):
    batch = make(xp, **SIGNALS)
    if xp.name in ("numpy", "torch"):
        again = pickle.loads(pickle.dumps(batch))
        assert again.num_groups == 1
        np.testing.assert_array_equal(xp.asnumpy(again.logprobs), SIGNALS["logprobs"])
