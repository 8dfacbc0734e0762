"""Mode coverage of a mixture whose modes are known (Lin et al., 2018; Srivastava et al., 2017).

Of N samples x and M modes m, each sample belongs to the mode nearest to it, and is of high quality
if it lies within 3 sigma of that mode:

  modes         modes that own a sample of high quality
  high_quality  share of samples of high quality; 1 - exp(-9/2) = 0.9889 for Gaussian modes in 2-D
  reverse_kl    sum_m q_m log(q_m / (1/M)), q_m the share of all samples that mode m owns; nats.
                (M - 1) / 2N for N samples of the mixture itself

Axis suffixes: N samples, M modes, D dimensions.
"""

import numpy as np


def coverage(x_ND, modes_MD, sigma: float) -> dict[str, float]:
  """{'modes', 'high_quality', 'reverse_kl'} as above, of equally likely modes.

  Raises:
    FloatingPointError: a sample is not finite.
  """
  x_ND, modes_MD = np.asarray(x_ND, np.float64), np.asarray(modes_MD, np.float64)
  if not np.all(np.isfinite(x_ND)):
    raise FloatingPointError('samples are not finite: the parameters have diverged')
  distance_NM = np.linalg.norm(x_ND[:, None] - modes_MD, axis=-1)
  owner_N, good_N = distance_NM.argmin(1), distance_NM.min(1) <= 3 * sigma
  q_M = np.bincount(owner_N, minlength=len(modes_MD)) / len(x_ND)
  q = q_M[q_M > 0]
  return {'modes': float(len(np.unique(owner_N[good_N]))), 'high_quality': float(good_N.mean()),
          'reverse_kl': float(np.sum(q * np.log(q * len(modes_MD))))}


def histogram(x_ND, low: float, high: float, bins: int = 128) -> np.ndarray:
  """2-D samples as a picture [bins, bins] in [0, 1]: counts, the root of them, the second axis up.

  The root, because samples outside the modes are few and are what one looks for.
  """
  x_ND = np.asarray(x_ND)
  edges = np.linspace(low, high, bins + 1)
  counts, _, _ = np.histogram2d(-x_ND[:, 1], x_ND[:, 0], (np.sort(-edges), edges))
  return np.sqrt(counts / max(1.0, np.quantile(counts[counts > 0], 0.95) if counts.any() else 1.0)
                 ).clip(0, 1).astype(np.float32)
