#!/usr/bin/env bash
# dapo.yaml as a command line, on top of verl's own configuration: bash dapo.sh trainer.nnodes=4
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec bash "$here/common.sh" \
  data.train_batch_size=512 \
  data.max_prompt_length=2048 \
  data.max_response_length=20480 \
  algorithm.adv_estimator=dapo \
  algorithm.use_kl_in_reward=false \
  algorithm.filter_groups.enable=true \
  algorithm.filter_groups.metric=acc \
  actor_rollout_ref.actor.ppo_mini_batch_size=32 \
  actor_rollout_ref.actor.ppo_max_token_len_per_gpu=24576 \
  actor_rollout_ref.actor.use_kl_loss=false \
  actor_rollout_ref.actor.clip_ratio_low=0.2 \
  actor_rollout_ref.actor.clip_ratio_high=0.28 \
  actor_rollout_ref.actor.clip_ratio_c=10.0 \
  actor_rollout_ref.actor.loss_agg_mode=token-mean \
  actor_rollout_ref.rollout.n=16 \
  reward.reward_manager.name=dapo \
  '+reward.reward_kwargs.max_resp_len=${data.max_response_length}' \
  +reward.reward_kwargs.overlong_buffer_cfg.enable=true \
  +reward.reward_kwargs.overlong_buffer_cfg.len=4096 \
  +reward.reward_kwargs.overlong_buffer_cfg.penalty_factor=1.0 \
  +reward.reward_kwargs.overlong_buffer_cfg.log=false \
  "$@"
