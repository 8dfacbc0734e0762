"""The part of the JobSet API, jobset.x-k8s.io/v1alpha2, that is rendered here, as a JSON schema.

Fields of a pod that are only passed on have their names listed and not their contents.

Source: config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml of kubernetes-sigs/jobset.
"""

from launch.backends.schema import text


def _object(required=(), **properties):
  return {'type': 'object', 'properties': properties, 'required': list(required),
          'additionalProperties': False}


def _list(items, least=0):
  return {'type': 'array', 'items': items, 'minItems': least}


def _choice(*values):
  return {'type': 'string', 'enum': list(values)}


_TEXT = {'type': 'string'}
_FILLED = text('.+', 'one line of text')
_FLAG = {'type': 'boolean'}
_COUNT = {'type': 'integer', 'minimum': 0}
_MAP = {'type': 'object', 'additionalProperties': _TEXT}
_ANY = {}
_NAME = text('[a-z0-9]([-a-z0-9.]*[a-z0-9])?', 'a name of lower-case letters, digits and dashes',
             63)
_QUANTITY = {**text(r'\d+(\.\d+)?(m|[kKMGTPE]i?|[eE]\d+)?', 'a quantity such as 4, 500m or 16Gi'),
             'type': ['string', 'integer']}
_QUANTITIES = {'type': 'object', 'additionalProperties': _QUANTITY}
_META = {'name': _NAME, 'namespace': _NAME, 'labels': _MAP, 'annotations': _MAP}

_ENV = _object(['name'], name=text('[A-Za-z_][A-Za-z0-9_]*', 'the name of a variable'),
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
                             mountPath=text(r'/[\s\S]*', 'an absolute path'))))
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
  name=text('[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?', 'the name of a rule'),
  onJobFailureReasons=_list(_choice('BackoffLimitExceeded', 'DeadlineExceeded', 'PodFailurePolicy',
                                    'FailedIndexes', 'MaxFailedIndexesExceeded')),
  targetReplicatedJobs=_list(_NAME))
SCHEMA = _object(
  ['apiVersion', 'kind', 'metadata', 'spec'],
  apiVersion={'const': 'jobset.x-k8s.io/v1alpha2'}, kind={'const': 'JobSet'},
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
