"""Rollouts from any transformers causal language model: sample them, score them, write them.

    from advantage_zoo_transformers import collect
    rollouts = collect(model, ref_model, prompts, reward, group_size=8, tokenizer=tokenizer)

Which distribution: log-probabilities and entropies are those of softmax(logits / temperature) over the whole
vocabulary, as training frameworks define them. Sampling with ``top_p`` < 1 draws from that distribution's truncation,
but is scored under the whole one: truncated, the reference would give most tokens a log-probability of minus infinity.

Importing this package imports nothing heavy, as the command line asks it for its commands.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advantage_zoo_transformers.disk import collect_from_disk
    from advantage_zoo_transformers.files import Scored, score_files
    from advantage_zoo_transformers.heads import WholeRowsWarning
    from advantage_zoo_transformers.sampling import collect
    from advantage_zoo_transformers.scoring import Scores, score
    from advantage_zoo_transformers.verdicts import Step, Verdict

__all__ = [
    "Scored",
    "Scores",
    "Step",
    "Verdict",
    "WholeRowsWarning",
    "collect",
    "collect_from_disk",
    "score",
    "score_files",
]

_MODULES = {
    "disk": ("collect_from_disk",),
    "files": ("Scored", "score_files"),
    "heads": ("WholeRowsWarning",),
    "sampling": ("collect",),
    "scoring": ("Scores", "score"),
    "verdicts": ("Step", "Verdict"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
