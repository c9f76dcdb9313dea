"""``ray job submit`` of a command, with ``without_cuda.stand_in`` as the user's hook, to a Ray cluster of its own.

Ray chooses every port by binding it: one that is chosen before somebody may take in between.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from ray.cluster_utils import Cluster

RAY = str(Path(sys.executable).with_name("ray"))
PORTS = {"dashboard_port": None, "dashboard_agent_listen_port": 0}
"""The first that is free from 8265 on, and any."""
HEAD = {"num_cpus": 8, "num_gpus": 4, "include_dashboard": True, **PORTS}


def submit(address):
    environment = {"worker_process_setup_hook": "without_cuda.stand_in"}
    options = ("--working-dir", os.getcwd(), "--runtime-env-json", json.dumps(environment))
    return subprocess.run(
        [RAY, "job", "submit", "--address", address, *options, "--", sys.executable, *sys.argv[1:]]
    ).returncode


def print_logs(folder):
    """The ends of the logs of what takes jobs, which say why it did not."""
    for log in sorted(Path(folder).glob("dashboard*")):
        print(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}", flush=True)


cluster = Cluster(initialize_head=True, head_node_args=HEAD)  # which comes back when jobs are taken
status = submit(f"http://{cluster.webui_url}")
if status:
    print_logs(cluster.head_node.get_logs_dir_path())
cluster.shutdown()
sys.exit(status)
