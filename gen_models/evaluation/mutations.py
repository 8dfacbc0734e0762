"""Effects of single mutations of a sequence, from the free energy of a machine.

  s_ia = log p(v with letter a in column i) - log p(v) = F(v) - F(v with letter a in column i),

0 for the letter that is there; log Z cancels, so the effects are exact.

Axis suffixes: B sequences, L columns, Q letters, D = L Q. Nats.

Tubiana, Cocco & Monasson (2019), Learning protein constitutive motifs from sequence data; Hopf,
Ingraham, Poelwijk, Schaerfe, Springer, Sander & Marks (2017), Mutation effects predicted from
sequence co-variation.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gen_models.samplers.annealing import Machine


def effects(machine: Machine, params: Any, v_BD: jax.Array) -> jax.Array:
  """s [B, L, Q] of one-of-Q rows; sequences one at a time, all their mutants at once.

  Args:
    machine: with categorical visible units.
    params: of the machine.
    v_BD: one-of-Q columns side by side.
  """
  num_letters = machine.visible.group
  num_columns = v_BD.shape[1] // num_letters
  letters_QQ = jnp.eye(num_letters, dtype=v_BD.dtype)

  def of_one(v_D):
    v_LQ = v_D.reshape(num_columns, num_letters)

    def column(i):
      mutants = jnp.broadcast_to(v_LQ, (num_letters, *v_LQ.shape)).at[:, i].set(letters_QQ)
      return -machine.free_energy(params, mutants.reshape(num_letters, -1))

    return (jax.lax.map(column, jnp.arange(num_columns))
            + machine.free_energy(params, v_D[None])[0])

  return jax.lax.map(of_one, v_BD)
