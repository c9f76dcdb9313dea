"""Any estimator of the zoo in TRL's GRPOTrainer.

    from advantage_zoo_trl import ZooGRPOTrainer
    trainer = ZooGRPOTrainer(model, rewards, args, dataset, advantage_estimator="ep_grpo", estimator_args={})

Importing this package imports neither TRL nor PyTorch, so that `advantage-zoo doctor` can say that they are not there.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advantage_zoo_trl.trainer import ZooGRPOTrainer

__all__ = ["ZooGRPOTrainer"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from advantage_zoo_trl.trainer import ZooGRPOTrainer

    return ZooGRPOTrainer
