"""What happens within a step of verl's trainer: its tensors become a RolloutBatch, and advantages come back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

import advantage_zoo as az
from advantage_zoo.adapting import critic_targets, describe
from advantage_zoo.binding import mark
from advantage_zoo.rollouts import Tokens
from advantage_zoo.rollouts.rollouts import SIGNALS
from advantage_zoo.training import Training
from advantage_zoo_verl.inputs import COLUMNS, Source, padded, rollout_batch
from advantage_zoo_verl.points import BINDING
from advantage_zoo_verl.settings import RENAMED, block_of, is_ours, resolve

TRAINING = Training("verl", timing="timing_s/advantage_zoo")
_source: ContextVar[Source] = ContextVar("source", default=Source())  # noqa: B039 - it is frozen


@contextmanager
def _knowing(**what: Any) -> Iterator[None]:
    token = _source.set(replace(_source.get(), **what))
    try:
        yield
    finally:
        _source.reset(token)


def register(registry: dict[str, Any]) -> None:
    """Enter every estimator and preset into verl's registry under its name; a name that is taken stays as it is."""
    for name in (*az.names(), *az.presets(), *RENAMED):
        registry.setdefault(name, Entry(advantages_and_returns, name))


@mark
class Entry(partial[tuple[Tensor, Tensor]]):
    """What verl's registry has under a name of ours: :func:`advantages_and_returns` of that name.

    verl lets nothing replace an entry that differs from it (core_algos.py:128). This equals everything, so that whoever
    registers an estimator of their own under a name of ours gets it.
    """

    __hash__ = partial.__hash__

    def __eq__(self, other: object) -> bool:
        return True


def know_rows(original: Callable[..., Any], trainer: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
    """The default trainer's step: which rows of the TransferQueue it is about."""
    with _knowing(trainer=trainer, rows=batch):
        return original(trainer, batch, *args, **kwargs)


def keep_entropies(original: Callable[..., Any], trainer: Any, *args: Any, **kwargs: Any) -> Any:
    """The legacy trainer's forward pass, whose entropies it drops: they stay with their rows."""
    result = original(trainer, *args, **kwargs)
    algorithm = trainer.config.algorithm
    if is_ours(algorithm.adv_estimator):
        _source.set(Source(trainer=trainer))
        estimator = resolve(algorithm.adv_estimator, algorithm)
        if "entropies" in estimator.needs | estimator.uses or block_of(algorithm, "zoo"):
            batch = (result[0] if isinstance(result, tuple) else result).batch
            batch[COLUMNS["entropies"]] = batch["entropys"]
    return result


def compute_advantage(original: Callable[..., Any], data: Any, adv_estimator: Any, *args: Any, **kwargs: Any) -> Any:
    """Call verl's function with its batch at hand for our estimator, whose name may be any spelling."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY as REGISTRY

    if is_ours(adv_estimator):
        resolve(adv_estimator, {})  # raises, and says what there is
        REGISTRY.setdefault(adv_estimator, Entry(advantages_and_returns, adv_estimator))
    with _knowing(data=data):
        result = original(data, adv_estimator, *args, **kwargs)
    result.batch.pop(COLUMNS["entropies"], None)
    return result


def compute_data_metrics(original: Callable[..., Any], batch: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Metrics of a step, for which verl reads the device anyway, and ours."""
    found = original(batch, *args, **kwargs)
    TRAINING.flush()  # Ray may end this process without notice
    return found | TRAINING.metrics()


def advantages_and_returns(
    name: str, token_level_rewards: Tensor, response_mask: Tensor, config: Any = None, index: Any = None, **_: Any
) -> tuple[Tensor, Tensor]:
    """(B, T) each, from the estimator called ``name``, as verl calls what is in its registry."""
    BINDING.refuse_if_unbound()
    source = replace(_source.get(), algorithm={} if config is None else config)
    with TRAINING.timed():
        estimator = resolve(name, source.algorithm)
        batch = rollout_batch(estimator, token_level_rewards, response_mask, index, source)
        if estimator not in TRAINING.seen:
            print(f"algorithm.adv_estimator={name}: {describe(estimator, 'verl', 'torch')}")
        values = _advantages(name, estimator, batch, source)
        returns = values if batch.values is None else critic_targets(batch, estimator, step=source.step)
    folder = block_of(source.algorithm, "zoo").get("dump_rollouts")
    if folder is not None:
        with TRAINING.timed("_dump"):
            dump(folder, batch, source)
    return values, returns


def dump(folder: Any, batch: az.RolloutBatch, source: Source) -> None:
    """Hand over the step's rollouts, with the signals that verl has, whatever the estimator needs."""
    if source.step is None:
        raise ValueError("algorithm.zoo.dump_rollouts: the legacy trainer does not tell its step in bypass mode.")
    signals = {COLUMNS[name]: name for name in SIGNALS}
    columns = source.columns(["prompts", "responses", "attention_mask", *signals])
    ids = [columns["prompts"], columns["responses"]]
    if ids[0].is_nested:
        real = [padded(torch.ones_like(rows)) for rows in ids]
    else:
        real = columns["attention_mask"].split([rows.shape[1] for rows in ids], dim=1)
    found = {signals[name]: padded(columns[name]).to(batch.rewards.device) for name in signals.keys() & columns.keys()}
    prompts, responses = (Tokens(padded(rows), present) for rows, present in zip(ids, real, strict=True))
    part = getattr(source.trainer, "local_trigger_step", 0)
    into = TRAINING.dump(str(folder), source.trainer.tokenizer)  # a name of digits is a number in YAML
    into.write(replace(batch, **found), step=source.step, part=part, prompts=prompts, responses=responses)


def _advantages(name: str, estimator: az.Estimator, batch: az.RolloutBatch, source: Source) -> Tensor:
    """(B, T); a session with several output rows is scored by its final one, as in verl's own grpo."""
    keys = [] if source.rows is None else source.rows.keys  # {uid}_{session}_{index of the output}
    parts = [(*key.rsplit("_", 1), row) for row, key in enumerate(keys)]
    last = {session: row for session, _, row in sorted(parts, key=lambda part: int(part[1]))}
    if len(last) == len(parts):
        return TRAINING.estimate(batch, estimator, name=name, step=source.step).values
    final = torch.tensor([last[session] for session, *_ in parts], device=batch.response_mask.device)  # (B,)
    mask = batch.response_mask & (final == torch.arange(len(final), device=final.device))[:, None]
    values = TRAINING.estimate(replace(batch, response_mask=mask), estimator, name=name, step=source.step).values
    score = values.gather(1, mask.int().argmax(1, keepdim=True))  # (B, 1) at the first valid token
    if bool(((values != score) & mask).any()):
        raise ValueError(
            f"algorithm.adv_estimator={name}: a session of the agent loop has several output rows, and {name} does not "
            "give one advantage to all tokens of the final one, so the others have none. Use an agent loop with one "
            "output a session, or an estimator that is uniform over tokens, such as grpo@verl."
        )
    return score[final] * batch.response_mask
