"""Every place in verl that this adapter touches."""

from advantage_zoo.binding import Binding, Point

PPO, OURS = "verl.trainer.ppo", "advantage_zoo_verl.training"

BINDING = Binding(
    "verl",
    (
        Point("verl.utils.config", "validate_config", "config", "advantage_zoo_verl.checking:validate_config"),
        Point(f"{PPO}.core_algos", "ADV_ESTIMATOR_REGISTRY", "", f"{OURS}:register"),
        Point(f"{PPO}.metric_utils", "compute_data_metrics", "batch", f"{OURS}:compute_data_metrics"),
        Point(f"{PPO}.ray_trainer", "compute_advantage", "data adv_estimator config", f"{OURS}:compute_advantage"),
        Point(f"{PPO}.ray_trainer", "RayPPOTrainer._compute_old_log_prob", "self batch", f"{OURS}:keep_entropies"),
        Point(f"{PPO}.v1.trainer_base", "PPOTrainer._compute_advantage", "self batch metrics", f"{OURS}:know_rows"),
    ),
    tested=("0.9.1", "0.8.0", "0.7.1"),
)
