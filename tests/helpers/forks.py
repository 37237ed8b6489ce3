"""Run the command several times, in one or more processes each, forked from a process that has imported everything.

    python -m tests.helpers.forks '[[1, ["train", "a.yaml"]], [2, ["evaluate", "best.safetensors"]]]' [slurm]

Starting Python and importing torch takes longer than the small runs of the tests. Several processes get torchrun's
variables, or those of Slurm's srun.
"""

import importlib
import json
import os
import socket
import sys
from collections.abc import Callable

# Creating an optimizer imports torch._dynamo.
for name in ("seg.training.trainer", "seg.inference.images", "torch.utils.tensorboard", "albumentations", "torch._dynamo"):
    importlib.import_module(name)


def fork(job: Callable[[], int | None]) -> int:
    """Fork a process that runs `job`, exits with its result, and skips the parent's clean-up. Return its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = job()
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


def finish(pid: int) -> int:
    """Wait for a process and return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def rank(number: int, world: int, port: int, arguments: list[str]) -> int:
    """Run the command as one of `world` processes."""
    from seg.cli.main import main

    if world > 1 and sys.argv[2:] == ["slurm"]:
        os.environ |= {
            "SLURM_JOB_ID": "4711",
            "SLURM_STEP_ID": "0",
            "SLURM_PROCID": str(number),
            "SLURM_LOCALID": str(number),
            "SLURM_NTASKS": str(world),
            "SLURM_NNODES": "1",
            "SLURM_TASKS_PER_NODE": str(world),
            "MASTER_PORT": str(port),
        }
    elif world > 1:
        os.environ |= {
            "RANK": str(number),
            "LOCAL_RANK": str(number),
            "WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_RUN_ID": "tests",
        }
    return main(arguments)


def run(world: int, arguments: list[str]) -> list[int]:
    """Run the command in `world` processes and return the exit code of each."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return [finish(pid) for pid in [fork(lambda n=n: rank(n, world, port, arguments)) for n in range(world)]]


if __name__ == "__main__":
    codes = [code for world, arguments in json.loads(sys.argv[1]) for code in run(world, arguments)]
    sys.exit(max(map(abs, codes)))
