"""A few real steps of TRL's GRPOTrainer, or of ours, on a tiny model that lies in a folder."""

import numpy as np
import tiny_models
import torch
from advantage_zoo_trl import ZooGRPOTrainer
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import GRPOConfig

import advantage_zoo as az

PROMPTS = ("1+2=", "33+4=", "5+6+7=", "9=")
WIDTH = 6


def save_model(folder):
    """The folder, with a model and its tokenizer: TRL loads the reference from where the policy came from."""
    tiny_models.make("llama", scale=0.5).save_pretrained(folder)
    tiny_models.tokenizer().save_pretrained(folder)
    return str(folder)


def strayed(folder):
    """A policy that is no longer the reference in ``folder``."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * weight.std().nan_to_num() * torch.randn_like(weight))
    return model


def few_digits(completions, **_):
    """1 for less than two digits: most groups hold both."""
    return [float(sum(c.isdigit() for c in text) < 2) for text in completions]


def length(completions, **_):
    return [len(text) / WIDTH for text in completions]


def config(folder, **changes):
    settings = {
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": WIDTH,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
    }
    return GRPOConfig(**{**settings, **changes})


def prompts(times=4, **columns):
    rows = list(PROMPTS) * times
    return Dataset.from_dict({"prompt": rows, **{name: values * times for name, values in columns.items()}})


class Watched(ZooGRPOTrainer):
    """Keeps what it hands to the loss, and the policy that sampled it."""

    def __init__(self, *given, **named):
        self.outputs, self.policies, self.losses = [], [], []
        super().__init__(*given, **named)

    def _generate_and_score_completions(self, inputs):
        policy = self.accelerator.unwrap_model(self.model)
        self.policies.append({name: x.detach().clone() for name, x in policy.state_dict().items()})
        output = super()._generate_and_score_completions(inputs)
        self.outputs.append(dict(output))
        return output

    def _compute_loss(self, model, inputs):
        self.losses.append(dict(inputs))
        return super()._compute_loss(model, inputs)


def scored_anew(outputs, rewards, policy, reference, size=4, emitted=None):
    """The batch of ``outputs``, one a process, with scores from one plain forward pass a response, in float64."""
    texts = [
        (row["prompt_ids"][i][row["prompt_mask"][i] > 0].tolist(), row["completion_ids"][i].tolist())
        for row in outputs
        for i in range(len(row["prompt_ids"]))
    ]
    masks = [m.tolist() for row in outputs for m in row["completion_mask"] * row.get("tool_mask", 1)]
    lengths = [sum(m.tolist()) for row in outputs for m in row["completion_mask"]]
    width = max(map(len, masks))
    names = ("logprobs", "entropies", "ref_logprobs")
    fields = {name: np.zeros((len(texts), width)) for name in names}
    mask = np.zeros((len(texts), width), dtype=bool)
    for i, (prompt, response) in enumerate(texts):
        mask[i, : len(masks[i])] = masks[i]
        here = response[: lengths[i]]
        fields["logprobs"][i, : lengths[i]], fields["entropies"][i, : lengths[i]] = tiny_models.plain_scores(
            policy, prompt, here
        )
        fields["ref_logprobs"][i, : lengths[i]] = tiny_models.plain_scores(reference, prompt, here)[0]
    return az.RolloutBatch(
        rewards=np.asarray(rewards, dtype=float),
        response_mask=mask if emitted is None else emitted,
        group_ids=np.arange(len(texts)) // size,
        num_groups=len(texts) // size,
        **fields,
    )
