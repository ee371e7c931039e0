"""A SLURM cluster with one node, this machine. Its daemons keep everything in one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

DAEMONS = "munged", "slurmctld", "slurmd"

_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
KillWait=2
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=100000,sched_interval=1,bf_interval=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""

_SACCT = r"""#!/usr/bin/env python3
# stands in for SLURM's sacct, which needs an accounting database: the same table, from the controller's memory
import re, subprocess, sys

print("JobID|State|NodeList")
for flag, job in zip(sys.argv, sys.argv[1:]):
    if flag != "-j":
        continue
    jobs = subprocess.run(["scontrol", "-o", "show", "job", job], capture_output=True, text=True).stdout
    for line in jobs.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S*)", line))
        name, task = fields["JobId"], fields.get("ArrayTaskId")
        if task is not None:
            tasks = task.partition("%")[0]
            name = f"{fields['ArrayJobId']}_" + (tasks if tasks.isdecimal() else f"[{tasks}]")
        print(name, fields["JobState"], fields.get("NodeList", ""), sep="|")
"""


def missing_daemons() -> list[str]:
    """Return the programs of SLURM that are not installed."""
    return [name for name in (*DAEMONS, "sbatch", "scontrol") if shutil.which(name) is None]


@contextmanager
def one_node(folder: Path) -> Iterator[dict[str, str]]:
    """Start the cluster and yield the environment in which commands find it. Daemons and jobs end with the block."""
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    controller, node = _free_ports(2)
    configuration = folder / "slurm.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, host=host, controller=controller, node=node))
    (folder / "bin/sacct").write_text(_SACCT)
    (folder / "bin/sacct").chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    environment = {"SLURM_CONF": str(configuration), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    munge = [f"--{name}={folder / value}" for name, value in (
        ("socket", "munge.socket"), ("key-file", key.name), ("pid-file", "munged.pid"), ("log-file", "munged.log"),
        ("seed-file", "munged.seed"),
    )]  # fmt: skip
    with ExitStack() as ending:
        for command in (
            ["munged", "--force", "--foreground", *munge],
            ["slurmctld", "-D"],
            ["slurmd", "-D", "-N", host],
        ):
            ending.enter_context(_daemon(command, environment, folder))
        ending.callback(_cancel_all, environment)
        _wait_until_idle(environment, folder)
        yield environment


@contextmanager
def _daemon(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[None]:
    with open(folder / f"{command[0]}.out", "w") as out:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    state = ""
    for _ in range(150):
        done = subprocess.run(
            ["sinfo", "-h", "-o", "%T"], env={**os.environ, **environment}, capture_output=True, text=True
        )
        state = (done.stdout + done.stderr).strip()
        if state == "idle":
            return
        time.sleep(0.2)
    logs = "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in folder.glob("*.[ol][uo][tg]"))
    raise RuntimeError(f"the node is not idle but {state!r}\n{logs}")


def _cancel_all(environment: dict[str, str]) -> None:
    """End all jobs and wait for that, because jobs would outlive the daemons."""
    everything = {**os.environ, **environment}
    subprocess.run(["scancel", "--signal=KILL", "--full", "--user=root"], env=everything, capture_output=True)
    subprocess.run(["scancel", "--user=root"], env=everything, capture_output=True)
    for _ in range(50):
        if not subprocess.run(["squeue", "-h"], env=everything, capture_output=True).stdout.strip():
            return
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as ending:
        sockets = [ending.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
