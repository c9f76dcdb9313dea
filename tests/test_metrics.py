"""Metrics on cases small enough to do by hand."""

import numpy as np
import pytest
from made_rollouts import four

from advantage_zoo.compare.part import Part
from advantage_zoo.compare.survey import Survey
from advantage_zoo.compare.tally import Agreement, tally
from advantage_zoo.rollouts.ragged import Ragged


def measured(rollouts, rows, threshold=0.5):
    ragged = Ragged.of(rollouts)
    survey = Survey.of(ragged)
    part = Part(ragged, survey.lines, threshold)
    mask = np.asarray(part.batch.response_mask)
    values = np.zeros(mask.shape)
    for row, entries in enumerate(rows):
        values[row, : len(entries)] = entries
    return tally(values[mask], part, np.arange(len(ragged))).metrics(survey.valid)


def agreement(values, mask):
    return Agreement.of([v[mask] for v in values]).matrices()


def test_signal_counts_only_exact_zeros_on_valid_tokens():
    m = measured(four(), [[0, 0], [0, 0, 1e-300], [0, 0, 0], [0, 0, 0, 0]])
    assert (m.groups_without_signal.count, m.groups_without_signal.total) == (1, 2)
    assert (m.tokens_without_signal.count, m.tokens_without_signal.total) == (11, 12)
    masked = four(response_mask=[[True] * 2, [True, True, False], [True] * 3, [True] * 4])
    m = measured(masked, [[0, 0], [0, 0, 5], [0, 0, 0], [1, 0, 0, 0]])
    assert (m.groups_without_signal.count, m.groups_without_signal.total) == (1, 2)  # what is masked is no signal
    assert (m.tokens_without_signal.count, m.tokens_without_signal.total) == (10, 11)
    assert m.mean_abs == pytest.approx(1 / 11)


def test_high_entropy_share_takes_the_top_fifth_and_ties_with_its_last():
    # 12 valid tokens: the top 20 % are 3 (2.4, rounded up): 9, 8 and 7.
    entropies = [[9, 0], [8, 0.1, 0.2], [7, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]]
    rollouts = four(entropies=[np.array(row, np.float32) for row in entropies])
    rows = [[4, 0], [-3, 0, 0], [2, 0, 0], [1, 0, 0, 0]]
    assert measured(rollouts, rows).high_entropy_share == pytest.approx(9 / 10)
    assert measured(rollouts, rows).high_entropy_tokens == pytest.approx(3 / 12)
    assert measured(rollouts, [[1] * n for n in (2, 3, 3, 4)]).high_entropy_share == pytest.approx(3 / 12)
    tied = four(entropies=[np.ones(n, np.float32) for n in (2, 3, 3, 4)])
    assert measured(tied, rows).high_entropy_share == measured(tied, rows).high_entropy_tokens == 1.0
    assert measured(rollouts, [[0]] * 4).high_entropy_share is None  # no signal at all
    assert measured(four(), rows).high_entropy_share is None  # no entropies


def test_high_entropy_of_masked_tokens_does_not_count():
    entropies = [np.array(row, np.float32) for row in ([99, 1], [98, 2, 3], [97, 4, 5], [96, 6, 7, 8])]
    mask = [[False] + [True] * (n - 1) for n in (2, 3, 3, 4)]
    rollouts = four(entropies=entropies, response_mask=mask)
    m = measured(rollouts, [[5, 1], [5, 1, 1], [5, 1, 1], [5, 1, 3, 7]])  # of 8 tokens the top two hold 3 and 7
    assert m.high_entropy_share == pytest.approx(10 / 16)


def test_polarity_sums_each_step_and_leaves_unknown_ones_out():
    rollouts = four(
        step_index=[[0, 1], [0, 0, 1], [0, 1, -1], [0, 0, 1, 2]],
        step_correct=[[True, True, False], [False, True], [None, False], [True, False, False]],
    )
    # Failed response 0: right steps -1 and +1 (its third step has no token). Successful: wrong steps
    # 2 - 1 = 1, then 3, then -4 and 0; the right step of 1 and the unknown one of 2 do not count.
    m = measured(rollouts, [[-1, 1], [2, -1, -9], [-9, 3, -9], [5, 5, -4, 0]])
    assert (m.right_steps_punished.count, m.right_steps_punished.total) == (1, 2)
    assert (m.right_steps_rewarded.count, m.right_steps_rewarded.total) == (1, 2)
    assert (m.wrong_steps_rewarded.count, m.wrong_steps_rewarded.total) == (2, 4)
    assert (m.wrong_steps_punished.count, m.wrong_steps_punished.total) == (1, 4)
    assert m.wrong_steps_rewarded.value == 0.5


def test_polarity_minds_the_mask_and_the_threshold():
    steps = {"step_index": [[0] * n for n in (2, 3, 3, 4)], "step_correct": [[True], [True], [False], [False]]}
    values = [[-2, 5], [-1, -1, -1], [1, 1, 1], [1, 1, 1, 1]]
    mask = [[True, False], [True] * 3, [True] * 3, [True] * 4]
    m = measured(four(**steps, response_mask=mask), values)
    assert (m.right_steps_punished.count, m.right_steps_punished.total) == (1, 1)  # 5 is masked
    assert (m.wrong_steps_rewarded.count, m.wrong_steps_rewarded.total) == (2, 2)
    m = measured(four(**steps), values, threshold=1.0)  # a reward equal to the threshold is a failure
    assert (m.right_steps_punished.count, m.right_steps_punished.total) == (1, 2)
    assert m.wrong_steps_rewarded.total == 0
    assert m.wrong_steps_rewarded.value is None


def test_blame_is_the_share_of_the_negative_advantage_on_wrong_steps():
    rollouts = four(
        step_index=[[0, 1], [0] * 3, [0] * 3, [0] * 4], step_correct=[[True, False], [False], [False], [False]]
    )
    m = measured(rollouts, [[-1, -3], [-9] * 3, [-9] * 3, [-9] * 4])
    assert m.blame_on_wrong_steps == pytest.approx(3 / 4)
    assert m.wrong_step_tokens == pytest.approx(1 / 2)
    assert measured(rollouts, [[1, 3], [0] * 3, [0] * 3, [0] * 4]).blame_on_wrong_steps is None


def test_length_bias_compares_the_longest_quarter_with_the_shortest():
    # Quartiles of 2, 3, 3, 4 are 2.75 and 3.25: the shortest quarter is the first response, the longest the last.
    assert measured(four(), [[1, 3], [9] * 3, [9] * 3, [4] * 4]).length_bias == pytest.approx(2.0)
    assert measured(four(), [[-1, -1], [0] * 3, [0] * 3, [1] * 4]).length_bias == pytest.approx(1.0)
    assert measured(four(), [[0, 0], [1] * 3, [1] * 3, [1] * 4]).length_bias is None
    equal = four(tokens=[["a"] * 2] * 4, token_ids=[[0] * 2] * 4)
    assert measured(equal, [[1, 1], [2, 2], [3, 3], [4, 4]]).length_bias is None


def test_length_correlation_is_spearmans():
    assert measured(four(), [[1] * 2, [2] * 3, [2] * 3, [3] * 4]).length_correlation == pytest.approx(1.0)
    assert measured(four(), [[-3] * 2, [2] * 3, [2] * 3, [1] * 4]).length_correlation == pytest.approx(-1.0)
    assert measured(four(), [[1] * n for n in (2, 3, 3, 4)]).length_correlation is None
    # Ranks of length 1, 2.5, 2.5, 4 and of |A| 1, 2, 3, 4.
    wanted = np.corrcoef([1, 2.5, 2.5, 4], [1, 2, 3, 4])[0, 1]
    assert measured(four(), [[1] * 2, [2] * 3, [3] * 3, [4] * 4]).length_correlation == pytest.approx(wanted)


def test_agreement_by_hand():
    mask = np.array([[True, True], [True, False]])
    a, b, zero = np.array([[1.0, 0.0], [2.0, 9.0]]), np.array([[2.0, 1.0], [0.0, -9.0]]), np.zeros((2, 2))
    cosine, sign = agreement([a, b, -a, zero], mask)
    assert cosine[0][1] == pytest.approx(2 / 5)
    assert cosine[0][0] == pytest.approx(1.0)
    assert cosine[0][2] == pytest.approx(-1.0)
    assert cosine[0][3] is None
    assert cosine[3][3] is None
    assert sign[0][1] == pytest.approx(1 / 3)
    assert sign[0][2] == pytest.approx(1 / 3)  # the zero agrees with itself
    assert sign[3] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1.0])


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_agreement_neither_overflows_nor_vanishes(scale):
    a, b = np.array([[3.0, 4.0]]) * scale, np.array([[4.0, 3.0]]) / scale
    assert agreement([a, b], np.ones((1, 2), bool))[0][0][1] == pytest.approx(0.96)


def test_no_valid_token_leaves_nothing_to_tell():
    rollouts = four(response_mask=[[False] * n for n in (2, 3, 3, 4)], entropies=[np.ones(n) for n in (2, 3, 3, 4)])
    m = measured(rollouts, [[1, 1]] * 4)
    assert m.tokens_without_signal.value is None
    assert (m.high_entropy_share, m.length_bias, m.length_correlation, m.mean_abs) == (None, None, None, 0.0)
    cosine, sign = agreement([np.ones((4, 4))], np.zeros((4, 4), bool))
    assert cosine == sign == [[None]]
