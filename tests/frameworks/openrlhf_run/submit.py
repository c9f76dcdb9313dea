"""``ray job submit`` of a command, with ``without_cuda.stand_in`` as the user's hook, on a Ray cluster of its own."""

import json
import os
import subprocess
import sys

PORT, DASHBOARD = "26379", "28265"


def ray(*command):
    return subprocess.run(["ray", *command], check=True)


cluster = ("--head", "--num-cpus=8", "--num-gpus=4", f"--port={PORT}", f"--dashboard-port={DASHBOARD}")
environment = {"worker_process_setup_hook": "without_cuda.stand_in"}
ray("start", *cluster, "--disable-usage-stats")
try:
    address = f"http://127.0.0.1:{DASHBOARD}"
    options = ("--address", address, "--working-dir", os.getcwd(), "--runtime-env-json", json.dumps(environment))
    ray("job", "submit", *options, "--", sys.executable, *sys.argv[1:])
finally:
    ray("stop", "--force")
