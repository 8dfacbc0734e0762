"""A run directory of an earlier version is read, resumed and scored.

old_run/ is `rbm_digits --variant=pcd --set=num_hidden=8 --set=num_steps=2000`, stopped after 1,400
updates by the version of 2026-11-27 (commit 51b3ce6) on a CPU with AVX-512; old_run_end.npz holds
the parameters with which its unbroken run ended there. Another vector width may round sums
otherwise, hence tolerances; on a machine of that kind the parameters are bitwise identical.
"""

import json
import pathlib
import shutil

import numpy as np

from launch.runs import load
from tests.launch.commands import run

HERE = pathlib.Path(__file__).parent
WORDS = ['--experiment=rbm_digits', '--variant=pcd', '--set=num_hidden=8', '--set=num_steps=2000',
         '--nopage']
NATS = -21.430630  # of the unbroken run, by launch.evaluate of that version


def test_an_old_run_is_resumed_and_scored(tmp_path):
  workdir = tmp_path / 'old'
  shutil.copytree(HERE / 'old_run', workdir)
  assert load.run(workdir).step == 1400
  done = run('train', *WORDS, f'--workdir={workdir}')
  assert 'at step 1400' in done.stdout
  ended = load.run(workdir)
  assert ended.step == 2000
  with np.load(HERE / 'old_run_end.npz') as expected:
    for name, value in ended.params._asdict().items():
      np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)
  run('evaluate', f'--workdir={workdir}', '--sample_space=none', '--nopage')
  result = json.loads((workdir / 'result.json').read_text())
  assert (result['kind'], result['num_images'], result['step']) == ('exact', 300, 2000)
  np.testing.assert_allclose(result['test_nats'], NATS, atol=1e-3)
