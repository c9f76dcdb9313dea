"""The three failures of GRPO that EP-GRPO is about (Fig. 2 of arXiv:2605.04960), measured on models of the laboratory.

1. Granularity: how much accuracy it costs to change one token where the entropy is high, and where it is low. The paper
   does not say how a token is changed; here in two ways.
2. Polarity: right steps of failed answers that an estimator punishes, wrong steps of right ones that it rewards.
3. Collapse: groups whose rewards are equal, and what an estimator still learns from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import mannwhitneyu

from advantage_zoo.compare import compare
from advantage_zoo.compare.metrics import Share
from advantage_zoo.rollouts import Rollouts
from lab.tasks import END, Task
from lab.training import sample

TOP = 0.2
"""Share of a batch's tokens that count as those of high entropy."""


@dataclass(frozen=True)
class Granularity:
    """Accuracy before one token of each response was changed, and after, by the entropy at that token."""

    before: float
    high: float
    low: float

    @property
    def ratio(self) -> float | None:
        """Accuracy that a token of high entropy costs over what one of low entropy does; ``None`` if that is none."""
        lost = self.before - self.low
        return (self.before - self.high) / lost if lost > 0 else None


def granularity(model: Any, tokenizer: Any, task: Task, prompts: int, *, hot: bool, seed: int = 2) -> Granularity:
    """Change one token of each response, let the model go on from there, and judge again.

    The token stands at a random place among the fifth of all tokens with the highest entropy, or among the rest. It is
    drawn again at temperature 2, ``hot``, so that a token that was certain mostly stays; or else from the model's own
    distribution without it, so that it is always another.
    """
    before = sample(model, None, tokenizer, task, prompts, 4, seed)
    entropies = torch.tensor([h for row in before.entropies or () for h in row])
    edge = float(entropies.quantile(1 - TOP))
    after: list[float] = []
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    for high in (True, False):
        places = [_place([(h > edge) == high for h in row]) for row in before.entropies or ()]
        after.append(_accuracy_after(model, tokenizer, task, before, places, hot))
    torch.random.set_rng_state(state)
    return Granularity(sum(map(float, before.rewards)) / len(before), *after)


def _place(allowed: Sequence[bool]) -> int | None:
    """A random place among those allowed."""
    places = [i for i, yes in enumerate(allowed) if yes]
    return places[int(torch.randint(len(places), ()))] if places else None


@torch.no_grad()
def _accuracy_after(
    model: Any, tokenizer: Any, task: Task, rollouts: Rollouts, places: Sequence[int | None], hot: bool
) -> float:
    """Accuracy of responses whose token at their place was changed; those without a place stay as they are."""
    rewards = [float(reward) for reward in rollouts.rewards]
    rows = [row for row, place in enumerate(places) if place is not None]
    heads = [[*tokenizer(rollouts.prompts[row])["input_ids"], *rollouts.token_ids[row][: places[row]]] for row in rows]
    taken = torch.tensor([rollouts.token_ids[row][places[row] or 0] for row in rows])
    ids, mask = _left_padded(heads, tokenizer.pad_token_id)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=_positions(mask)).logits[:, -1]
    logits[:, tokenizer.pad_token_id] = -torch.inf
    logits = logits / 2 if hot else logits.scatter(1, taken[:, None], -torch.inf)
    changed = torch.multinomial(logits.softmax(-1), 1)  # (B, 1)
    ids, mask = torch.cat([ids, changed], 1), torch.cat([mask, torch.ones_like(changed)], 1)
    longest = task.longest + 2
    full = model.generate(
        ids, attention_mask=mask, max_new_tokens=longest, do_sample=True, top_k=0, pad_token_id=tokenizer.pad_token_id
    )
    for i, row in enumerate(rows):
        prompt = rollouts.prompts[row]
        text = tokenizer.decode(full[i][mask.size(1) - int(mask[i].sum()) :]).removeprefix(prompt)
        rewards[row] = task.judge(prompt, text.split(END)[0]).reward
    return sum(rewards) / len(rewards)


def _left_padded(rows: Sequence[Sequence[int]], value: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[value] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def _positions(mask: torch.Tensor) -> torch.Tensor:
    return (mask.cumsum(1) - 1).clamp(min=0)


@dataclass(frozen=True)
class Polarity:
    """Counts under one estimator: right steps of failed answers punished, wrong ones of right answers rewarded.

    ``dead`` counts the groups from which it learns nothing.
    """

    punished: Share
    rewarded: Share
    dead: Share


def polarity(rollouts: Rollouts, estimators: Sequence[str]) -> dict[str, Polarity]:
    """Each estimator on the same rollouts, of a policy that has left its reference."""
    results = compare(rollouts, estimators).results
    return {
        result.key: Polarity(
            result.metrics.right_steps_punished,
            result.metrics.wrong_steps_rewarded,
            result.metrics.groups_without_signal,
        )
        for result in results
    }


def knowledge(rollouts: Rollouts, *, right: bool) -> float | None:
    """How well the log-ratio tells right steps from wrong ones, in right answers or in failed ones.

    The chance that a right step's log-ratio of policy and reference, summed over its tokens, is above that of a wrong
    step: 1/2 if it knows nothing, 1 if it knows all. ``None`` if there are no steps of one kind. What an anchor of -1
    makes of it is 1 minus that.
    """
    ratios: dict[bool, list[float]] = {True: [], False: []}
    columns = (rollouts.step_index, rollouts.step_correct, rollouts.logprobs, rollouts.ref_logprobs)
    for reward, *row in zip(rollouts.rewards, *(column or () for column in columns), strict=True):
        if (float(reward) == 1) != right:
            continue
        index, correct, logprobs, reference = row
        sums = [0.0] * len(correct)
        for step, ours, theirs in zip(index, logprobs, reference, strict=True):
            if step >= 0:
                sums[step] += float(ours) - float(theirs)
        for step, total in zip(correct, sums, strict=True):
            ratios[bool(step)].append(total)
    if not ratios[True] or not ratios[False]:
        return None
    return float(mannwhitneyu(ratios[True], ratios[False]).statistic) / (len(ratios[True]) * len(ratios[False]))
