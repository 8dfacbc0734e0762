"""The part of the JobSet API, jobset.x-k8s.io/v1alpha2, that is rendered here: a strict schema.

Objects are closed: a name that the API does not have is an error before a cluster sees it. Fields
of a pod that are only passed on have their names checked and not their contents.

Source: config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml of kubernetes-sigs/jobset.
"""

import re
from typing import Any

from launch import errors


class Invalid(errors.UsageError):
  """A manifest that the API would refuse; the message names the place."""


def _object(required=(), **properties):
  return {'type': 'object', 'properties': properties, 'required': list(required),
          'additionalProperties': False}


def _list(items, least=0):
  return {'type': 'array', 'items': items, 'minItems': least}


def _choice(*values):
  return {'type': 'string', 'enum': list(values)}


_TEXT = {'type': 'string'}
_FILLED = {'type': 'string', 'pattern': '^.+$'}
_FLAG = {'type': 'boolean'}
_COUNT = {'type': 'integer', 'minimum': 0}
_MAP = {'type': 'object', 'additionalProperties': _TEXT}
_ANY = {}
_NAME = {'type': 'string', 'pattern': '^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$', 'maxLength': 63}
_QUANTITY = {'type': ['string', 'integer'],
             'pattern': r'^\d+(\.\d+)?(m|[kKMGTPE]i?|[eE]\d+)?$'}
_QUANTITIES = {'type': 'object', 'additionalProperties': _QUANTITY}
_META = {'name': _NAME, 'namespace': _NAME, 'labels': _MAP, 'annotations': _MAP}

_ENV = _object(['name'], name={'type': 'string', 'pattern': '^[A-Za-z_][A-Za-z0-9_]*$'},
               value=_TEXT, valueFrom=_object(
                 fieldRef=_object(['fieldPath'], fieldPath=_FILLED, apiVersion=_TEXT),
                 secretKeyRef=_ANY, configMapKeyRef=_ANY, resourceFieldRef=_ANY, fileKeyRef=_ANY))
_CONTAINER = _object(
  ['name', 'image', 'command'], name=_NAME, image=_FILLED, command=_list(_TEXT, 1),
  args=_list(_TEXT), env=_list(_ENV), workingDir=_FILLED,
  imagePullPolicy=_choice('Always', 'IfNotPresent', 'Never'),
  resources=_object(limits=_QUANTITIES, requests=_QUANTITIES, claims=_ANY),
  ports=_list(_object(['containerPort'], containerPort={'type': 'integer', 'minimum': 1},
                      name=_NAME, protocol=_TEXT)),
  volumeMounts=_list(_object(['name', 'mountPath'], name=_NAME, subPath=_TEXT, readOnly=_FLAG,
                             mountPath={'type': 'string', 'pattern': '^/'})))
_VOLUME = _object(
  ['name'], name=_NAME, emptyDir=_object(medium=_choice('', 'Memory'), sizeLimit=_QUANTITY),
  persistentVolumeClaim=_object(['claimName'], claimName=_NAME, readOnly=_FLAG),
  **{name: _ANY for name in ('configMap', 'csi', 'downwardAPI', 'ephemeral', 'hostPath', 'nfs',
                             'projected', 'secret')})
_TOLERATION = _object(key=_TEXT, operator=_choice('Exists', 'Equal', 'Lt', 'Gt'), value=_TEXT,
                      effect=_choice('NoSchedule', 'PreferNoSchedule', 'NoExecute'),
                      tolerationSeconds=_COUNT)
POD = _object(
  ['restartPolicy', 'containers'], restartPolicy=_choice('Never', 'OnFailure'),
  containers=_list(_CONTAINER, 1), volumes=_list(_VOLUME), nodeSelector=_MAP,
  terminationGracePeriodSeconds=_COUNT, tolerations=_list(_TOLERATION), hostNetwork=_FLAG,
  dnsPolicy=_choice('ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None'),
  imagePullSecrets=_list(_object(['name'], name=_NAME)), serviceAccountName=_NAME,
  priorityClassName=_NAME, schedulerName=_FILLED, activeDeadlineSeconds=_COUNT,
  automountServiceAccountToken=_FLAG, runtimeClassName=_NAME, hostIPC=_FLAG,
  shareProcessNamespace=_FLAG, **{name: _ANY for name in (
    'affinity', 'dnsConfig', 'hostAliases', 'initContainers', 'resourceClaims', 'securityContext',
    'topologySpreadConstraints')})
_POD_RULE = _object(
  ['action'], action=_choice('FailJob', 'Ignore', 'Count'),
  onExitCodes=_object(['operator', 'values'], operator=_choice('In', 'NotIn'), containerName=_NAME,
                      values=_list({'type': 'integer', 'minimum': 1}, 1)),
  onPodConditions=_list(_object(['type', 'status'], type=_FILLED, status=_FILLED)))
_JOB = _object(
  ['template', 'parallelism', 'completions', 'backoffLimit'],
  parallelism={'type': 'integer', 'minimum': 1}, completions={'type': 'integer', 'minimum': 1},
  backoffLimit=_COUNT, completionMode=_choice('Indexed', 'NonIndexed'),
  podReplacementPolicy=_choice('Failed', 'TerminatingOrFailed'), activeDeadlineSeconds=_COUNT,
  podFailurePolicy=_object(['rules'], rules=_list(_POD_RULE, 1)),
  template=_object(['spec'], metadata=_object(labels=_MAP, annotations=_MAP), spec=POD))
_RULE = _object(
  ['name', 'action'], action=_choice('FailJobSet', 'RestartJobSet',
                                     'RestartJobSetAndIgnoreMaxRestarts'),
  name={'type': 'string', 'pattern': '^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$'},
  onJobFailureReasons=_list(_choice('BackoffLimitExceeded', 'DeadlineExceeded', 'PodFailurePolicy',
                                    'FailedIndexes', 'MaxFailedIndexesExceeded')),
  targetReplicatedJobs=_list(_NAME))
SCHEMA = _object(
  ['apiVersion', 'kind', 'metadata', 'spec'],
  apiVersion=_choice('jobset.x-k8s.io/v1alpha2'), kind=_choice('JobSet'),
  metadata=_object(['name'], **_META), spec=_object(
    ['replicatedJobs'], suspend=_FLAG, ttlSecondsAfterFinished=_COUNT,
    network=_object(enableDNSHostnames=_FLAG, subdomain=_NAME, publishNotReadyAddresses=_FLAG),
    failurePolicy=_object(maxRestarts=_COUNT, rules=_list(_RULE), restartStrategy=_choice(
      'Recreate', 'BlockingRecreate')),
    successPolicy=_object(['operator'], operator=_choice('All', 'Any'),
                          targetReplicatedJobs=_list(_NAME)),
    replicatedJobs=_list(_object(
      ['name', 'template'], name=_NAME, replicas={'type': 'integer', 'minimum': 1},
      template=_object(['spec'], metadata=_object(labels=_MAP, annotations=_MAP), spec=_JOB)), 1)))
_TYPES = {'object': dict, 'array': list, 'string': str, 'integer': int, 'boolean': bool}


def check(value: Any, schema=None, place: str = 'JobSet') -> None:
  """Does nothing where `value` keeps the schema.

  Raises:
    Invalid: it does not; with the first place that breaks it.
  """
  schema = SCHEMA if schema is None else schema
  types = schema.get('type', [])
  types = [types] if isinstance(types, str) else types
  # True is an int of Python's and not of JSON's.
  if types and not any(isinstance(value, _TYPES[t]) and
                       (t == 'boolean' or not isinstance(value, bool)) for t in types):
    raise Invalid(f'{place}: {value!r} is no {" or ".join(types)}')
  if 'enum' in schema and value not in schema['enum']:
    raise Invalid(f'{place}: {value!r} is no choice' + errors.near(str(value), schema['enum']))
  if isinstance(value, str):
    # $ stands for the end, and with Python before a last line break too.
    if 'pattern' in schema and ('\n' in value or not re.search(schema['pattern'], value)):
      raise Invalid(f'{place}: {value!r} does not match {schema["pattern"]}')
    if len(value) > schema.get('maxLength', len(value)):
      raise Invalid(f'{place}: {value!r} is longer than {schema["maxLength"]}')
  if isinstance(value, int) and value < schema.get('minimum', value):
    raise Invalid(f'{place}: {value} is less than {schema["minimum"]}')
  if isinstance(value, list):
    if len(value) < schema.get('minItems', 0):
      raise Invalid(f'{place}: is empty')
    for i, item in enumerate(value):
      check(item, schema.get('items', {}), f'{place}[{i}]')
  if isinstance(value, dict):
    _check_object(value, schema, place)


def _check_object(value, schema, place) -> None:
  properties, others = schema.get('properties', {}), schema.get('additionalProperties', {})
  for name in schema.get('required', []):
    if name not in value:
      raise Invalid(f'{place}: has no {name}')
  for name, item in value.items():
    if not isinstance(name, str):
      raise Invalid(f'{place}: the name {name!r} is no string')
    if name in properties:
      check(item, properties[name], f'{place}.{name}')
    elif others is False:
      raise Invalid(f'{place}: unknown field {name!r}' + errors.near(name, list(properties)))
    else:
      check(item, others, f'{place}.{name}')
