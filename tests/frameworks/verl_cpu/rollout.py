"""Test only: a Ray actor that samples from a transformers model, in the place of vLLM."""

import ray
import torch
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, TokenOutput

NAME = "verl_cpu_server"


async def nothing(*_, **__):
    return None


@ray.remote(num_cpus=0)
class Server:
    def __init__(self, path, longest):
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path)).eval()
        self.longest = longest
        self.step = None

    async def generate(self, request_id, prompt_ids, sampling_params, **_):
        assert self.step is not None, "the policy's weights have never arrived"
        longest = sampling_params.get("max_tokens") or sampling_params.get("max_new_tokens") or self.longest
        temperature = sampling_params.get("temperature", 1.0) or 1.0
        ids, logprobs = torch.tensor([list(prompt_ids)]), []
        with torch.no_grad():
            for _ in range(longest):
                scores = torch.log_softmax(self.model(ids).logits[0, -1].float() / temperature, -1)
                token = torch.multinomial(scores.exp(), 1)
                ids = torch.cat([ids, token[None]], 1)
                logprobs.append(float(scores[token]))
                if int(token) % 8 == 1:  # the end of a sequence, often enough that responses differ in length
                    break
        tokens = ids[0, len(prompt_ids) :].tolist()
        extra = {"global_steps": self.step}
        return TokenOutput(token_ids=tokens, log_probs=logprobs, stop_reason="completed", extra_fields=extra)

    async def update_weights(self, weights, step):
        self.model.load_state_dict(weights)
        self.step = step or 0

    wake_up = sleep = abort_all_requests = resume_generation = clear_kv_cache = nothing
    release_kv_cache = resume_kv_cache = start_profile = stop_profile = nothing


class Replica(RolloutReplica):
    async def launch_servers(self):
        server = Server.options(name=NAME).remote(self.model_config.path, self.config.response_length)
        self.servers, self._server_handle, self._server_address = [server], server, NAME


class Weights(BaseRollout):
    """What the actor's worker uses to send its weights."""

    async def resume(self, tags):
        pass

    async def release(self):
        pass

    async def update_weights(self, weights, wire_format="named_tensors", global_steps=None, **_):
        whole = {name: (w.full_tensor() if hasattr(w, "full_tensor") else w).detach().cpu() for name, w in weights}
        await ray.get_actor(NAME).update_weights.remote({name: w.clone() for name, w in whole.items()}, global_steps)
