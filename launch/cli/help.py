"""`--help` of a command: what it does, then its flags in the order in which they are defined."""

import re
import sys
import textwrap

from absl import flags


def asked(argv) -> bool:
  """Whether help is asked for; --helpfull, every flag of every module, is absl's."""
  return any(word in ('--help', '-help', '-h', '--helpshort') for word in argv[1:])


def text(module, width: int = 100) -> str:
  """The docstring of a command's module and its flags.

  Args:
    module: the one that runs.
    width: of a line.
  """
  key = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
  parts = [(module.__doc__ or '').strip(), '', 'flags']
  for flag in key:
    if flag.name in ('help', 'helpfull', 'helpshort', 'helpxml'):
      continue
    parts.append(f'  {_name(flag)}')
    parts += textwrap.wrap(_help(flag) + _default(flag), width, initial_indent=' ' * 6,
                           subsequent_indent=' ' * 6)
  parts += ['', '--helpfull lists the flags of all modules.']
  return '\n'.join(parts)


def _name(flag) -> str:
  if flag.boolean:
    return f'--[no]{flag.name}'
  choices = getattr(flag.parser, 'enum_values', None)
  kind = {'int': 'N', 'float': 'X'}.get(flag.flag_type(), 'VALUE')
  return f'--{flag.name}={"|".join(choices) if choices else kind}'


def _help(flag) -> str:
  """The help as it was written, without what absl puts before and after it."""
  return re.sub(r'^<[^>]*>: |;\s+repeat this option to specify a list of values$', '', flag.help)


def _default(flag) -> str:
  if flag.default in (None, [], '', False):
    return ''
  return f' (default: {flag.default_as_str.strip(chr(39))})'
