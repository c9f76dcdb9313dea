"""The platform "cpu", and the rollout server "hf", which are registered before verl has been imported to the end."""

import contextlib
import types

import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry


def nothing(*_, **__):
    return None


device = types.ModuleType("verl_cpu_device")
vars(device).update({name: value for name, value in vars(torch.cpu).items() if not name.startswith("__")})
for name in ("empty_cache", "ipc_collect", "synchronize", "set_device", "reset_peak_memory_stats"):
    setattr(device, name, nothing)
for name in ("max_memory_allocated", "max_memory_reserved", "memory_allocated", "memory_reserved"):
    setattr(device, name, lambda *_: 0)
device.is_available = lambda: True
device.current_device = lambda: torch.device("cpu")
device.device_count = lambda: 1
device.mem_get_info = lambda *_: (1 << 33, 1 << 34)
device.get_rng_state = lambda *_: torch.get_rng_state()
device.set_rng_state = lambda state, *_: torch.set_rng_state(state)
device.get_device_name = lambda *_: "cpu"


def always(value):
    return lambda *_, **__: value


@PlatformRegistry.register(platform="cpu")
class CPU(PlatformBase):
    device_name = "cpu"
    vendor_name = "cpu"
    device_module = device

    is_available = always(True)
    is_platform_available = always(False)
    current_device = always(torch.device("cpu"))
    device_count = always(1)
    get_device_capability = always((None, None))
    communication_backend_name = always("gloo")
    visible_devices_envvar = always("CUDA_VISIBLE_DEVICES")
    ray_resource_name = always("GPU")
    ray_noset_envvars = always([])
    is_ipc_supported = always(False)
    nvtx_range = always(contextlib.nullcontext())
    set_device = synchronize = set_allocator_settings = empty_cache = nothing
    profiler_start = profiler_stop = cudart = nothing

    def manual_seed(self, seed):
        torch.manual_seed(seed)

    manual_seed_all = manual_seed


def register_rollout():
    """The server "hf", as soon as verl asks for its rollouts."""
    import verl.workers.rollout.base as base
    from verl.workers.rollout.replica import RolloutReplicaRegistry

    base._ROLLOUT_REGISTRY["hf", "async"] = "verl_cpu.rollout.Weights"
    RolloutReplicaRegistry.register("hf", lambda: __import__("verl_cpu.rollout", fromlist=["Replica"]).Replica)


register_rollout()
