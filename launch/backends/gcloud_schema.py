"""The part of gcloud that is used here, to catch what it would refuse before anything is paid for.

Source: Google Cloud SDK 528.0.0 (gcloud compute tpus ... --help).
"""

import re

from launch import errors

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
_PARTS = ('africa', 'asia', 'australia', 'europe', 'me', 'northamerica', 'southamerica', 'us')
_SIDES = ('central', 'east', 'north', 'northeast', 'northwest', 'south', 'southeast', 'southwest',
          'west')


def check(words: list[str]) -> list[str]:
  """`words`, a gcloud command, where gcloud knows the command and its flags.

  Raises:
    UsageError: it does not.
  """
  command = tuple(words[3:5])
  if words[:3] != ['gcloud', 'compute', 'tpus'] or command not in FLAGS:
    raise errors.UsageError(f'gcloud has no command {" ".join(words[1:5])}'
                              + errors.near(' '.join(command), [' '.join(c) for c in FLAGS]))
  for word in words[5:]:
    name = word[2:].partition('=')[0]
    if word.startswith('-') and (not word.startswith('--')
                                 or name not in (*FLAGS[command], *_WIDE)):
      raise errors.UsageError(f'gcloud compute tpus {" ".join(command)} has no flag '
                              f'{word.partition("=")[0]}'
                                + errors.near(name, list(FLAGS[command])))
  return words


def check_zone(flag: str, zone: str) -> str:
  """`zone` where it reads as one: us-central2-b.

  Raises:
    UsageError: it does not.
  """
  found = re.fullmatch(r'([a-z]+)-([a-z]+)(\d+)-([a-z])', zone)
  if not found:
    region = re.fullmatch(r'[a-z]+-[a-z]+\d+', zone)
    raise errors.UsageError(f'--{flag}={zone}: '
                            + ('a region; a zone has a letter more, such as ' + zone + '-a'
                                 if region else 'write a zone such as us-central2-b'))
  for part, known in ((found[1], _PARTS), (found[2], _SIDES)):
    if part not in known:
      raise errors.UsageError(f'--{flag}={zone}: no zone of Google Cloud has {part!r}'
                                + errors.near(part, known))
  return zone


def check_project(flag: str, project: str) -> str:
  """`project` where it reads as the ID of one, which is not its name.

  Raises:
    UsageError: it does not.
  """
  if not re.fullmatch(r'([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]', project):
    raise errors.UsageError(f'--{flag}={project}: the ID of a project has 6 to 30 lower-case '
                            'letters, digits and dashes, from a letter on')
  return project
