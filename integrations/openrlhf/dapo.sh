#!/usr/bin/env bash
# DAPO (arXiv:2503.14476): clip higher, dynamic sampling, mean over all tokens, overlong penalty, no KL.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec bash "$here/common.sh" \
  --algo.advantage.estimator dapo \
  --rollout.n_samples_per_prompt 16 \
  --rollout.batch_size 512 \
  --train.batch_size 512 \
  --algo.kl.init_coef 0 \
  --actor.eps_clip_low_high 0.2 0.28 \
  --actor.loss_agg_mode token-mean \
  --algo.dynamic_filtering_enable \
  --algo.dynamic_filtering_range 0 1 \
  --reward.overlong_buffer_len 512 \
  --reward.overlong_penalty_factor 1 \
  "$@"
