"""Test only: verl 0.9's stock trainer on a machine without an accelerator.

`VERL_USE_EXTERNAL_MODULES=verl_cpu VERL_PLATFORM=cpu python -m verl.trainer.main_ppo ...` trains for real: the agent
loop, the TransferQueue, Ray, FSDP2 on gloo, old and reference log-probabilities, the loss, the optimiser, the
synchronisation of weights. What stands in for what a CPU cannot have:

- platform.py: a platform "cpu", which verl does not have; one worker, that calls itself a GPU to Ray.
- engine.py: FSDP's engine, registered for the CPU, and records of what it does, for the tests.
- rollout.py: a server that samples from a transformers model, in the place of vLLM.
- launch.py: a tiny model, data, a reward, the command, and what it leaves behind.
"""

import os

if os.environ.get("VERL_PLATFORM") == "cpu":
    from verl_cpu import platform  # noqa: F401 - it registers itself
