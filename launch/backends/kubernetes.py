"""Kubernetes: a JobSet (jobset.x-k8s.io), applied with kubectl and followed.

A pod is one process. Preemption and eviction reach training as SIGTERM; it saves and leaves with
status 143, and the JobSet starts its pods again, from the checkpoint. Status 1 or 2 is an error
that would happen again, so it fails the JobSet. Each task of a sweep is a JobSet of its own.

The cluster needs the JobSet controller, a volume claim for WORKDIR that all pods may write, and an
image with the project in it:

  FROM python:3.12
  COPY . /gen_models
  RUN pip install '/gen_models[gpu]'
"""

import json
import pathlib
import posixpath
import shlex
import subprocess
import time
from typing import Any, NamedTuple

from absl import flags

from launch import errors
from launch.backends import jobset_schema, schema, shell, tpu_slices
from launch.cli import environment

_IMAGE = flags.DEFINE_string('k8s_image', None, 'Container image in which the project is '
                             'installed, see launch/backends/kubernetes.py.')
_VOLUME = flags.DEFINE_string('k8s_volume', None, 'Claim of the volume that holds WORKDIR, as '
                              'claim or claim:/mount/path; default path /data.')
_NAMESPACE = flags.DEFINE_string('k8s_namespace', 'default', 'Namespace of the JobSet.')
_NAME = flags.DEFINE_string('k8s_name', None, 'Name of the JobSet. Default: the last part '
                            'of WORKDIR.')
_ACCELERATOR = flags.DEFINE_string('k8s_accelerator', None, 'On GKE: TPU (tpu-v6e-slice) or GPU '
                                   '(nvidia-h100-80gb) of the nodes.')
_TOPOLOGY = flags.DEFINE_string('k8s_topology', None, 'Chips of a TPU slice, such as 2x4.')
_GPUS = flags.DEFINE_integer('k8s_gpus', 0, 'GPUs of a pod.', lower_bound=0)
_PARALLELISM = flags.DEFINE_integer('k8s_parallelism', None, 'Pods that train one run together. '
                                    'Default: 1, or the hosts of a TPU slice.', lower_bound=1)
_CPU = flags.DEFINE_string('k8s_cpu', None, 'Cores that a pod asks for, such as 4.')
_MEMORY = flags.DEFINE_string('k8s_memory', None, 'Memory that a pod asks for, such as 16Gi.')
_SPOT = flags.DEFINE_bool('k8s_spot', False, 'On GKE: preemptible (spot) nodes.')
_RESTARTS = flags.DEFINE_integer('k8s_restarts', 100, 'How often the pods are started again.',
                                 lower_bound=0)
_GRACE = flags.DEFINE_integer('k8s_grace', 120, 'Seconds a pod has to save and leave.',
                              lower_bound=1)
_EXTRA = flags.DEFINE_multi_string('k8s_extra', [], 'field=YAML of the pod, such as '
                                   "'imagePullSecrets=[{name: mine}]'; repeatable.")

PAUSE = 2.0  # seconds between looks at the cluster
_PORT = 8476  # of the coordinator
_INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
_COMMAND = 'gen-models/command'
_GKE = 'cloud.google.com/gke-'


class Options(NamedTuple):
  """The values of the flags, whose help describes them."""

  image: str | None = None
  volume: str | None = None
  namespace: str = 'default'
  name: str | None = None
  accelerator: str | None = None
  topology: str | None = None
  gpus: int = 0
  parallelism: int | None = None
  cpu: str | None = None
  memory: str | None = None
  spot: bool = False
  restarts: int = 100
  grace: int = 120
  extra: tuple[str, ...] = ()


def options() -> Options:
  """The options of this command line."""
  return Options(_IMAGE.value, _VOLUME.value, _NAMESPACE.value, _NAME.value, _ACCELERATOR.value,
                 _TOPOLOGY.value, _GPUS.value, _PARALLELISM.value, _CPU.value, _MEMORY.value,
                 _SPOT.value, _RESTARTS.value, _GRACE.value, tuple(_EXTRA.value))


def submit(command, workdir: str, *, num_tasks: int, task_flag: str | None, env, dry_run: bool,
           follow: bool) -> int:
  """See launch.backends.submit."""
  import yaml
  chosen = options()
  manifests = [manifest([*command, f'{task_flag}={k}'] if num_tasks > 1 else command, workdir,
                        chosen, task=k if num_tasks > 1 else None, env=env)
               for k in range(num_tasks)]
  namespace = f'--namespace={chosen.namespace}'
  words = ['kubectl', 'apply', namespace, '--filename=-']
  names = [m['metadata']['name'] for m in manifests]
  delete = ['kubectl', 'delete', 'jobset', namespace, *names]
  if dry_run:
    text = yaml.safe_dump_all(manifests, sort_keys=False, width=1000)
    print(f'{text}\n# applied by\n# {shlex.join(words)}\n# ended by\n# {shlex.join(delete)}')
    return 0
  shell.need('kubectl', 'install it and choose a cluster')
  new = []
  for made in manifests:
    there = _get(made['metadata']['name'], namespace)
    state = _state(there)
    if there and state is None:
      if there['metadata'].get('annotations', {}).get(_COMMAND) != \
          made['metadata']['annotations'][_COMMAND]:
        name = made['metadata']['name']
        raise errors.UsageError(f'the JobSet {name} runs another command; end it with kubectl '
                                f'delete jobset {namespace} {name}, or give --k8s_name')
      shell.say(f'JobSet {made["metadata"]["name"]} runs already')
    else:
      if there:
        shell.call(['kubectl', 'delete', 'jobset', namespace, made['metadata']['name']])
      new.append(made)
  if new:
    shell.call(words, stdin=yaml.safe_dump_all(new, sort_keys=False))
  shell.say(f'JobSet{"s" if len(names) > 1 else ""} {", ".join(names)}; {shlex.join(delete)} ends '
            f'{"them" if len(names) > 1 else "it"}')
  return _follow(names, namespace, delete) if follow else 0


def manifest(command, workdir: str, options: Options, *, task: int | None = None,
             env=None) -> dict[str, Any]:
  """The JobSet of one task.

  Raises:
    UsageError: flags that cannot work, or a value that the API does not take.
  """
  if not options.image:
    raise errors.UsageError('--where=k8s needs --k8s_image, an image with the project installed')
  claim, mount = _volume(options.volume, workdir)
  for word in command:
    path = word.removeprefix('--experiment=')
    if word != path and path.endswith('.py') and not path.startswith('/'):
      raise errors.UsageError(f'{word}: a file of this machine; give its path in the image or '
                              'on the volume, or put it into experiments/')
  name = options.name or shell.name_of(workdir)
  name = shell.check_name('k8s_name', name if task is None else f'{name}-{task}', 46)
  accelerator, pods, limits, selector = _devices(options)
  if options.spot:
    selector[f'{_GKE}spot'] = 'true'
  for resource, amount in (('cpu', options.cpu), ('memory', options.memory)):
    if amount is not None:
      limits[resource] = amount
  variables = {**environment.environment(accelerator, env or {})}
  variables.setdefault(environment.CACHE, posixpath.join(mount, '.cache', 'jax'))
  container: dict[str, Any] = {
    'name': 'train', 'image': options.image, 'command': [_literal(w) for w in command],
    'env': [{'name': k, 'value': _literal(v)} for k, v in variables.items()]
           + _processes(name, pods, accelerator),
    'volumeMounts': [{'name': 'work', 'mountPath': mount},
                     {'name': 'shm', 'mountPath': '/dev/shm'}]}
  if limits:
    container['resources'] = {'limits': dict(limits), 'requests': dict(limits)}
  if pods > 1:
    container['ports'] = [{'containerPort': _PORT}]
  pod: dict[str, Any] = {
    'restartPolicy': 'Never', 'terminationGracePeriodSeconds': options.grace,
         'containers': [container],
         'volumes': [{'name': 'work', 'persistentVolumeClaim': {'claimName': claim}},
                     {'name': 'shm', 'emptyDir': {'medium': 'Memory'}}]}
  if selector:
    pod['nodeSelector'] = selector
  _extend(pod, options.extra)
  # Some pods of a slice on one node pool and some on another would never find each other.
  together = {'alpha.jobset.sigs.k8s.io/exclusive-topology': f'{_GKE}nodepool'} \
      if accelerator == 'tpu' and pods > 1 else {}
  made = {
    'apiVersion': 'jobset.x-k8s.io/v1alpha2', 'kind': 'JobSet',
    'metadata': {'name': name, 'namespace': options.namespace,
                 'annotations': {**together, _COMMAND: shlex.join(command)}},
    'spec': {
      'network': {'enableDNSHostnames': True, 'publishNotReadyAddresses': True},
      # Blocking: the old pods are gone, and WORKDIR's lock with them, before new ones start.
      'failurePolicy': {'maxRestarts': options.restarts, 'restartStrategy': 'BlockingRecreate',
                        'rules': [{'name': 'error', 'action': 'FailJobSet',
                                   'onJobFailureReasons': ['PodFailurePolicy']}]},
      'replicatedJobs': [{'name': 'train', 'replicas': 1, 'template': {'spec': {
        'parallelism': pods, 'completions': pods, 'completionMode': 'Indexed', 'backoffLimit': 0,
        'podReplacementPolicy': 'Failed',
        'podFailurePolicy': {'rules': [{'action': 'FailJob', 'onExitCodes': {
          'containerName': 'train', 'operator': 'In', 'values': [1, 2]}}]},
        'template': {'spec': pod}}}}]}}
  schema.check(made, jobset_schema.SCHEMA, 'JobSet')
  return made


def _volume(volume: str | None, workdir: str) -> tuple[str, str]:
  if not volume:
    raise errors.UsageError('--where=k8s needs --k8s_volume: what a pod writes elsewhere is gone '
                            'with it')
  claim, _, mount = volume.partition(':')
  mount = posixpath.normpath(mount or '/data')
  if not mount.startswith('/') or mount == '/':
    raise errors.UsageError(f'--k8s_volume={volume}: write claim:/mount/path')
  if pathlib.PurePosixPath(mount) not in pathlib.PurePosixPath(posixpath.normpath(workdir)).parents:
    raise errors.UsageError(f'--workdir={workdir} is not on the volume; give one below {mount}/')
  return claim, mount


def _devices(options: Options) -> tuple[str, int, dict[str, Any], dict[str, str]]:
  """(accelerator, pods, limits, node selector)."""
  if options.topology:
    if options.gpus:
      raise errors.UsageError('--k8s_topology is of TPUs and --k8s_gpus of GPUs: give one')
    if not options.accelerator:
      raise errors.UsageError('--k8s_topology needs --k8s_accelerator, such as tpu-v6e-slice')
    chips, pods = tpu_slices.from_topology(options.accelerator, options.topology,
                                           options.parallelism)
    return 'tpu', pods, {'google.com/tpu': chips}, {
      f'{_GKE}tpu-accelerator': options.accelerator, f'{_GKE}tpu-topology': options.topology}
  if options.accelerator and options.accelerator.startswith('tpu'):
    raise errors.UsageError(f'--k8s_accelerator={options.accelerator} needs --k8s_topology')
  if options.accelerator and not options.gpus:
    raise errors.UsageError(f'--k8s_accelerator={options.accelerator} needs --k8s_gpus')
  selector = {f'{_GKE}accelerator': options.accelerator} if options.accelerator else {}
  limits = {'nvidia.com/gpu': options.gpus} if options.gpus else {}
  return 'gpu' if options.gpus else 'cpu', options.parallelism or 1, limits, selector


def _processes(name: str, pods: int, accelerator: str) -> list[dict[str, Any]]:
  if pods == 1:
    return []
  if accelerator == 'tpu':  # GKE tells the pods of a slice about each other, JAX reads that
    return [{'name': 'GEN_MODELS_DISTRIBUTED', 'value': 'auto'}]
  # JAX would ask the API server instead, which takes a package and a role more.
  return [{'name': 'GEN_MODELS_COORDINATOR', 'value': f'{name}-train-0-0.{name}:{_PORT}'},
          {'name': 'GEN_MODELS_PROCESSES', 'value': str(pods)},
          {'name': 'GEN_MODELS_PROCESS', 'valueFrom': {'fieldRef': {'fieldPath': _INDEX}}}]


def _literal(word: str) -> str:
  """Escapes a word of a container: no shell reads it, but Kubernetes expands $(NAME)."""
  return word.replace('$', '$$')


def _extend(pod: dict[str, Any], extra) -> None:
  import yaml
  for text in extra:
    field, equals, value = text.partition('=')
    if not equals:
      raise errors.UsageError(f'--k8s_extra={text}: write --k8s_extra=field=YAML')
    try:
      value = yaml.safe_load(value)
    except yaml.YAMLError as e:
      raise errors.UsageError(f'--k8s_extra={text}: {shell.shorten(str(e))}') from None
    if field in ('containers', 'restartPolicy', 'terminationGracePeriodSeconds'):
      raise errors.UsageError(f'--k8s_extra={text}: {field} is made from the other flags')
    schema.check({field: value}, {**jobset_schema.POD, 'required': []}, 'pod', warn=False)
    there = pod.get(field)
    if isinstance(there, dict):
      value = {**there, **value}
    pod[field] = there + value if isinstance(there, list) else value


def _get(name: str, namespace: str) -> dict[str, Any] | None:
  text = shell.call(['kubectl', 'get', 'jobset', name, namespace, '--ignore-not-found',
                     '--output=json'])
  return json.loads(text) if text.strip() else None


def _state(found: dict[str, Any] | None) -> str | None:
  """Completed or Failed; None while it runs."""
  for condition in (found or {}).get('status', {}).get('conditions', []):
    if condition['type'] in ('Completed', 'Failed') and condition['status'] == 'True':
      return condition['type']
  return None


def _follow(names, namespace: str, delete) -> int:
  """Shows the logs until every JobSet has ended; returns 1 where one failed, else 0."""
  ended: dict[str, str] = {}
  readers: dict[str, _Reader] = {}
  failures = 0
  try:
    while len(ended) < len(names):
      for name in names:
        if name in ended or (name in readers and readers[name].reads()):
          continue
        try:
          found = _get(name, namespace)
          failures = 0
        except shell.Failed:
          failures += 1  # the network, mostly; the job does not care
          if failures > 20:
            raise
          continue
        state = 'deleted' if found is None else _state(found)
        if state:
          ended[name] = state
          if name in readers:
            readers[name].rest()
          shell.say(f'JobSet {name}: {state.lower()}')
        else:
          readers.setdefault(name, _Reader(name, namespace)).start()
      if len(ended) < len(names):
        time.sleep(PAUSE)
  except KeyboardInterrupt:
    shell.say(f'still running: {shlex.join(delete)} ends it, the same command follows it again')
    return 130
  finally:
    for reader in readers.values():
      reader.stop()
  return int(any(state != 'Completed' for state in ended.values()))


class _Reader:
  """Follows the logs of the pods of a JobSet, and of new pods when they are started again."""

  def __init__(self, name: str, namespace: str):
    self._words = ['kubectl', 'logs', namespace, '--prefix', '--ignore-errors',
                   f'--selector=jobset.sigs.k8s.io/jobset-name={name}', '--max-log-requests=1000']
    self._process: subprocess.Popen | None = None
    self._since, self._began = ['--tail=-1'], 0.0

  def start(self) -> None:
    self._began = time.time()
    self._process = subprocess.Popen([*self._words, *self._since, '--follow'],
                                     stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

  def reads(self) -> bool:
    """Whether it still does; when it has stopped, what it showed is not shown again."""
    if self._process is None:
      return False
    if self._process.poll() is None:
      return True
    if self._process.returncode == 0 and time.time() - self._began > 3:
      self._since = [time.strftime('--since-time=%Y-%m-%dT%H:%M:%SZ', time.gmtime())]
    self._process = None
    return False

  def rest(self) -> None:
    """Shows the logs of pods that ended before they could be followed."""
    subprocess.run([*self._words, *self._since], stdin=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)

  def stop(self) -> None:
    if self._process is not None and self._process.poll() is None:
      self._process.terminate()
      self._process.wait()
