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
vars(device).update(
    {name: nothing for name in ("empty_cache", "ipc_collect", "synchronize", "set_device", "reset_peak_memory_stats")}
)
vars(device).update(
    {
        name: lambda *_: 0
        for name in ("max_memory_allocated", "max_memory_reserved", "memory_allocated", "memory_reserved")
    }
)
device.is_available = lambda: True
device.current_device = lambda: torch.device("cpu")
device.device_count = lambda: 1
device.mem_get_info = lambda *_: (1 << 33, 1 << 34)
device.get_rng_state = lambda *_: torch.get_rng_state()
device.set_rng_state = lambda state, *_: torch.set_rng_state(state)
device.get_device_name = lambda *_: "cpu"


@PlatformRegistry.register(platform="cpu")
class CPU(PlatformBase):
    device_name = "cpu"
    vendor_name = "cpu"
    device_module = device

    is_available = lambda self: True  # noqa: E731
    is_platform_available = lambda self, use_smi_check=False: False  # noqa: E731
    current_device = lambda self: torch.device("cpu")  # noqa: E731
    device_count = lambda self: 1  # noqa: E731
    get_device_capability = lambda self, device_index=0: (None, None)  # noqa: E731
    communication_backend_name = lambda self: "gloo"  # noqa: E731
    visible_devices_envvar = lambda self: "CUDA_VISIBLE_DEVICES"  # noqa: E731
    ray_resource_name = lambda self: "GPU"  # noqa: E731
    ray_noset_envvars = lambda self: []  # noqa: E731
    is_ipc_supported = lambda self: False  # noqa: E731
    nvtx_range = lambda self, msg: contextlib.nullcontext()  # noqa: E731
    manual_seed = manual_seed_all = lambda self, seed: torch.manual_seed(seed) and None  # noqa: E731
    set_device = synchronize = set_allocator_settings = empty_cache = nothing
    profiler_start = profiler_stop = cudart = nothing


def register_rollout():
    """The server "hf", as soon as verl asks for its rollouts."""
    import verl.workers.rollout.base as base
    from verl.workers.rollout.replica import RolloutReplicaRegistry

    base._ROLLOUT_REGISTRY["hf", "async"] = "verl_cpu.rollout.Weights"
    RolloutReplicaRegistry.register("hf", lambda: __import__("verl_cpu.rollout", fromlist=["Replica"]).Replica)


register_rollout()
