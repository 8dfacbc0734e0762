"""Small files under the names that are defaults of experiments on a user's data."""

import pathlib

import numpy as np
import pytest

PROTEIN = 'ACDEFGHIKLMNPQRSTVWY-'


def write_files(where: pathlib.Path) -> None:
  """spikes.npz (two assemblies of 4 among 12 neurons), family.fasta (8 columns), contacts.npy."""
  draws = np.random.default_rng(0)
  on_N2 = draws.random((400, 2)) < 0.3
  x_NV = draws.random((400, 12)) < np.repeat(np.where(on_N2, 0.6, 0.03), [4, 8], axis=1)
  np.savez(where / 'spikes.npz', x=x_NV.astype(np.uint8))
  letters_NL = draws.integers(0, 5, (300, 8))
  same_N = draws.random(300) < 0.7
  letters_NL[same_N, 6] = letters_NL[same_N, 0]
  letters_NL[0] = 20  # a gap: the alphabet is that of proteins
  (where / 'family.fasta').write_text(''.join(
    f'>s{i}\n{"".join(PROTEIN[a] for a in row)}\n' for i, row in enumerate(letters_NL)))
  contact_LL = np.zeros((8, 8), bool)
  contact_LL[0, 6] = contact_LL[6, 0] = True
  np.save(where / 'contacts.npy', contact_LL)


@pytest.fixture(scope='session')
def own_files(tmp_path_factory) -> pathlib.Path:
  """The directory with the files."""
  where = tmp_path_factory.mktemp('own')
  write_files(where)
  return where


@pytest.fixture(autouse=True)
def in_their_directory(own_files, monkeypatch):
  """Every test of this room begins beside the files."""
  monkeypatch.chdir(own_files)
