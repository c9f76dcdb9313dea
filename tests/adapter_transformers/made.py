"""What the tests of scoring files are made of: rollouts of the tiny tokenizer, and the scores that they must get."""

import pytest

torch = pytest.importorskip("torch")
tf = pytest.importorskip("transformers", minversion="4.56")  # a version: this folder has the name, too
pytest.importorskip("pyarrow")

import json  # noqa: E402

import numpy as np  # noqa: E402
from advantage_zoo_transformers import score_files  # noqa: E402
from made_rollouts import rollout_file  # noqa: E402
from tiny_models import ALPHABET, EOS, make, plain_scores, tokenizer  # noqa: E402

from advantage_zoo.rollouts.rollouts import SIGNALS  # noqa: E402

ROW = {"prompt": "1+2=", "text": "3", "reward": 1.0}


def ids_of(text):
    return tokenizer()(text, add_special_tokens=False)["input_ids"]


def texts(rows=9):
    rng = np.random.default_rng(2)
    return ["".join(rng.choice(list(ALPHABET), n)) for n in rng.integers(1, 12, rows)]


def our_file(path, **changes):
    """Rollouts whose ids are the tiny tokenizer's, without signals."""
    responses = texts()
    ids = [[*ids_of(text), EOS] for text in responses]
    fields = {
        "prompts": [f"{row // 3}+4=" for row in range(9)],
        "texts": responses,
        "tokens": [[*text, "<eos>"] for text in responses],
        "token_ids": ids,
        "step_index": [[-1] * len(row) for row in ids],
        **dict.fromkeys(SIGNALS),
    }
    return rollout_file(path, **{**fields, **changes})


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(place, source, **changes):
    given = {"model": str(place / "policy"), "ref_model": str(place / "base"), "progress": False}
    return score_files([source], place / "out.parquet", **{**given, **changes})


def assert_scored(rollouts, prompts, seeds=(("logprobs", 0), ("ref_logprobs", 1)), temperature=1.0):
    """Every signal is that of one full forward pass a row, in float64."""
    for name, seed in seeds:
        model = make("llama", seed=seed)
        for row, (prompt, response) in enumerate(zip(prompts, rollouts.token_ids, strict=True)):
            logprobs, entropies = plain_scores(model, prompt, response, temperature)
            np.testing.assert_allclose(getattr(rollouts, name)[row], logprobs, atol=2e-5, rtol=1e-4)
            if name == "logprobs":
                np.testing.assert_allclose(rollouts.entropies[row], entropies, atol=2e-5, rtol=1e-4)
