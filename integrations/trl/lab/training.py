"""One run: from a base model, with one estimator and one seed, by ZooGRPOTrainer; its curve as a CSV file."""

import csv
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import mean
from typing import Any

from advantage_zoo_transformers import collect
from advantage_zoo_trl import ZooGRPOTrainer
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from trl import GRPOConfig

from advantage_zoo.rollouts import Rollouts, write_rollouts
from lab.tasks import Task

GROUP = 8
EVAL_SEED = 10**6
"""Of held-out prompts and of their sampling: the same for all runs."""


@dataclass(frozen=True)
class Budget:
    """What every run of a study has, and all of them alike.

    Args:
        steps: Optimiser steps, on-policy.
        prompts: Prompts a step, eight responses each.
        eval_every: Steps between two evaluations.
        eval_prompts: Held-out prompts.
        eval_samples: Responses to each of them; the accuracy is their mean.
        rate: Learning rate, after the warm-up.
        warm_up: Steps in which it rises.
        learning: Steps, at most, in which the base model learns the task.
        slipping: Steps in which it learns to slip.
    """

    steps: int = 40
    prompts: int = 12
    eval_every: int = 20
    eval_prompts: int = 512
    eval_samples: int = 2
    rate: float = 2e-4
    warm_up: int = 5
    learning: int = 2000
    slipping: int = 400


@dataclass(frozen=True)
class Point:
    """One evaluation.

    Args:
        step: Optimiser steps so far.
        tokens: Response tokens that the run has sampled so far.
        accuracy: Mean over held-out prompts and samples.
        entropy: Nats a token, on them.
        length: Tokens a response, on them.
        reward: Mean of the training steps since the last evaluation, like what follows.
        zero_variance: Share of groups whose rewards were equal.
        dead_steps: Share of steps in which those of all groups were.
        without_signal: Share of tokens with an advantage of exactly 0.
        seconds: Of a step: sampling, scoring, optimising; not evaluation.
    """

    step: int
    tokens: int
    accuracy: float
    entropy: float
    length: float
    reward: float | None = None
    zero_variance: float | None = None
    dead_steps: float | None = None
    without_signal: float | None = None
    seconds: float | None = None


def sample(model: Any, reference: Any, tokenizer: Any, task: Task, prompts: int, group: int, seed: int) -> Rollouts:
    """Judged and scored responses to held-out prompts."""
    return collect(
        model,
        reference,
        task.prompts(prompts, EVAL_SEED + seed),
        task.judge,
        group,
        tokenizer=tokenizer,
        max_new_tokens=task.longest + 2,
        seed=seed,
        batch_size=256,
        progress=False,
    )


def evaluate(model: Any, tokenizer: Any, task: Task, budget: Budget, **more: Any) -> Point:
    """A point of a curve; ``more`` is what is not measured on the held-out prompts."""
    found = sample(model, None, tokenizer, task, budget.eval_prompts, budget.eval_samples, 0)
    entropies = [h for row in found.entropies or () for h in row]
    accuracy = float(mean(map(float, found.rewards)))
    return Point(accuracy=accuracy, entropy=mean(entropies), length=mean(map(len, found.tokens)), **more)


def beginning(task: Task, base: Path, budget: Budget) -> Point:
    """The first point of every run from this base model."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    return evaluate(model, tokenizer, task, budget, step=0, tokens=0)


class Curve(TrainerCallback):
    """Evaluates every so many steps, and averages what TRL logs between."""

    def __init__(
        self, task: Task, budget: Budget, tokenizer: Any, first: Point, advance: Callable[[int], None]
    ) -> None:
        self.task, self.budget, self.tokenizer, self.advance = task, budget, tokenizer, advance
        self.points = [first]
        self.since: dict[str, list[float]] = defaultdict(list)
        self.tokens = 0.0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **more: Any) -> None:
        """TRL's scalars of one step; evaluation follows, so that it has them all."""
        logs = logs or {}
        if "reward" not in logs:
            return
        self.tokens += logs["completions/mean_length"] * self.budget.prompts * GROUP
        self.since["reward"].append(logs["reward"])
        self.since["zero_variance"].append(logs["frac_reward_zero_std"])
        self.since["dead_steps"].append(float(logs["frac_reward_zero_std"] == 1))
        self.since["without_signal"].append(next(v for k, v in logs.items() if k.endswith("/zero_share")))
        self.since["seconds"].append(logs["step_time"])
        if state.global_step % self.budget.eval_every == 0 or state.global_step == self.budget.steps:
            self.evaluate(more["model"], state.global_step)
        self.advance(1)

    def evaluate(self, model: Any, step: int) -> None:
        """One more point."""
        averages = {name: mean(values) for name, values in self.since.items()}
        self.since.clear()
        tokens = round(self.tokens)
        self.points.append(
            evaluate(model, self.tokenizer, self.task, self.budget, step=step, tokens=tokens, **averages)
        )


def train(
    task: Task,
    base: Path,
    first: Point,
    estimator: str,
    seed: int,
    budget: Budget,
    file: Path,
    *,
    rollouts: bool,
    advance: Callable[[int], None],
) -> None:
    """Make one run, and write its curve to ``file``; with ``rollouts`` also those of its last policy, beside it."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    trainer = ZooGRPOTrainer(
        str(base),
        _reward(task),
        _settings(task, seed, budget, file),
        Dataset.from_dict({"prompt": task.prompts(budget.steps * budget.prompts, seed)}),
        processing_class=tokenizer,
        callbacks=[curve := Curve(task, budget, tokenizer, first, advance)],
        advantage_estimator=estimator,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    file.parent.mkdir(parents=True, exist_ok=True)
    if rollouts:
        model = trainer.accelerator.unwrap_model(trainer.model)
        reference = AutoModelForCausalLM.from_pretrained(base)
        last = sample(model, reference, tokenizer, task, budget.eval_prompts // GROUP, GROUP, 1)
        write_rollouts(last, file.with_suffix(".parquet"))
    _write(curve.points, file)


def _reward(task: Task) -> Callable[..., list[float]]:
    def right(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return [task.judge(prompt, text).reward for prompt, text in zip(prompts, completions, strict=True)]

    return right


def _settings(task: Task, seed: int, budget: Budget, file: Path) -> GRPOConfig:
    return GRPOConfig(
        output_dir=str(file.with_suffix("")),
        max_steps=budget.steps,
        per_device_train_batch_size=budget.prompts * GROUP,
        num_generations=GROUP,
        max_completion_length=task.longest + 2,
        learning_rate=budget.rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=budget.warm_up,
        adam_beta2=0.95,
        max_grad_norm=1.0,
        top_k=0,
        seed=seed,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
        dataloader_pin_memory=False,
        gradient_checkpointing=False,  # memory is not what is short
        model_init_kwargs={"attn_implementation": "eager"},  # the fastest for rows of 30 tokens
    )


def _write(points: list[Point], file: Path) -> None:
    """All of the file at once, so that a file that is there is whole."""
    new = file.with_suffix(".new")
    with new.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow([f.name for f in fields(Point)])
        writer.writerows([[getattr(point, f.name) for f in fields(Point)] for point in points])
    os.replace(new, file)
