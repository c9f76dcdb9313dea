"""What the tests of the trainer share: the warnings that are not ours, an adapter, a single step, its rewards."""

import pytest
from peft import LoraConfig

# TRL's use of transformers, and PyTorch's of itself.
QUIET = [
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Groups? of one"),
]
LORA = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


def rewards_of(trainer):
    return list(trainer._logs["rewards"]["few_digits"])


def once(**changes):
    return {"max_steps": 1, **changes}
