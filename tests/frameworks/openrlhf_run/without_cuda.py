"""OpenRLHF's command line on a machine without CUDA: ``python without_cuda.py MODULE [arguments]`` runs ``python -m
MODULE [arguments]`` with these stand-ins, and no others:

- torch.cuda's device is the CPU, and so is the device mesh (``stand_in``, in every process of Ray);
- Ray is told of GPUs that are not there;
- vLLM's engine draws its tokens at random; OpenRLHF's own executor and the user's reward function do the rest;
- weights are not sent to the engine.

Policy, reference and trainer are OpenRLHF's actors, with DeepSpeed on the CPU. What the policy's replay buffer is
given, the weights it was made with, and the entropies that OpenRLHF's ``Actor`` computed with them are kept in the
folder ``WITHOUT_CUDA_OUT``.
"""

import os
import random
import runpy
import sys
from types import SimpleNamespace

OUT = os.environ.get("WITHOUT_CUDA_OUT", "")


class Cpu(str):
    """A device called cpu, which OpenRLHF writes as a number behind ``cuda:``."""

    def __format__(self, spec):
        return "0"


def stand_in():
    """A user's ``worker_process_setup_hook``: torch.cuda's device is the CPU."""
    import torch
    import torch.distributed.device_mesh as mesh

    sys.modules["flash_attn.ops.triton.cross_entropy"] = None  # OpenRLHF's own path in torch
    torch.cuda.current_device = lambda: Cpu("cpu")
    for name in ("set_device", "synchronize", "empty_cache"):
        setattr(torch.cuda, name, lambda *_: None)  # one each: torch's compiler wants no function under two names
    real = mesh.init_device_mesh
    mesh.init_device_mesh = lambda _, *args, **kwargs: real("cpu", *args, **kwargs)
    if OUT:
        with open(os.path.join(OUT, "hooks"), "a") as file:
            file.write(f"{os.getpid()}\n")


class Engine:
    """What OpenRLHF calls of vLLM's engine; tokens 3 to 63, of 1 to ``max_tokens``, 1 at the end unless cut off."""

    def __init__(self, reward):
        from openrlhf.utils.agent import SingleTurnAgentExecutor

        self.executor, self.random = SingleTurnAgentExecutor(reward), random.Random(0)

    def get_num_unfinished_requests(self):
        return 0

    async def generate(self, prompt, params, multi_modal_data=None):
        length = self.random.randint(1, params.max_tokens)
        tokens = [self.random.randint(3, 63) for _ in range(length)]
        if length < params.max_tokens:
            tokens[-1] = 1
        reason = "stop" if length < params.max_tokens else "length"
        logprobs = None if params.logprobs is None else [{token: SimpleNamespace(logprob=-1.0)} for token in tokens]
        output = SimpleNamespace(token_ids=tokens, text=str(tokens), finish_reason=reason, logprobs=logprobs)
        return SimpleNamespace(outputs=[output])

    async def generate_responses(self, num_samples, images=None, **given):
        return [await self.executor.execute(llm_engine=self, images=images, **given) for _ in range(num_samples)]


def replace_what_needs_cuda():
    import ray

    stand_in()
    init = ray.init

    def with_gpus(*args, runtime_env=None, **kwargs):
        env = dict(runtime_env or {})
        if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
            env["worker_process_setup_hook"] = "without_cuda.stand_in"
            kwargs |= {"address": "local", "num_cpus": 8, "num_gpus": 4, "include_dashboard": False}
        return init(*args, runtime_env=env, **kwargs)

    ray.init = with_gpus
    import openrlhf.trainer.ray as engines
    from openrlhf.trainer.ray.ppo_actor import PolicyModelActor

    def create_vllm_engines(*args, remote_rm_url=None, **kwargs):
        return [ray.remote(Engine).options(num_cpus=0).remote(remote_rm_url)]

    engines.create_vllm_engines = create_vllm_engines
    policy = PolicyModelActor.__ray_metadata__.modified_class
    start, append = policy.init_model_from_pretrained, policy.append

    def init_model_from_pretrained(self, *args, **kwargs):
        from openrlhf.trainer.ray.ppo_actor import ActorPPOTrainer

        ActorPPOTrainer._init_vllm_sync_group = lambda *_: None
        started, self.heard = start(self, *args, **kwargs), []

        forward = self.actor.forward

        def hear(*args, **kwargs):
            """Entropies of rollouts, in the order in which ``keep`` gets them."""
            import torch

            result = forward(*args, **kwargs)
            if not torch.is_grad_enabled() and isinstance(result, tuple):
                self.heard.append(result[1].entropy)
            return result

        self.actor.forward = hear
        return started

    def keep(self, experience):
        import torch

        number = len(os.listdir(OUT))
        weights = {k: v.clone() for k, v in self.actor.model.module.state_dict().items()}
        kept = {"experience": vars(experience), "weights": weights, "entropies": self.heard.pop(0)}
        torch.save(kept, os.path.join(OUT, f"{number:03}.pt"))
        return append(self, experience)

    policy.init_model_from_pretrained, policy.append = init_model_from_pretrained, keep
    policy.broadcast_to_vllm = lambda self: None


if __name__ == "__main__":
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    if module == "advantage_zoo_openrlhf":
        import advantage_zoo_openrlhf

        advantage_zoo_openrlhf.install()
    replace_what_needs_cuda()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
