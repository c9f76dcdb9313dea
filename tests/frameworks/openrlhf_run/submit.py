"""``ray job submit`` of a command, with ``without_cuda.stand_in`` as the user's hook, to a Ray cluster of its own."""

import json
import os
import socket
import subprocess
import sys


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def submit(dashboard):
    """Until the cluster is there and has an agent that takes jobs."""
    environment = {"worker_process_setup_hook": "without_cuda.stand_in"}
    options = ("--working-dir", os.getcwd(), "--runtime-env-json", json.dumps(environment))
    address = ("--address", f"http://127.0.0.1:{dashboard}")
    for _ in range(30):
        command = ["ray", "job", "submit", *address, *options, "--", sys.executable, *sys.argv[1:]]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if not any(word in done.stdout for word in ("No available agent", "Failed to connect", "Connection refused")):
            break
    print(done.stdout)
    return done.returncode


port, dashboard, agent = free_ports(3)
flags = ("--num-cpus=8", "--num-gpus=4", "--disable-usage-stats", f"--port={port}", f"--dashboard-port={dashboard}")
cluster = subprocess.Popen(["ray", "start", "--head", "--block", *flags, f"--dashboard-agent-listen-port={agent}"])
try:
    status = submit(dashboard)
finally:
    cluster.terminate()  # and with it all that it started
    cluster.wait()
sys.exit(status)
