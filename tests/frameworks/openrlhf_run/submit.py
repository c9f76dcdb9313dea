"""``ray job submit`` of a command, with ``without_cuda.stand_in`` as the user's hook, to a Ray cluster of its own."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

RAY = str(Path(sys.executable).with_name("ray"))


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def submit(cluster, dashboard):
    """As often as it takes until the cluster is there and accepts the job, or is no more."""
    environment = {"worker_process_setup_hook": "without_cuda.stand_in"}
    options = ("--working-dir", os.getcwd(), "--runtime-env-json", json.dumps(environment))
    address = ("--address", f"http://127.0.0.1:{dashboard}")
    command = [RAY, "job", "submit", *address, *options, "--", sys.executable, *sys.argv[1:]]
    while True:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        submitted = "submitted successfully" in done.stdout
        if submitted or cluster.poll() is not None:
            print(done.stdout)
            return done.returncode if submitted else None


def run_once():
    """The job's status, or None where the cluster did not come up: somebody took one of its ports in between."""
    port, dashboard, agent = free_ports(3)
    ports = (f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # so that nobody else's ray.init finds it
        flags = ("--num-cpus=8", "--num-gpus=4", "--disable-usage-stats", f"--temp-dir={folder}", *ports)
        cluster = subprocess.Popen([RAY, "start", "--head", "--block", *flags])
        try:
            return submit(cluster, dashboard)
        finally:
            cluster.terminate()  # and with it all that it started
            cluster.wait()


sys.exit(next((status for status in (run_once() for _ in range(3)) if status is not None), 1))
