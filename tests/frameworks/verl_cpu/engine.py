"""Test only, loaded by `actor_rollout_ref.model.external_lib`: FSDP's engine on the CPU, and records of what it does.

Records are files in the folder `VERL_CPU_RECORDS`: a line of forward_passes.txt for each forward pass, loss_*.pt with
what reached the loss. `VERL_CPU_KILL=N` kills the worker in its N-th loss.
"""

import itertools
import os
import signal
from pathlib import Path

import torch
import torch.distributed
from verl.trainer.ppo import core_algos
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

records = Path(os.environ["VERL_CPU_RECORDS"])
losses = itertools.count(1)


@EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device=["cpu"])
class CPUEngine(FSDPEngineWithLMHead):
    def forward_step(self, micro_batch, loss_function, forward_only):
        with (records / "forward_passes.txt").open("a") as file:
            print("inference" if forward_only else "training", file=file)
        return super().forward_step(micro_batch, loss_function=loss_function, forward_only=forward_only)


def on_gloo(backend=None, *args, _original=torch.distributed.init_process_group, **kwargs):
    """verl asks for its platform's backend twice over, "cpu:gloo,cpu:gloo", which PyTorch refuses."""
    return _original("cpu:gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *args, **kwargs)


vanilla = core_algos.get_policy_loss_fn("vanilla")


def recorded(old_log_prob, log_prob, advantages, response_mask, *args, **kwargs):
    number = next(losses)
    if str(number) == os.environ.get("VERL_CPU_KILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    seen = {"old_log_prob": old_log_prob, "advantages": advantages, "response_mask": response_mask}
    torch.save({name: x.detach().float() for name, x in seen.items()}, records / f"loss_{number:03d}.pt")
    return vanilla(old_log_prob, log_prob, advantages, response_mask, *args, **kwargs)


torch.distributed.init_process_group = on_gloo
torch.Tensor.pin_memory = lambda self, *_, **__: self  # there is nothing to pin memory for
core_algos.POLICY_LOSS_REGISTRY["vanilla"] = recorded
