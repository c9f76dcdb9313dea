#!/usr/bin/env bash
# GRPO (arXiv:2402.03300): mean over each response's tokens, then over responses; KL in the loss.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec bash "$here/common.sh" \
  --algo.advantage.estimator grpo \
  --algo.kl.use_loss \
  --algo.kl.estimator k3 \
  --algo.kl.init_coef 0.04 \
  --actor.loss_agg_mode seq-mean-token-mean \
  "$@"
