"""A tiny model, eight prompts, a reward, the command that trains on them, and what a run leaves behind."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
METRIC = re.compile(r"([\w@/.:-]+):(?:np\.\w+\()?([-+.\w]+)\)?(?: - |$)")

STOCK = """
data.train_batch_size=4 data.max_prompt_length=32 data.max_response_length=12 data.dataloader_num_workers=0
actor_rollout_ref.model.external_lib=verl_cpu.engine actor_rollout_ref.model.use_remove_padding=False
actor_rollout_ref.model.enable_gradient_checkpointing=False
+actor_rollout_ref.model.override_config.attn_implementation=eager
actor_rollout_ref.actor.strategy=fsdp2 actor_rollout_ref.actor.use_torch_compile=False
actor_rollout_ref.actor.ppo_mini_batch_size=4 actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=16
actor_rollout_ref.actor.optim.lr=1e-2 actor_rollout_ref.actor.use_kl_loss=True
actor_rollout_ref.actor.kl_loss_coef=0.0
actor_rollout_ref.ref.strategy=fsdp2 actor_rollout_ref.ref.use_torch_compile=False
actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=16
actor_rollout_ref.rollout.name=hf actor_rollout_ref.rollout.n=4 actor_rollout_ref.rollout.n_gpus_per_node=1
actor_rollout_ref.rollout.tensor_model_parallel_size=1 actor_rollout_ref.rollout.calculate_log_probs=True
actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=16 actor_rollout_ref.rollout.agent.num_workers=1
reward.num_workers=1 trainer.n_gpus_per_node=1 trainer.nnodes=1 trainer.device=cpu trainer.logger=[console]
trainer.total_training_steps=3 trainer.val_before_train=False trainer.test_freq=-1 trainer.save_freq=-1
trainer.resume_mode=disable transfer_queue.backend.SimpleStorage.num_data_storage_units=1
+ray_kwargs.ray_init.address=local ray_kwargs.ray_init.num_cpus=16 +ray_kwargs.ray_init.num_gpus=1
+ray_kwargs.ray_init.include_dashboard=False
"""
"""What a machine like this needs; nothing of it is about the estimator but `use_kl_loss`, the reference's switch."""


@dataclass
class Run:
    """What a run has left: its exit status, output and records."""

    status: int
    output: str
    folder: Path

    @property
    def metrics(self):
        """One dictionary a step, as the console's logger printed them."""
        lines = [line.partition("step:")[2] for line in self.output.splitlines() if " - training/global_step:" in line]
        return [{name: float(value) for name, value in METRIC.findall(line)} for line in lines]

    @property
    def losses(self):
        """What reached the loss, a dictionary of (B, T) tensors an optimiser step."""
        import torch

        return [torch.load(path) for path in sorted((self.folder / "records").glob("loss_*.pt"))]

    @property
    def forward_passes(self):
        return (self.folder / "records" / "forward_passes.txt").read_text().split()

    @property
    def dumps(self):
        return sorted((self.folder / "rollouts").glob("*.parquet"))


def make_inputs(folder):
    """A model of two layers with a tokenizer of bytes, prompts, and a reward that likes letters."""
    import pandas as pd
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    fast.chat_template = (
        "{% for m in messages %}{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
    )
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
        tie_word_embeddings=False,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder / "model")
    fast.save_pretrained(folder / "model")
    rows = [
        {
            "data_source": "toy",
            "prompt": [{"role": "user", "content": f"{i}+1="}],
            "ability": "toy",
            "reward_model": {"style": "rule", "ground_truth": str(i + 1)},
            "extra_info": {"index": i},
        }
        for i in range(16)
    ]
    pd.DataFrame(rows).to_parquet(folder / "train.parquet")
    (folder / "reward.py").write_text(
        "def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):\n"
        "    return sum(letter.isalnum() for letter in solution_str) / 12\n"
    )


def dumping(folder):
    return f"+algorithm.zoo.dump_rollouts={folder}/rollouts"


def command(inputs, folder, *overrides):
    paths = [
        f"data.train_files={inputs}/train.parquet",
        f"data.val_files={inputs}/train.parquet",
        f"actor_rollout_ref.model.path={inputs}/model",
        f"reward.custom_reward_function.path={inputs}/reward.py",
        f"hydra.run.dir={folder}/hydra",
    ]
    return [sys.executable, "-m", "verl.trainer.main_ppo", *STOCK.split(), *paths, *overrides]


def train(inputs, folder, *overrides, timeout=1200, again=False, **env):
    """Run the stock command to its end, in a Ray cluster of its own, whatever else runs on this machine."""
    (folder / "records").mkdir(exist_ok=True)
    ray = tempfile.mkdtemp(prefix="ray")  # pytest's folders are too deep for the sockets in it
    ours = {
        "VERL_PLATFORM": "cpu",
        "VERL_USE_EXTERNAL_MODULES": "verl_cpu",
        "VERL_CPU_RECORDS": str(folder / "records"),
        "PYTHONPATH": str(HERE.parent),
        "PYTHONWARNINGS": "ignore",
        "HYDRA_FULL_ERROR": "1",
        "RAY_DEDUP_LOGS": "0",
        "RAY_prestart_worker_first_driver": "0",  # a process for each of the logical processors below
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [*command(inputs, folder, *overrides), f"+ray_kwargs.ray_init._temp_dir={ray}"],
        cwd=folder,
        env={**os.environ, **ours, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    shutil.rmtree(ray, ignore_errors=True)
    if done.returncode and "EADDRINUSE" in done.stdout and not again:
        # verl looks for a free port long before it listens there, and Ray's processes may have taken it meanwhile.
        return train(inputs, folder, *overrides, timeout=timeout, again=True, **env)
    return Run(done.returncode, done.stdout, folder)
