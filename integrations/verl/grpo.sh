#!/usr/bin/env bash
# grpo.yaml as a command line, on top of verl's own configuration: bash grpo.sh trainer.nnodes=4
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec bash "$here/common.sh" \
  algorithm.adv_estimator=zoo_grpo \
  algorithm.use_kl_in_reward=false \
  actor_rollout_ref.actor.use_kl_loss=true \
  actor_rollout_ref.actor.kl_loss_coef=0.04 \
  actor_rollout_ref.actor.kl_loss_type=low_var_kl \
  actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean \
  actor_rollout_ref.actor.clip_ratio_low=0.2 \
  actor_rollout_ref.actor.clip_ratio_high=0.2 \
  "$@"
