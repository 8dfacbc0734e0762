"""JobSets: what they say, and what is done with kubectl, played by a script."""

import copy
import re
import shlex
import sys

import jsonschema
import pytest
import yaml

from launch import backends, errors
from launch.backends import jobset_schema, kubernetes, schema, shell, tpu_slices
from launch.cli import environment

TRAIN = ['python', '-m', 'launch.train', '--experiment=rbm_digits', '--workdir=/data/runs/a']
NEEDED = dict(image='registry/gen_models:1', volume='work')
# Keeps one file for each JobSet; a JobSet ends when it has been asked after twice.
KUBECTL = f'''#!{sys.executable}
import json, os, pathlib, sys, yaml
words, home = sys.argv[1:], pathlib.Path(os.environ['CLUSTER'])
with open(home / 'calls', 'a') as file:
  file.write(json.dumps(words) + '\\n')
if words[0] == 'apply':
  for made in yaml.safe_load_all(sys.stdin.read()):
    (home / (made['metadata']['name'] + '.json')).write_text(json.dumps({{**made, 'asked': 0}}))
elif words[0] == 'logs':
  print('the log of', [w for w in words if w.startswith('--selector')][0])
elif words[0] == 'delete':
  for word in words[2:]:
    if not word.startswith('-'):
      (home / (word + '.json')).unlink()
elif words[0] == 'get' and (home / (words[2] + '.json')).exists():
  path = home / (words[2] + '.json')
  made = json.loads(path.read_text())
  made['asked'] += 1
  if made['asked'] > int(os.environ.get('ENDS_AFTER', 1)):
    made['status'] = {{'conditions': [{{'type': os.environ['ENDS'], 'status': 'True'}}]}}
  path.write_text(json.dumps(made))
  print(json.dumps(made))
'''


def made(command=TRAIN, workdir='/data/runs/a', task=None, env=None, **options):
  found = kubernetes.manifest(command, workdir, kubernetes.Options(**{**NEEDED, **options}),
                              task=task, env=env)
  jsonschema.validate(found, jobset_schema.SCHEMA)
  return found


def parts(found):
  """(JobSet's spec, job, pod, container, environment)."""
  job = found['spec']['replicatedJobs'][0]['template']['spec']
  pod = job['template']['spec']
  container, = pod['containers']
  return found['spec'], job, pod, container, {v['name']: v.get('value') for v in container['env']}


def expand(word, variables):
  """What Kubernetes makes of a word of a container's command."""
  return re.sub(r'\$\$|\$\((\w+)\)', lambda m: '$' if m[0] == '$$' else
                variables.get(m[1], m[0]), word)


def test_a_run_resumes_and_an_error_does_not():
  spec, job, pod, container, env = parts(made())
  assert pod['restartPolicy'] == 'Never' and job['backoffLimit'] == 0
  assert spec['failurePolicy']['restartStrategy'] == 'BlockingRecreate'
  assert spec['failurePolicy']['maxRestarts'] == 100
  policy = job['podFailurePolicy']['rules'][0]
  assert policy['action'] == 'FailJob' and policy['onExitCodes'] == {
    'containerName': container['name'], 'operator': 'In', 'values': [1, 2]}
  assert spec['failurePolicy']['rules'][0]['action'] == 'FailJobSet'
  assert pod['terminationGracePeriodSeconds'] == 120
  assert container['command'] == TRAIN
  mount = {m['name']: m['mountPath'] for m in container['volumeMounts']}['work']
  claims = {v['name']: v.get('persistentVolumeClaim') for v in pod['volumes']}
  assert mount == '/data' and claims['work'] == {'claimName': 'work'}
  assert env[environment.CACHE].startswith('/data/')
  assert not {'GEN_MODELS_DISTRIBUTED', 'GEN_MODELS_COORDINATOR'} & set(env)


def test_pods_find_the_first_of_them():
  found = made(parallelism=4, gpus=8, name='big')
  spec, job, pod, container, env = parts(found)
  assert job['parallelism'] == job['completions'] == 4 and job['completionMode'] == 'Indexed'
  name = spec['replicatedJobs'][0]['name']
  host, port = env['GEN_MODELS_COORDINATOR'].split(':')
  assert host == f'big-{name}-0-0.big' and container['ports'] == [{'containerPort': int(port)}]
  assert env['GEN_MODELS_PROCESSES'] == '4' and spec['network']['enableDNSHostnames']
  index, = [v for v in container['env'] if v['name'] == 'GEN_MODELS_PROCESS']
  assert 'job-completion-index' in index['valueFrom']['fieldRef']['fieldPath']
  assert container['resources']['limits']['nvidia.com/gpu'] == 8
  assert set(environment.defaults('gpu')) <= set(env)


@pytest.mark.parametrize('label, topology, chips, hosts', [
  ('tpu-v6e-slice', '1x1', 1, 1), ('tpu-v6e-slice', '2x4', 8, 1), ('tpu-v6e-slice', '4x4', 4, 4),
  ('tpu-v5-lite-podslice', '16x16', 4, 64), ('tpu-v5p-slice', '2x2x1', 4, 1),
  ('tpu-v4-podslice', '2x2x4', 4, 4)])
def test_a_slice_has_its_hosts(label, topology, chips, hosts):
  found = made(accelerator=label, topology=topology)
  spec, job, pod, container, env = parts(found)
  assert job['parallelism'] == hosts and container['resources']['limits']['google.com/tpu'] == chips
  assert pod['nodeSelector'] == {'cloud.google.com/gke-tpu-accelerator': label,
                                 'cloud.google.com/gke-tpu-topology': topology}
  assert (env.get('GEN_MODELS_DISTRIBUTED') == 'auto') == (hosts > 1)
  assert 'GEN_MODELS_COORDINATOR' not in env and '--xla_tpu' in env['LIBTPU_INIT_ARGS']
  assert ('alpha.jobset.sigs.k8s.io/exclusive-topology' in found['metadata']['annotations']) == (
    hosts > 1)


def test_eight_chips_may_be_two_hosts():
  assert tpu_slices.from_topology('tpu-v6e-slice', '2x4', 2) == (4, 2)


def test_no_word_is_read_by_a_shell_or_expanded():
  command = [*TRAIN, '--set=a=$(touch x)', '--set=b=$(GEN_MODELS_PROCESSES)', '; rm', '$$', '"\n']
  _, _, _, container, env = parts(made(command, parallelism=2, env={'A': '$(B) $C'}))
  assert [expand(w, env) for w in container['command']] == command
  assert expand(env['A'], env) == '$(B) $C'


def test_what_the_user_adds_is_merged():
  _, _, pod, _, _ = parts(made(spot=True, cpu='4', memory='16Gi', extra=(
    'nodeSelector={disk: ssd}', 'volumes=[{name: c, nfs: {server: s, path: /p}}]',
    'tolerations=[{key: k, operator: Exists}]', 'serviceAccountName=me')))
  assert pod['nodeSelector'] == {'cloud.google.com/gke-spot': 'true', 'disk': 'ssd'}
  assert [v['name'] for v in pod['volumes']] == ['work', 'shm', 'c']
  assert pod['serviceAccountName'] == 'me' and pod['tolerations'][0]['key'] == 'k'
  assert pod['containers'][0]['resources']['limits'] == {'cpu': '4', 'memory': '16Gi'}


@pytest.mark.parametrize('options, said', [
  (dict(image=None), '--k8s_image'), (dict(volume=None), '--k8s_volume'),
  (dict(volume='work:/other'), 'below /other/'), (dict(volume='work:/'), 'claim:/mount/path'),
  (dict(volume='Work'), 'claimName: \'Work\' is not a name of lower-case letters'),
  (dict(volume='work\n'), 'is not a name'), (dict(memory='16GiB'), 'is not a quantity such as'),
  (dict(name='A_b'), 'lower-case'), (dict(namespace='A b'), 'is not a name'),
  (dict(accelerator='tpu-v6e-slice', topology='2x2x2'), '2 dimensions'),
  (dict(accelerator='tpu-v6e-slice', topology='2*2'), 'is not a topology'),
  (dict(accelerator='tpu-v6e-slice', topology='4x4', parallelism=2), 'has 4 hosts'),
  (dict(accelerator='tpu-v6e-slice'), 'needs --k8s_topology'),
  (dict(topology='2x2'), 'needs --k8s_accelerator'),
  (dict(accelerator='nvidia-l4'), 'needs --k8s_gpus'),
  (dict(accelerator='tpu-v6e-slice', topology='2x2', gpus=1), 'give one'),
  (dict(extra=('imagePullSecrets=mine',)), "pod.imagePullSecrets: 'mine' is not of type 'array'"),
  (dict(extra=('tolerations=[{tolerationSeconds: -1}]',)), 'tolerations[0].tolerationSeconds: -1'),
  (dict(extra=('nodeSelector={a: [',)), 'nodeSelector'), (dict(extra=('x',)), 'field=YAML'),
  (dict(extra=('containers=[]',)), 'made from the other flags')])
def test_what_cannot_work_is_refused(options, said):
  with pytest.raises(errors.UsageError, match=re.escape(said)):
    made(**options)


@pytest.mark.parametrize('options, said', [
  (dict(accelerator='tpu-v6e-slise', topology='2x2'), 'did you mean tpu-v6e-slice'),
  (dict(accelerator='tpu-v6e-slice', topology='3x4'), 'no slice of that size'),
  (dict(accelerator='tpu-v6e-slice', topology='32x32'), 'no slice of that size'),
  (dict(extra=('tolerationz=[]',)), "'tolerationz' is not known here, it is passed on; did you "
                                    'mean tolerations'),
  (dict(extra=('tolerations=[{keyy: a}]',)), 'did you mean key'),
  (dict(extra=('dnsPolicy=Later',)), "'Later' is not known here")])
def test_what_is_not_known_here_is_passed_on_with_a_warning(options, said, capsys):
  found = kubernetes.manifest(TRAIN, '/data/runs/a', kubernetes.Options(**{**NEEDED, **options}))
  error = capsys.readouterr().err
  assert said in error and error.count('warning: ') == 1
  for field, value in (text.split('=', 1) for text in options.get('extra', ())):
    assert parts(found)[2][field] == yaml.safe_load(value)


@pytest.mark.parametrize('hosts', [None, 8])
def test_the_tpu_of_next_year(hosts):
  spec, job, pod, container, env = parts(made(accelerator='tpu9-slice', topology='2x2x2x4',
                                              parallelism=hosts))
  assert job['parallelism'] == 8 and container['resources']['limits']['google.com/tpu'] == 4
  assert env['GEN_MODELS_DISTRIBUTED'] == 'auto'


def test_a_file_of_this_machine_is_refused():
  with pytest.raises(errors.UsageError, match='file of this machine'):
    made([*TRAIN, '--experiment=mine.py'])
  made([*TRAIN, '--experiment=/data/mine.py'])


def places(value, path=()):
  """Every place of a manifest: its path."""
  yield path
  for key, item in value.items() if isinstance(value, dict) else (
      enumerate(value) if isinstance(value, list) else ()):
    yield from places(item, (*path, key))


def at(value, path):
  for key in path:
    value = value[key]
  return value


def test_a_broken_manifest_is_refused_and_a_new_name_is_not():
  """Each field misspelt, left out, or given a value of another type."""
  whole = made(parallelism=2, gpus=1, memory='1Gi', extra=('tolerations=[{key: a}]',))
  jsonschema.Draft202012Validator.check_schema(jobset_schema.SCHEMA)
  validator, refused = jsonschema.Draft202012Validator(jobset_schema.SCHEMA), 0
  for path in list(places(whole))[1:]:
    for change in ('misspelt', 'missing', 'number', 'text', 'none', 'list'):
      broken = copy.deepcopy(whole)
      parent = at(broken, path[:-1])
      if change in ('misspelt', 'missing'):
        value = parent.pop(path[-1])
        if change == 'misspelt' and isinstance(parent, dict):
          parent[f'{path[-1]}x'] = value
      else:
        parent[path[-1]] = {'number': -1, 'text': '', 'none': None, 'list': [[]]}[change]
      found = {e.validator for e in validator.iter_errors(broken)}
      if found:
        if found <= {'additionalProperties', 'enum'}:
          schema.check(broken, jobset_schema.SCHEMA, 'JobSet', warn=False)
        else:
          refused += 1
          with pytest.raises(schema.Invalid):
            schema.check(broken, jobset_schema.SCHEMA, 'JobSet')
      else:
        schema.check(broken, jobset_schema.SCHEMA, 'JobSet')
  assert refused > 250


def test_a_dry_run_shows_a_manifest_for_each_task(parse, capsys, no_programs):
  parse('--where=k8s', '--dry_run', '--k8s_image=i', '--k8s_volume=work', '--k8s_namespace=lab')
  assert backends.submit(TRAIN, '/data/runs/a', 2, '--programs') == 0
  out = capsys.readouterr().out
  first, second = yaml.safe_load_all(out)
  assert first['metadata'] | {'name': 'a-0', 'namespace': 'lab'} == first['metadata']
  assert [parts(m)[3]['command'][-1] for m in (first, second)] == ['--programs=0', '--programs=1']
  words = shlex.split(out.strip().splitlines()[-3].lstrip('# '))
  assert words == ['kubectl', 'apply', '--namespace=lab', '--filename=-']
  assert out.strip().splitlines()[-1] == '# kubectl delete jobset --namespace=lab a-0 a-1'


@pytest.fixture
def cluster(program, tmp_path, monkeypatch):
  program('kubectl', KUBECTL)
  home = tmp_path / 'cluster'
  home.mkdir()
  monkeypatch.setenv('CLUSTER', str(home))
  monkeypatch.setattr(kubernetes, 'PAUSE', 0.05)
  return home


def test_without_kubectl_one_line_says_so(parse, no_programs):
  parse('--where=k8s', '--k8s_image=i', '--k8s_volume=work')
  with pytest.raises(shell.Failed, match='kubectl is not installed here'):
    backends.submit(TRAIN, '/data/runs/a')


@pytest.mark.parametrize('ends, status', [('Completed', 0), ('Failed', 1)])
def test_a_jobset_is_applied_and_followed(parse, cluster, monkeypatch, capfd, ends, status):
  monkeypatch.setenv('ENDS', ends)
  parse('--where=k8s', '--k8s_image=i', '--k8s_volume=work')
  assert backends.submit(TRAIN, '/data/runs/a') == status
  out, err = capfd.readouterr()
  assert 'jobset-name=a\n' in out and f'JobSet a: {ends.lower()}' in err
  assert 'kubectl delete jobset --namespace=default a ends it' in err
  # Once more: one that has ended is replaced.
  assert backends.submit(TRAIN, '/data/runs/a') == status
  assert '["delete", "jobset"' in (cluster / 'calls').read_text()


def test_a_jobset_that_runs_is_followed_and_no_other_takes_its_name(parse, cluster, monkeypatch,
                                                                    capfd):
  monkeypatch.setenv('ENDS', 'Completed')
  monkeypatch.setenv('ENDS_AFTER', '2')
  parse('--where=k8s', '--k8s_image=i', '--k8s_volume=work', '--nofollow')
  assert backends.submit(TRAIN, '/data/runs/a') == 0
  with pytest.raises(errors.UsageError, match='a runs another command'):
    backends.submit([*TRAIN, '--seed=1'], '/data/runs/a')
  parse('--where=k8s', '--k8s_image=i', '--k8s_volume=work', '--follow')
  assert backends.submit(TRAIN, '/data/runs/a') == 0
  assert 'a runs already' in capfd.readouterr().err
  assert (cluster / 'calls').read_text().count('["apply"') == 1
