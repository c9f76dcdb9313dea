#!/usr/bin/env bash
# dr_grpo.yaml as a command line, on top of verl's own configuration: bash dr_grpo.sh trainer.nnodes=4
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec bash "$here/common.sh" \
  algorithm.adv_estimator=dr_grpo \
  algorithm.use_kl_in_reward=false \
  actor_rollout_ref.actor.use_kl_loss=false \
  actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-sum-norm \
  'actor_rollout_ref.actor.loss_scale_factor=${data.max_response_length}' \
  actor_rollout_ref.actor.clip_ratio_low=0.2 \
  actor_rollout_ref.actor.clip_ratio_high=0.2 \
  "$@"
