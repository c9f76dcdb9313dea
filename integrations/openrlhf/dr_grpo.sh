#!/usr/bin/env bash
# Dr. GRPO (arXiv:2503.20783): no deviation, no KL. Its loss is a sum over a constant, which OpenRLHF does not have.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec bash "$here/common.sh" \
  --algo.advantage.estimator 'dr_grpo()' \
  --algo.kl.init_coef 0 \
  --actor.loss_agg_mode token-mean \
  "$@"
