#!/usr/bin/env bash
# What the four methods share; later flags win: bash ep_grpo.sh --actor.num_gpus_per_node 4
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec python -m advantage_zoo_openrlhf train_ppo_ray \
  --actor.model_name_or_path Qwen/Qwen2.5-3B \
  --data.prompt_dataset prompts.jsonl \
  --data.input_key prompt \
  --data.label_key answer \
  --data.max_len 4096 \
  --reward.remote_url "$here/reward.py" \
  --rollout.n_samples_per_prompt 8 \
  --rollout.batch_size 128 \
  --rollout.micro_batch_size 8 \
  --rollout.max_new_tokens 3072 \
  --rollout.temperature 1.0 \
  --train.batch_size 1024 \
  --train.micro_batch_size 4 \
  --train.num_episodes 10 \
  --train.colocate_all \
  --actor.num_gpus_per_node 8 \
  --actor.adam.lr 1e-6 \
  --actor.gradient_checkpointing_enable \
  --ref.num_gpus_per_node 8 \
  --vllm.num_engines 8 \
  --vllm.gpu_memory_utilization 0.6 \
  --vllm.enable_sleep \
  --ds.enable_sleep \
  --ds.zero_stage 3 \
  --ds.packing_samples \
  --ckpt.output_dir checkpoints \
  "$@"
