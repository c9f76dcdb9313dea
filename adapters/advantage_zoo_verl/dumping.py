"""``+algorithm.zoo.dump_rollouts=FOLDER``: each step's rollouts in a file that ``advantage-zoo compare`` reads."""

from pathlib import Path
from typing import Any

import torch

from advantage_zoo import RolloutBatch
from advantage_zoo.rollouts import Rollouts, write_rollouts
from advantage_zoo.rollouts.rollouts import SIGNALS
from advantage_zoo_verl.inputs import COLUMNS, Source, padded


def dump(batch: RolloutBatch, source: Source, folder: str) -> Path:
    """Write the step's rollouts to ``FOLDER/step_NNNNNN.parquet``, whole or not at all; rows of padding are left out.

    Args:
        batch: What the estimator was given: rewards, mask and groups.
        source: Where the tokens, the signals and the tokenizer are.
        folder: The folder, made if it is not there.
    """
    if source.trainer is None or source.step is None:
        raise ValueError("algorithm.zoo.dump_rollouts: the legacy trainer does not tell its step in bypass mode.")
    wanted = {name: COLUMNS[name] for name in SIGNALS}
    columns = source.columns(["prompts", "responses", "attention_mask", *wanted.values()])
    rows = batch.response_mask.any(1).nonzero()[:, 0].tolist()
    prompts, responses = _ids(columns["prompts"], columns, first=True), _ids(columns["responses"], columns, first=False)
    tokenizer = source.trainer.tokenizer
    text = {i: tokenizer.decode([i]) for i in {i for ids in responses for i in ids}}
    signals: dict[str, Any] = {
        name: [x[: len(responses[row])].cpu().numpy() for row, x in enumerate(padded(columns[column]))]
        for name, column in wanted.items()
        if column in columns
    }
    masks = batch.response_mask.tolist()
    rollouts = Rollouts(
        prompts=[tokenizer.decode(prompts[row]) for row in rows],
        texts=[tokenizer.decode(responses[row]) for row in rows],
        tokens=[[text[i] for i in responses[row]] for row in rows],
        token_ids=[responses[row] for row in rows],
        rewards=[batch.rewards[row].item() for row in rows],
        groups=[int(batch.group_ids[row]) for row in rows],
        response_mask=[masks[row][: len(responses[row])] for row in rows],
        **{name: [x[row] for row in rows] for name, x in signals.items()},
        metadata={"source": "verl", "step": source.step},
    )
    local = getattr(source.trainer, "local_trigger_step", 0) or 0
    path = Path(folder) / f"step_{source.step:06d}{f'_{local}' if local else ''}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rollouts(rollouts, path)
    return path


def _ids(ids: torch.Tensor, columns: dict[str, Any], *, first: bool) -> list[list[int]]:
    """Token ids without padding, of the prompts, which come first in the attention mask, or of the responses."""
    if ids.is_nested:
        return [row.tolist() for row in ids.unbind()]
    width = ids.shape[1]
    real = columns["attention_mask"][:, :width] if first else columns["attention_mask"][:, -width:]
    return [row[keep != 0].tolist() for row, keep in zip(ids, real, strict=True)]
