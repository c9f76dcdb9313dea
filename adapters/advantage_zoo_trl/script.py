"""`zoo-grpo`: TRL's GRPO script, with an estimator of the zoo.

It takes the arguments of `trl grpo`, a YAML file with `--config` among them, and two more. Several processes:
`accelerate launch -m advantage_zoo_trl.script --config grpo.yaml`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

try:
    import trl
except ModuleNotFoundError as error:
    raise SystemExit(f"zoo-grpo needs TRL ({error}): pip install 'advantage-zoo[trl]'.") from error
from trl import DatasetMixtureConfig, GRPOConfig, ModelConfig, TrlParser
from trl.scripts import grpo

from advantage_zoo_trl.trainer import ZooGRPOTrainer


@dataclass
class ZooScriptArguments(grpo.GRPOScriptArguments):
    """TRL's arguments of the script, and the estimator.

    Args:
        advantage_estimator: An estimator's name or spelling.
        estimator_args: Its parameters: JSON on the command line, a mapping in a YAML file.
        dump_rollouts: A folder for the rollouts of each generation.
    """

    advantage_estimator: str = field(
        default="ep_grpo",
        metadata={"help": "An estimator's name or spelling, as `advantage-zoo list` shows them."},
    )
    estimator_args: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": 'Its parameters, as JSON: \'{"num_buckets": 5, "progress_warmup_steps": 200}\'.'},
    )
    dump_rollouts: str | None = field(
        default=None,
        metadata={"help": "A folder for the rollouts of each generation, which `advantage-zoo compare` reads."},
    )

    def parameters(self) -> dict[str, Any]:
        """``estimator_args`` as a mapping.

        Raises:
            ValueError: It is neither a mapping nor one in JSON.
        """
        given = self.estimator_args
        try:
            read = json.loads(given) if isinstance(given, str) else given or {}
        except json.JSONDecodeError as error:
            raise ValueError(f"--estimator_args is {given!r}, which is no JSON: {error}.") from error
        if not isinstance(read, dict):
            raise ValueError(f"--estimator_args is {given!r}; expected a mapping, as in '{{\"num_buckets\": 5}}'.")
        return read


def main(words: Sequence[str] | None = None) -> None:
    """Train as the arguments say."""
    types: Any = (ZooScriptArguments, GRPOConfig, ModelConfig, DatasetMixtureConfig)
    script, training, model, dataset = TrlParser(types, prog="zoo-grpo").parse_args_and_config(words)
    trainer = partial(
        ZooGRPOTrainer,
        advantage_estimator=script.advantage_estimator,
        estimator_args=script.parameters(),
        dump_rollouts=script.dump_rollouts,
    )
    with mock.patch.object(trl, "GRPOTrainer", trainer):  # TRL's script looks it up there
        grpo.main(script, training, model, dataset)


if __name__ == "__main__":
    main()
