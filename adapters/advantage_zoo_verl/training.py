"""What happens within a step of verl's trainer: its tensors become a RolloutBatch, and advantages come back."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch

import advantage_zoo as az
from advantage_zoo.adapting import describe, scalars
from advantage_zoo.binding import mark
from advantage_zoo_verl.inputs import COLUMNS, Source, rollout_batch
from advantage_zoo_verl.points import BINDING
from advantage_zoo_verl.settings import RENAMED, block_of, is_ours, resolve

_source: ContextVar[Source] = ContextVar("source", default=Source())  # noqa: B039 - it is frozen
_metrics: dict[str, torch.Tensor] = {}
_seconds: list[float] = []
_announced: set[az.Estimator] = set()


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
        registry.setdefault(name, _function(name))


def make_way(original: Callable[..., Any], name_or_enum: Any) -> Any:
    """Give up a name of ours that somebody registers an estimator of their own under, which verl would refuse."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

    if is_ours(name_or_enum):
        ADV_ESTIMATOR_REGISTRY.pop(name_or_enum, None)
    return original(name_or_enum)


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
        batch = (result[0] if isinstance(result, tuple) else result).batch
        estimator = resolve(algorithm.adv_estimator, algorithm)
        if "entropies" in estimator.needs | estimator.uses or block_of(algorithm, "zoo"):
            batch[COLUMNS["entropies"]] = batch["entropys"]
    return result


def compute_advantage(original: Callable[..., Any], data: Any, adv_estimator: Any, *args: Any, **kwargs: Any) -> Any:
    """Call verl's function with its batch at hand for our estimator, whose name may be any spelling."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY as REGISTRY

    if is_ours(adv_estimator) and adv_estimator not in REGISTRY:
        resolve(adv_estimator, {})  # raises, and says what there is
        REGISTRY[adv_estimator] = _function(adv_estimator)
    with _knowing(data=data):
        result = original(data, adv_estimator, *args, **kwargs)
    if COLUMNS["entropies"] in result.batch.keys():  # noqa: SIM118 - of a TensorDict, `in` asks for values
        result.batch.pop(COLUMNS["entropies"])
    return result


def compute_data_metrics(original: Callable[..., Any], batch: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Metrics of a step, for which verl reads the device anyway, and ours in one more transfer."""
    metrics = original(batch, *args, **kwargs)
    if _metrics:
        metrics |= dict(zip(_metrics, torch.stack([x.float() for x in _metrics.values()]).tolist(), strict=True))
    if _seconds:
        metrics["timing_s/advantage_zoo"] = sum(_seconds)
    _metrics.clear()
    _seconds.clear()
    return metrics


def _function(name: str) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """The estimator called ``name`` in the form of verl's registry: (B, T) advantages and returns."""

    def advantages_and_returns(
        token_level_rewards: torch.Tensor, response_mask: torch.Tensor, config: Any = None, index: Any = None, **_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        BINDING.refuse_if_unbound()
        start = perf_counter()
        source = replace(_source.get(), algorithm={} if config is None else config)
        estimator = resolve(name, source.algorithm)
        batch = rollout_batch(estimator, token_level_rewards, response_mask, index, source)
        if estimator not in _announced:
            _announce(name, estimator, batch)
        values = _advantages(name, estimator, batch, source)
        returns = values if batch.values is None else _lambda_returns(estimator, batch, source)
        _seconds.append(perf_counter() - start)
        folder = block_of(source.algorithm, "zoo").get("dump_rollouts")
        if folder is not None:
            from advantage_zoo_verl.dumping import dump

            dump(batch, source, folder)
        return values, returns

    return mark(advantages_and_returns)


def _announce(name: str, estimator: az.Estimator, batch: az.RolloutBatch) -> None:
    """Once a run: the slow check of the first batch, and what the estimator is, in full."""
    import verl

    az.validate(_unrounded(batch))
    _announced.add(estimator)
    print(f"algorithm.adv_estimator={name}: {describe(estimator)}, verl {verl.__version__}, torch {torch.__version__}")


def _unrounded(batch: az.RolloutBatch) -> az.RolloutBatch:
    """The batch for the check alone: engines that compute in bfloat16 bring entropies of -0.1 and the like."""
    signs = {"logprobs": -1, "ref_logprobs": -1, "entropies": 1}
    fields = {name: (sign, getattr(batch, name)) for name, sign in signs.items() if getattr(batch, name) is not None}
    mended = {
        name: torch.where(sign * x > -0.5, sign * (sign * x).clamp(min=0), x) for name, (sign, x) in fields.items()
    }
    return replace(batch, **mended)


def _advantages(name: str, estimator: az.Estimator, batch: az.RolloutBatch, source: Source) -> torch.Tensor:
    """(B, T); a session with several output rows is scored by its final one, as in verl's own grpo."""
    final = source.final_rows()
    scored = batch
    if final is not None:
        last = final == torch.arange(len(final))
        scored = replace(batch, response_mask=batch.response_mask & last.to(batch.response_mask.device)[:, None])
    advantages = az.compute_advantages(scored, estimator, step=source.step)
    _metrics.update(scalars(advantages, "advantage/" + re.sub(r"[^\w@:.-]+", "_", name).strip("_")))
    if final is None:
        return advantages.values
    mask, values = scored.response_mask, advantages.values
    score = values.gather(1, mask.int().argmax(1, keepdim=True))  # (B, 1) at the first valid token
    if bool(((values != score) & mask).any()):
        raise ValueError(
            f"algorithm.adv_estimator={name}: a session of the agent loop has several output rows, and {name} does not "
            "give one advantage to all tokens of the final one, so the others have none. Use an agent loop with one "
            "output a session, or an estimator that is uniform over tokens, such as grpo@verl."
        )
    return score[final.to(score.device)] * batch.response_mask


def _lambda_returns(estimator: az.Estimator, batch: az.RolloutBatch, source: Source) -> torch.Tensor:
    """(B, T) the critic's targets: values and what the estimator adds to them before any whitening or clipping."""
    return az.compute_advantages(batch, _bare(estimator), step=source.step).values + batch.values


def _bare(estimator: Any) -> az.Estimator:
    """The estimator without what changes its advantages afterwards; GAE's presets all whiten."""
    if hasattr(estimator, "estimator"):
        return replace(estimator, estimator=_bare(estimator.estimator), after=())
    if isinstance(estimator, az.estimators.GAE):
        return replace(estimator, whiten=False)
    if hasattr(estimator, "lam"):
        return az.estimators.GAE(discount=estimator.discount, lam=estimator.lam)
    return estimator
