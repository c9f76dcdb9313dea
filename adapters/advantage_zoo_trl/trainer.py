"""TRL's GRPOTrainer, with advantages a token from an estimator of the zoo.

TRL computes its advantages within ``_generate_and_score_completions``. That method runs as it is; what it generates,
scores and rewards is overheard, what the estimator needs besides is computed once, and ``advantages`` is replaced by
values (B, T), which TRL's loss takes. All of TRL that this rests on is listed in :mod:`advantage_zoo_trl.points`.
"""

import inspect
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather
from torch import Tensor
from trl import GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import pad, use_adapter

from advantage_zoo import Advantages, Estimator, RolloutBatch
from advantage_zoo.adapting import describe, replaced, scalars
from advantage_zoo.rollouts import Tokens
from advantage_zoo.rollouts.messages import prompt_text
from advantage_zoo.training import Training
from advantage_zoo_trl.rollouts import Overheard, columns, reward_fields
from advantage_zoo_trl.settings import SCORES, check_origin, complete, say_what_has_no_effect, settle, warn_of_dropout

FORWARD = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)
"""What TRL's loss passes on to a forward pass, where the batch has it."""


class ZooGRPOTrainer(GRPOTrainer):
    """TRL's GRPOTrainer with an estimator of the zoo; everything else is TRL's.

    The estimator takes the place of ``scale_rewards`` and ``multi_objective_aggregation``. With ``beta=0`` a reference
    is made all the same, if the estimator needs one, and the loss has no KL term.

    Args:
        *positional: As for GRPOTrainer.
        advantage_estimator: An estimator's name or spelling, or an instance.
        estimator_args: Its parameters, and ``progress_warmup_steps``.
        dump_rollouts: A folder into which the rollouts of each generation are written, by the main process.
        **settings: As for GRPOTrainer.

    Raises:
        LookupError: No estimator has this name.
        TypeError: A parameter is unknown.
        ValueError: A parameter is out of range, the estimator needs what TRL does not have, or the folder cannot be
            written to.
    """

    def __init__(
        self,
        *positional: Any,
        advantage_estimator: str | Estimator = "ep_grpo",
        estimator_args: Mapping[str, Any] | None = None,
        dump_rollouts: str | Path | None = None,
        **settings: Any,
    ) -> None:
        given = complete(inspect.signature(super().__init__).bind(*positional, **settings).arguments)
        args = given["args"]
        self.estimator = settle(advantage_estimator, estimator_args, args)
        say_what_has_no_effect(self.estimator, args)
        check_origin(self.estimator, given)
        self._overheard: Overheard | None = None
        self._training = {mode: Training("TRL", timing="advantage/seconds") for mode in ("train", "eval")}
        self.dump_rollouts, self._dumped = dump_rollouts, (-1, 0)
        beta = args.beta
        seen = beta or float("ref_logprobs" in self.estimator.needs)
        with replaced(args, beta=seen):  # while TRL decides whether to make a reference
            super().__init__(**given)
        self.beta = beta
        warn_of_dropout(self.estimator, self.model, args)
        if dump_rollouts is not None and self.accelerator.is_main_process:
            self._training["train"].dump(dump_rollouts, self.processing_class)
        self.accelerator.print(f"advantages: {describe(self.estimator)}")

    def train(self, *given: Any, **named: Any) -> Any:
        """TRL's training; when it has ended, all rollouts are on disk."""
        training = self._training["train"]
        training.ready()
        output = super().train(*given, **named)
        try:
            training.flush()
        except Exception as error:  # the policy has been trained, and is not lost for it
            warnings.warn(f"The last rollouts are lost: {error}", stacklevel=2)
        return output

    def _generate(self, prompts: list[Any]) -> Any:
        generated = super()._generate(prompts)
        if self._overheard is not None:
            ones = [torch.ones(len(ids), dtype=torch.long) for ids in generated[1]]
            masks = ones if generated[2] is None else [torch.tensor(mask) for mask in generated[2]]
            self._overheard.attended, self._overheard.emitted = (
                pad(rows, pad_to_multiple_of=self.pad_to_multiple_of).to(self.accelerator.device)
                for rows in (ones, masks)
            )
        return generated

    def _calculate_rewards(self, *given: Any, **named: Any) -> Tensor:
        rewards = super()._calculate_rewards(*given, **named)
        if self._overheard is not None:
            self._overheard.rewards = rewards
        return rewards

    def _get_per_token_logps_and_entropies(self, model: Any, *given: Any, **named: Any) -> Any:
        if self._overheard is None:
            return super()._get_per_token_logps_and_entropies(model, *given, **named)
        named["compute_entropy"] = model is self.model  # its head gives them anyway, the reference's does not
        logps, entropies, aux = super()._get_per_token_logps_and_entropies(model, *given, **named)
        self._overheard.passes.append((logps, entropies))
        return logps, entropies, aux

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        heard = Overheard()
        with replaced(self, _overheard=heard):
            output = super()._generate_and_score_completions(inputs)
            batch = self._rollouts(inputs, heard, self._scores(output, heard))
        training = self._training["train" if self.model.training else "eval"]
        with training.timed():
            name, step = self.estimator.name, self.state.global_step
            advantages = training.estimate(batch, self.estimator, name=name, step=step)
            self._log_advantages(training, advantages, batch)
        if self.dump_rollouts is not None and self.model.training:
            with training.timed("_dump"):
                self._dump(training, self.dump_rollouts, batch, output["completion_ids"], heard.attended)
        rows, slots = output["completion_mask"].shape
        first = self.accelerator.process_index * rows
        trained = output["completion_mask"] * output.get("tool_mask", 1)  # 0 on truncated responses, if TRL masks them
        output["advantages"] = advantages.values[first : first + rows, :slots] * trained
        return output

    def _scores(self, output: dict[str, Any], heard: Overheard) -> dict[str, Tensor]:
        """Log-probabilities and entropies (b, T), from TRL's own passes where it made them, else from one of ours.

        With ``mask_truncated_completions`` TRL hides truncated responses from its passes. They are in the group all the
        same, and so its passes are of no use then.
        """
        found: dict[str, Any] = {}
        if not self.mask_truncated_completions:
            old = found["logprobs"] = output.get("old_per_token_logps")
            found["entropies"] = next((entropies for logps, entropies in heard.passes if logps is old), None)
            found["ref_logprobs"] = output.get("ref_per_token_logps")
        needs = self.estimator.needs
        if any(found.get(name) is None for name in needs & {"logprobs", "entropies"}):
            found["logprobs"], found["entropies"] = self._score(self.model, output, heard)
        if "ref_logprobs" in needs and found.get("ref_logprobs") is None:
            found["ref_logprobs"] = self._score_by_reference(output, heard)
        wanted = SCORES if self.dump_rollouts is not None else (needs | self.estimator.uses) & SCORES
        return {name: found[name] for name in sorted(wanted) if found.get(name) is not None}

    def _score(self, model: Any, output: dict[str, Any], heard: Overheard) -> tuple[Tensor, Tensor | None]:
        """One pass without gradient over this process's responses, in chunks of TRL's size."""
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
        attention = torch.cat([output["prompt_mask"], heard.attended], dim=1)  # pyright: ignore
        args = self.args
        chunk = args.per_device_train_batch_size if self.model.training else args.per_device_eval_batch_size
        more = {name: output[name] for name in FORWARD if name in output}
        with torch.no_grad(), disable_gradient_checkpointing(self.model, args.gradient_checkpointing_kwargs):
            logps, entropies, _ = self._get_per_token_logps_and_entropies(
                model, ids, attention, output["completion_ids"].size(1), batch_size=chunk, **more
            )
        return logps, entropies

    def _score_by_reference(self, output: dict[str, Any], heard: Overheard) -> Tensor:
        """The reference's log-probabilities: its own model, or the policy without its adapter, as TRL has it."""
        if self.ref_model is not None:
            return self._score(self.ref_model, output, heard)[0]
        model = self.accelerator.unwrap_model(self.model)
        with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
            return self._score(self.model, output, heard)[0]

    def _rollouts(self, inputs: list[dict[str, Any]], heard: Overheard, scores: dict[str, Tensor]) -> RolloutBatch:
        """The batch of all processes, in TRL's order: a group's responses side by side, process after process."""
        rewards, emitted = heard.rewards, heard.emitted
        assert rewards is not None
        assert emitted is not None
        tokens = torch.stack([x.float() for x in (emitted, *scores.values())], dim=-1)  # (b, T, fields)
        tokens = gather(self.accelerator.pad_across_processes(tokens, dim=1))  # (B, T, fields), in one exchange
        scored = ~rewards.isnan().all(dim=1, keepdim=True)  # (B, 1), False where every reward function said None
        size = self.num_generations if self.model.training else self.num_generations_eval
        return RolloutBatch(
            response_mask=(tokens[..., 0] > 0) & scored,  # without a token a response counts in no baseline
            group_ids=torch.arange(len(rewards), device=rewards.device) // size,
            num_groups=max(1, len(rewards) // size),
            extras={k: gather(x.to(rewards.device)) for k, x in columns(inputs, self.estimator).items()},
            **{name: tokens[..., i] for i, name in enumerate(scores, start=1)},
            **reward_fields(rewards, self.reward_weights, self.reward_func_names, self.estimator),
        )

    def _dump(self, training: Training, folder: str | Path, batch: RolloutBatch, ids: Tensor, attended: Any) -> None:
        """The rollouts of all processes, whose groups are whole, written by the main one."""
        tokens = self.accelerator.pad_across_processes(torch.stack([ids, attended], dim=-1), dim=1)  # (b, T, 2)
        tokens = gather(tokens)  # (B, T, 2)
        step, part = self.state.global_step, self._dumped[1] + 1
        self._dumped = (step, part if step == self._dumped[0] else 0)  # several generations may go into a step
        if self.accelerator.is_main_process:
            training.dump(folder, self.processing_class).write(
                batch,
                step=step,
                part=self._dumped[1],
                prompts=[prompt_text(prompt) for prompt in list(self._logs["prompt"])[-len(batch.rewards) :]],
                responses=Tokens(tokens[..., 0], tokens[..., 1]),
            )

    def _log_advantages(self, training: Training, advantages: Advantages, batch: RolloutBatch) -> None:
        """Two scalars of every estimator, and for TRL's table of completions the mean advantage of each response."""
        values, counts = advantages.values, batch.response_mask.sum(dim=1)
        shares = {
            "abs_mean": values.abs().sum() / counts.sum().clamp(min=1),
            "zero_share": ((values == 0) & batch.response_mask).sum() / counts.sum().clamp(min=1),
        }
        training.log(scalars(Advantages(values, shares), f"advantage/{self.estimator.name}"))
        shown = self._logs["advantages"]
        for _ in range(min(len(shown), len(values))):  # TRL's own
            shown.pop()
        shown.extend((values.sum(dim=1) / counts.clamp(min=1)).tolist())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's log, with the estimator's scalars; they are read from the device only here."""
        mode = "train" if self.model.training else "eval"
        for key, value in self._training[mode].metrics().items():
            self._metrics[mode][key].append(value)
        super().log(logs, start_time)
