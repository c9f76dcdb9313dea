#!/usr/bin/env bash
# ep_grpo.yaml as a command line, on top of verl's own configuration: bash ep_grpo.sh trainer.nnodes=4
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec bash "$here/common.sh" \
  algorithm.adv_estimator=ep_grpo \
  algorithm.use_kl_in_reward=false \
  +algorithm.ep_grpo.num_buckets=10 \
  +algorithm.ep_grpo.progress_weight=0.2 \
  +algorithm.ep_grpo.progress_warmup_steps=200 \
  actor_rollout_ref.actor.use_kl_loss=true \
  actor_rollout_ref.actor.kl_loss_coef=0.0 \
  actor_rollout_ref.actor.loss_agg_mode=token-mean \
  actor_rollout_ref.actor.clip_ratio_low=0.2 \
  actor_rollout_ref.actor.clip_ratio_high=0.2 \
  "$@"
