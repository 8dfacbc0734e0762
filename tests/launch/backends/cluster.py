"""A Slurm cluster of this machine alone, for tests: munged, slurmctld and slurmd in a directory.

Debian: apt-get install slurm-wlm munge. It runs as root, without systemd, on free ports.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'srun', 'scontrol', 'scancel')
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=20
SchedulerParameters=sched_interval=5,batch_sched_delay=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
  """Why there can be no cluster here."""
  path = os.environ['PATH'] + ':/usr/sbin:/sbin'
  if absent := [p for p in PROGRAMS if shutil.which(p, path=path) is None]:
    return f'{", ".join(absent)} not installed (Debian: slurm-wlm, munge)'
  return None if os.geteuid() == 0 else 'its daemons run as root'


@contextlib.contextmanager
def running():
  """The environment in which sbatch, srun and scontrol talk to a cluster of its own."""
  directory = pathlib.Path(tempfile.mkdtemp(prefix='slurm'))
  daemons = []
  conf = directory / 'slurm.conf'
  env = {**os.environ, 'PATH': os.environ['PATH'] + ':/usr/sbin:/sbin', 'SLURM_CONF': str(conf)}
  try:
    for name in ('state', 'spool', 'munge'):
      (directory / name).mkdir(mode=0o700)
    key = directory / 'munge' / 'key'
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    with contextlib.ExitStack() as stack:
      sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
      for s in sockets:
        s.bind(('', 0))
      ports = [s.getsockname()[1] for s in sockets]
    conf.write_text(CONF.format(host=socket.gethostname().split('.')[0], directory=directory,
                                ports=ports))
    for words in (['munged', '--force', '--foreground', f'--key-file={key}',
                   f'--socket={directory}/munge.socket', f'--pid-file={directory}/munge/pid',
                   f'--log-file={directory}/munge/log', f'--seed-file={directory}/munge/seed'],
                  ['slurmctld', '-D', '-c', '-f', str(conf)], ['slurmd', '-D', '-f', str(conf)]):
      with open(directory / f'{words[0]}.out', 'w') as log:
        daemons.append(subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=log,
                                        stderr=subprocess.STDOUT, start_new_session=True))
      if words[0] == 'munged':
        wait_for(lambda: (directory / 'munge.socket').exists(), 10, 'munged')
    wait_for(lambda: b'idle' in output(env, 'sinfo', '--noheader', '--format=%T'), 30,
             f'an idle node; see {directory}')
    yield env
  finally:
    _end(daemons, env)
    shutil.rmtree(directory, ignore_errors=True)


def wait_for(condition, seconds: float, what: str):
  """Its first true value."""
  until = time.monotonic() + seconds
  while time.monotonic() < until:
    if found := condition():
      return found
    time.sleep(0.2)
  raise AssertionError(f'no {what} in {seconds} s')


def output(env, *words) -> bytes:
  """Of a command, whatever its status."""
  return subprocess.run(words, env=env, capture_output=True, timeout=30).stdout


def _end(daemons, env) -> None:
  if len(daemons) == 3:
    with contextlib.suppress(Exception):
      subprocess.run(['scancel', '--full', '--state=RUNNING'], env=env, timeout=10,
                     capture_output=True)
      subprocess.run(['scancel', '--state=PENDING'], env=env, timeout=10, capture_output=True)
      wait_for(lambda: not output(env, 'squeue', '--noheader'), 30, 'end of the jobs')
  for daemon in reversed(daemons):
    daemon.terminate()
    try:
      daemon.wait(10)
    except subprocess.TimeoutExpired:
      daemon.kill()
      daemon.wait()
  # Step managers and jobs outlive slurmd; they alone have this cluster in their environment.
  mark = f'SLURM_CONF={env["SLURM_CONF"]}'.encode()
  for process in pathlib.Path('/proc').glob('[0-9]*'):
    with contextlib.suppress(OSError):
      if mark in (process / 'environ').read_bytes().split(b'\0'):
        os.kill(int(process.name), signal.SIGKILL)
