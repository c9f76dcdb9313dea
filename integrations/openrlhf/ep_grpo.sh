#!/usr/bin/env bash
# EP-GRPO (arXiv:2605.04960). The paper's process signal is stable after about 200 steps: its weight rises until then.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec bash "$here/common.sh" \
  --algo.advantage.estimator ep_grpo \
  --zoo.config "$here/ep_grpo.yaml" \
  --algo.kl.use_loss \
  --algo.kl.estimator k3 \
  --algo.kl.init_coef 0.04 \
  --actor.loss_agg_mode seq-mean-token-mean \
  "$@"
