"""Every place in OpenRLHF that this adapter touches.

No Ray hook is needed: the user's own ``worker_process_setup_hook`` stays as it is. Ray ships the class of an actor,
``modified_class``, by value, with a copy of each method that it inherits, so that what is bound in the driver arrives
with it; the rest is bound in each process where the run's arguments arrive.
"""

from dataclasses import dataclass
from typing import Any

from advantage_zoo.binding import Binding, Point

OURS, TRAINER = "advantage_zoo_openrlhf", "openrlhf.trainer"
MAKER = f"{TRAINER}.ppo_utils.experience_maker"
SHIPPED = "__ray_metadata__.modified_class"
STEP, COUNT = "self rollout_samples global_step", f"{OURS}.training:count_and_log"

BINDING = Binding(
    "openrlhf",
    (
        Point("argparse", "ArgumentParser.parse_known_args", "args namespace", f"{OURS}.arguments:parse"),
        Point(f"{TRAINER}.ray.ppo_actor", f"PolicyModelActor.{SHIPPED}.forward", "", f"{OURS}.training:add_entropies"),
        Point(MAKER, "RemoteExperienceMaker._flatten_results", "refs", f"{OURS}.training:part_entropies"),
        Point(MAKER, "RemoteExperienceMaker.compute_advantages_and_returns", "", f"{OURS}.training:overwrite"),
        Point(f"{TRAINER}.ppo_trainer", f"PPOTrainer.{SHIPPED}.train_step", STEP, COUNT),
        Point(f"{TRAINER}.ppo_trainer_async", f"TrainingActor.{SHIPPED}.train_step", STEP, COUNT),
    ),
    tested=("0.11.2",),
)


@dataclass(frozen=True)
class Run:
    """What the command line asks of the zoo: ``zoo`` in OpenRLHF's arguments, which binds OpenRLHF where it arrives.

    Args:
        estimator: The :class:`~advantage_zoo.Estimator`.
        group_size: Responses to a prompt.
        filtering: The flag by which prompts are filtered by their ``scores``; empty if they are not.
        dump: The folder for each step's rollouts; empty if they are not written.
    """

    estimator: Any
    group_size: int
    filtering: str
    dump: str

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        BINDING.bind()
