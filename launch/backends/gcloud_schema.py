"""The part of gcloud that is used here, as JSON schemas: found before anything is paid for.

Source: Google Cloud SDK 528.0.0 (gcloud compute tpus ... --help).
"""

from typing import Any

from launch.backends import schema
from launch.backends.schema import text

_WIDE = ('account', 'configuration', 'format', 'impersonate-service-account', 'log-http', 'project',
         'quiet', 'verbosity')
_CREATE = ('accelerator-type', 'async', 'data-disk', 'description', 'internal-ips', 'labels',
           'metadata', 'metadata-from-file', 'network', 'range', 'reserved', 'scopes',
           'service-account', 'shielded-secure-boot', 'spot', 'subnetwork', 'tags', 'topology',
           'type', 'zone')
_SSH = ('dry-run', 'force-key-file-overwrite', 'internal-ip', 'plain', 'ssh-key-expiration',
        'ssh-key-expire-after', 'ssh-key-file', 'strict-host-key-checking', 'worker', 'zone')
FLAGS = {
  ('tpu-vm', 'create'): (*_CREATE, 'version', 'preemptible', 'queue-count'),
  ('tpu-vm', 'describe'): ('zone',),
  ('tpu-vm', 'delete'): ('async', 'zone'),
  ('tpu-vm', 'ssh'): (*_SSH, 'command', 'output-directory', 'ssh-flag'),
  ('tpu-vm', 'scp'): (*_SSH, 'compress', 'recurse', 'scp-flag'),
  ('queued-resources', 'create'): (
    *_CREATE, 'guaranteed', 'node-count', 'node-id', 'node-prefix', 'reservation-host-folder',
    'reservation-host-organization', 'reservation-host-project', 'runtime-version',
    'valid-after-duration', 'valid-after-time', 'valid-until-duration', 'valid-until-time'),
  ('queued-resources', 'describe'): ('zone',),
  ('queued-resources', 'delete'): ('async', 'force', 'zone')}
_ZONE = text('[a-z]+-[a-z]+[0-9]+-[a-z]', 'a zone, a region and a letter, such as us-central2-b')
_PROJECT = text('([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]', 'the ID of a project, 6 to 30 '
                'lower-case letters, digits and dashes, from a letter on')


def schema_of(group: str, verb: str) -> dict[str, Any]:
  """The JSON schema of {flag: value} of `gcloud compute tpus group verb`."""
  known = {f'--{name}': {'type': 'string'} for name in (*FLAGS[group, verb], *_WIDE)}
  return {'type': 'object', 'properties': {**known, '--zone': _ZONE, '--project': _PROJECT},
          'propertyNames': text('--[a-z][a-z-]*', 'a flag: write --flag=value'),
          'additionalProperties': False}


def command(group: str, verb: str, *words: str) -> list[str]:
  """`gcloud compute tpus group verb words`, checked.

  Raises:
    Invalid: a flag or the value of one that gcloud would refuse.
  """
  split = (word.partition('=') for word in words if word.startswith('-'))
  given = {flag: value for flag, _, value in split}
  schema.check(given, schema_of(group, verb), f'gcloud compute tpus {group} {verb}')
  return ['gcloud', 'compute', 'tpus', group, verb, *words]


def check_flags(zone: str, project: str | None) -> None:
  """Refuses values of --tpu_zone and --tpu_project that cannot be any.

  Raises:
    Invalid: one of them.
  """
  schema.check(zone, _ZONE, '--tpu_zone')
  if project:
    schema.check(project, _PROJECT, '--tpu_project')
