"""Every place in OpenRLHF that this adapter touches.

No Ray hook is needed: Ray ships the class of an actor, ``modified_class``, by value, so that what is bound in the
driver arrives with it. The trainer's actors bind the rest where they arrive. The user's own
``worker_process_setup_hook`` stays as it is.
"""

from typing import Any

from advantage_zoo.binding import Binding, Point

OURS, SHIPPED = "advantage_zoo_openrlhf", "__ray_metadata__.modified_class"
TRAINER, MAKER = "openrlhf.trainer.ppo_trainer", "openrlhf.trainer.ppo_utils.experience_maker"
STEP = "self rollout_samples global_step"

BINDING = Binding(
    "openrlhf",
    (
        Point("argparse", "ArgumentParser.add_argument", "", f"{OURS}.arguments:widen"),
        Point("argparse", "ArgumentParser.parse_known_args", "args namespace", f"{OURS}.arguments:resolve_after"),
        Point(MAKER, "RemoteExperienceMaker._flatten_results", "refs", f"{OURS}.training:part_entropies"),
        Point(MAKER, "RemoteExperienceMaker.compute_advantages_and_returns", "", f"{OURS}.training:overwrite"),
        Point(TRAINER, f"PPOTrainer.{SHIPPED}.__init__", "strategy", f"{OURS}.points:bind_on_arrival"),
        Point(TRAINER, f"PPOTrainer.{SHIPPED}.train_step", STEP, f"{OURS}.training:count_and_log"),
        Point(f"{TRAINER}_async", f"TrainingActor.{SHIPPED}.__init__", "strategy", f"{OURS}.points:bind_on_arrival"),
        Point(f"{TRAINER}_async", f"TrainingActor.{SHIPPED}.train_step", STEP, f"{OURS}.training:count_and_log"),
        Point(
            "openrlhf.trainer.ray.ppo_actor",
            f"PolicyModelActor.{SHIPPED}.forward",
            "sequences action_mask",
            f"{OURS}.training:keep_entropies",
        ),
    ),
    tested=("0.11.2",),
)


def bind_on_arrival(init: Any, actor: Any, *args: Any, **kwargs: Any) -> None:
    """``__init__`` of a trainer's actor, in its own process."""
    BINDING.bind()
    init(actor, *args, **kwargs)
