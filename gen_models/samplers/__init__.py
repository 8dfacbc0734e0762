"""Samplers: how to draw from a distribution that cannot be drawn from directly, and its log Z."""

from typing import TYPE_CHECKING

from gen_models import _lazy

if TYPE_CHECKING:
  from gen_models.samplers import (
    annealing,
    conditional,
    ends,
    hamiltonian,
    searches,
    strata,
    tempering,
    thorough,
  )
  from gen_models.samplers.annealing import Bracket, Estimate
  from gen_models.samplers.tempering import Ladder

__all__ = [
  'Bracket', 'Estimate', 'Ladder', 'annealing', 'conditional', 'ends', 'hamiltonian',
  'searches', 'strata', 'tempering', 'thorough']

__getattr__, __dir__ = _lazy.attach(
  __name__,
  ('annealing', 'conditional', 'ends', 'hamiltonian', 'searches', 'strata', 'tempering',
   'thorough'),
  {'Bracket': 'gen_models.samplers.annealing',
   'Estimate': 'gen_models.samplers.annealing',
   'Ladder': 'gen_models.samplers.tempering'})
