"""Where this adapter touches TRL: `advantage-zoo doctor` and the tests hold the list against the installed release."""

import importlib
import inspect
from dataclasses import dataclass
from operator import attrgetter

TESTED = "1.16.0"
TRAINER = "trl.trainer.grpo_trainer"


@dataclass(frozen=True)
class Point:
    """A function of TRL that the adapter overrides or relies on.

    Args:
        module: Its module.
        name: Its name there.
        why: What the adapter does with it.
        statements: Lines of it on which that rests, whatever their line breaks.
    """

    module: str
    name: str
    why: str
    statements: tuple[str, ...]

    def problem(self) -> str:
        """What is not as it should be, in a sentence; nothing if all is well."""
        try:
            source = inspect.getsource(attrgetter(self.name)(importlib.import_module(self.module)))
        except (ImportError, AttributeError, OSError) as error:
            return f"{self.module}.{self.name} is not there ({error}); install trl {TESTED}."
        lacks = [text for text in self.statements if "".join(text.split()) not in "".join(source.split())]
        return f"{self.name} has no {lacks[0]!r}; install trl {TESTED}." if lacks else ""


POINTS = (
    Point(
        TRAINER,
        "GRPOTrainer.__init__",
        "makes the reference; told for that time that beta is not 0, where the estimator needs one",
        (
            "self.beta = args.beta",
            "if self.beta == 0.0: # If beta is 0.0, the reference model is not needed",
            "elif is_peft_model(model) and args.beta != 0.0:",
            'model.add_adapter("ref", default_config)',
        ),
    ),
    Point(
        TRAINER,
        "GRPOTrainer.train",
        "runs as it is; waits at its end until rollouts are on disk",
        ("def train(",),
    ),
    Point(
        TRAINER,
        "GRPOTrainer._generate_and_score_completions",
        "runs as it is; its `advantages` and the logged ones are replaced",
        (
            "(prompt_ids_list, completion_ids_list, tool_mask_list, completions, sampling_per_token_logps_list,",
            ") = self._generate(prompts)",
            "rewards_per_func = self._calculate_rewards(inputs, prompts, completions, completion_ids_list)",
            "old_per_token_logps, _, _ = self._get_per_token_logps_and_entropies(self.model,",
            "rewards.view(-1, num_generations)",
            "self.accelerator.process_index * len(prompts),",
            '"advantages": advantages,',
            'output["old_per_token_logps"] = old_per_token_logps',
            'output["ref_per_token_logps"] = ref_per_token_logps',
            'self._logs["prompt"].extend(gather_object(prompts))',
            'self._logs["advantages"].extend(all_process_advantages.tolist())',
        ),
    ),
    Point(
        TRAINER,
        "GRPOTrainer._generate",
        "overheard: which tokens the policy emitted",
        ("return prompt_ids, completion_ids, tool_mask, completions,",),
    ),
    Point(
        TRAINER,
        "GRPOTrainer._calculate_rewards",
        "overheard: each reward function's rewards, of all processes",
        ("rewards_per_func = gather(rewards_per_func) return rewards_per_func",),
    ),
    Point(
        TRAINER,
        "GRPOTrainer._get_per_token_logps_and_entropies",
        "overheard while TRL scores, and called for what it does not score",
        (
            "self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False,",
            "return logps, entropies, aux_loss",
        ),
    ),
    Point(
        TRAINER,
        "GRPOTrainer._compute_loss",
        "takes advantages (B, T)",
        ("if advantages.dim() == 1: advantages = advantages.unsqueeze(1)", "per_token_loss1 = coef_1 * advantages"),
    ),
    Point(
        TRAINER,
        "GRPOTrainer.log",
        "overridden: the estimator's scalars go with TRL's",
        ("for key, val in self._metrics[mode].items():",),
    ),
    Point(
        "trl.scripts.grpo",
        "main",
        "run by zoo-grpo, with the trainer exchanged",
        ("from trl import GRPOTrainer,", "trainer = GRPOTrainer("),
    ),
)
