"""Forward passes against torch's own layers with the same random weights, where torch is there."""

import numpy as np
import pytest

from gen_models.evaluation import adapters
from gen_models.evaluation.adapters import dinov2, inception, weights

torch = pytest.importorskip('torch', reason='torch is no dependency: pip install torch to compare '
                            'the networks that read its weights')
pytestmark = pytest.mark.slow


def randomised(net, seed=0):
  """Weights that keep the scale of signals, and statistics that are not 0 and 1."""
  generator = torch.Generator().manual_seed(seed)

  def normal(like, mean=0.0, sd=1.0):
    return mean + sd * torch.randn(like.shape, generator=generator)

  values = {}
  for name, x in net.state_dict().items():
    if x.ndim > 1 and 'token' not in name:
      values[name] = normal(x, sd=(2 / x[0].numel())**0.5)
    elif name.endswith('running_var'):
      values[name] = 0.5 + torch.rand(x.shape, generator=generator)
    elif x.dtype == torch.int64:
      values[name] = x
    else:
      values[name] = normal(x, float(name.endswith(('weight', 'gamma'))), 0.2)
  net.load_state_dict(values)
  return net.eval()


class Unit(torch.nn.Module):

  def __init__(self, inputs, outputs, **options):
    super().__init__()
    self.conv = torch.nn.Conv2d(inputs, outputs, bias=False, **options)
    self.bn = torch.nn.BatchNorm2d(outputs, eps=0.001)

  def forward(self, x):
    return torch.relu(self.bn(self.conv(x)))


class Block(torch.nn.Module):
  """Branches of units by name, put together by a function."""

  def __init__(self, units, run):
    super().__init__()
    for name, (inputs, outputs, *kernel) in units.items():
      self.add_module(name, Unit(inputs, outputs, **(kernel or [{'kernel_size': 1}])[0]))
    self.run = run

  def forward(self, x):
    def chain(names, x):
      for name in names.split():
        x = getattr(self, name)(x)
      return x
    return torch.cat(self.run(chain, x), 1)


THREE, FIVE = {'kernel_size': 3, 'padding': 1}, {'kernel_size': 5, 'padding': 2}
DOWN, ACROSS = ({'kernel_size': k, 'padding': p} for k, p in (((7, 1), (3, 0)), ((1, 7), (0, 3))))
A13, A31 = ({'kernel_size': k, 'padding': p} for k, p in (((1, 3), (0, 1)), ((3, 1), (1, 0))))
STRIDED = {'kernel_size': 3, 'stride': 2}


def average(x):
  return torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def largest(x, *options):
  return torch.nn.functional.max_pool2d(x, 3, *options)


def block_a(n, pooled):
  return Block({
    'branch1x1': (n, 64), 'branch5x5_1': (n, 48), 'branch5x5_2': (48, 64, FIVE),
    'branch3x3dbl_1': (n, 64), 'branch3x3dbl_2': (64, 96, THREE),
    'branch3x3dbl_3': (96, 96, THREE), 'branch_pool': (n, pooled)},
    lambda go, x: [go('branch1x1', x), go('branch5x5_1 branch5x5_2', x),
                   go('branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3', x),
                   go('branch_pool', average(x))])


def block_b(n):
  return Block({
    'branch3x3': (n, 384, STRIDED), 'branch3x3dbl_1': (n, 64), 'branch3x3dbl_2': (64, 96, THREE),
    'branch3x3dbl_3': (96, 96, STRIDED)},
    lambda go, x: [go('branch3x3', x), go('branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3', x),
                   largest(x, 2)])


def block_c(m):
  return Block({
    'branch1x1': (768, 192), 'branch7x7_1': (768, m), 'branch7x7_2': (m, m, ACROSS),
    'branch7x7_3': (m, 192, DOWN), 'branch7x7dbl_1': (768, m), 'branch7x7dbl_2': (m, m, DOWN),
    'branch7x7dbl_3': (m, m, ACROSS), 'branch7x7dbl_4': (m, m, DOWN),
    'branch7x7dbl_5': (m, 192, ACROSS), 'branch_pool': (768, 192)},
    lambda go, x: [go('branch1x1', x), go('branch7x7_1 branch7x7_2 branch7x7_3', x),
                   go(' '.join(f'branch7x7dbl_{i}' for i in range(1, 6)), x),
                   go('branch_pool', average(x))])


def block_d():
  return Block({
    'branch3x3_1': (768, 192), 'branch3x3_2': (192, 320, STRIDED), 'branch7x7x3_1': (768, 192),
    'branch7x7x3_2': (192, 192, ACROSS), 'branch7x7x3_3': (192, 192, DOWN),
    'branch7x7x3_4': (192, 192, STRIDED)},
    lambda go, x: [go('branch3x3_1 branch3x3_2', x),
                   go(' '.join(f'branch7x7x3_{i}' for i in range(1, 5)), x), largest(x, 2)])


def block_e(n, pool):
  def run(go, x):
    wide, deep = go('branch3x3_1', x), go('branch3x3dbl_1 branch3x3dbl_2', x)
    return [go('branch1x1', x), go('branch3x3_2a', wide), go('branch3x3_2b', wide),
            go('branch3x3dbl_3a', deep), go('branch3x3dbl_3b', deep), go('branch_pool', pool(x))]
  return Block({
    'branch1x1': (n, 320), 'branch3x3_1': (n, 384), 'branch3x3_2a': (384, 384, A13),
    'branch3x3_2b': (384, 384, A31), 'branch3x3dbl_1': (n, 448),
    'branch3x3dbl_2': (448, 384, THREE), 'branch3x3dbl_3a': (384, 384, A13),
    'branch3x3dbl_3b': (384, 384, A31), 'branch_pool': (n, 192)}, run)


class Inception(torch.nn.Module):

  def __init__(self):
    super().__init__()
    largest_2 = torch.nn.MaxPool2d(3, 2)
    self.order = []
    for name, layer in (
        ('Conv2d_1a_3x3', Unit(3, 32, kernel_size=3, stride=2)),
        ('Conv2d_2a_3x3', Unit(32, 32, kernel_size=3)),
        ('Conv2d_2b_3x3', Unit(32, 64, **THREE)), ('pool1', largest_2),
        ('Conv2d_3b_1x1', Unit(64, 80, kernel_size=1)),
        ('Conv2d_4a_3x3', Unit(80, 192, kernel_size=3)), ('pool2', largest_2),
        ('Mixed_5b', block_a(192, 32)), ('Mixed_5c', block_a(256, 64)),
        ('Mixed_5d', block_a(288, 64)), ('Mixed_6a', block_b(288)), ('Mixed_6b', block_c(128)),
        ('Mixed_6c', block_c(160)), ('Mixed_6d', block_c(160)), ('Mixed_6e', block_c(192)),
        ('Mixed_7a', block_d()), ('Mixed_7b', block_e(1280, average)),
        ('Mixed_7c', block_e(2048, lambda x: largest(x, 1, 1)))):
      self.add_module(name, layer)
      self.order.append(name)
    self.fc = torch.nn.Linear(2048, 1008)

  def forward(self, x):
    for name in self.order:
      x = getattr(self, name)(x)
    pool = x.mean((2, 3))
    return pool, self.fc(pool) - self.fc.bias


class Layer(torch.nn.Module):

  def __init__(self, width):
    super().__init__()
    self.norm1, self.norm2 = (torch.nn.LayerNorm(width, eps=1e-6) for _ in range(2))
    self.attn, self.mlp, self.ls1, self.ls2 = (torch.nn.Module() for _ in range(4))
    self.attn.qkv = torch.nn.Linear(width, 3 * width)
    self.attn.proj = torch.nn.Linear(width, width)
    self.mlp.fc1 = torch.nn.Linear(width, 4 * width)
    self.mlp.fc2 = torch.nn.Linear(4 * width, width)
    self.ls1.gamma, self.ls2.gamma = (torch.nn.Parameter(torch.ones(width)) for _ in range(2))

  def forward(self, h):
    batch, tokens, width = h.shape
    q, k, v = self.attn.qkv(self.norm1(h)).reshape(batch, tokens, 3, width // 64, 64).permute(
      2, 0, 3, 1, 4)
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    h = h + self.ls1.gamma * self.attn.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))
    return h + self.ls2.gamma * self.mlp.fc2(
      torch.nn.functional.gelu(self.mlp.fc1(self.norm2(h))))


class Transformer(torch.nn.Module):

  def __init__(self, width=384, depth=12):
    super().__init__()
    self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, width))
    self.mask_token = torch.nn.Parameter(torch.zeros(1, width))
    self.pos_embed = torch.nn.Parameter(torch.zeros(1, 1370, width))
    self.patch_embed = torch.nn.Module()
    self.patch_embed.proj = torch.nn.Conv2d(3, width, 14, 14)
    self.blocks = torch.nn.ModuleList(Layer(width) for _ in range(depth))
    self.norm = torch.nn.LayerNorm(width, eps=1e-6)

  def forward(self, x):
    width = self.norm.weight.shape[0]
    h = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
    grid = self.pos_embed[:, 1:].reshape(1, 37, 37, width).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, scale_factor=(16.1 / 37, 16.1 / 37),
                                           mode='bicubic')
    h = torch.cat([(self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1),
                   h + grid.flatten(2).transpose(1, 2)], 1)
    for block in self.blocks:
      h = block(h)
    return self.norm(h)[:, 0]


def saved(net, path, old):
  torch.save(net.state_dict(), path, _use_new_zipfile_serialization=not old)
  return path


def close(found, expected):
  expected = expected.numpy()
  assert expected.std() > 0.01, 'a network that tells nothing apart tests nothing'
  np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), rtol=1e-4)


@pytest.mark.parametrize('old', [True, False], ids=['stream', 'archive'])
def test_inception(old, tmp_path):
  net = randomised(Inception())
  space = adapters.load('inception', saved(net, tmp_path / 'net.pth', old))
  assert space.record['published_weights'] is None and space.side == inception.SIDE
  x = np.random.default_rng(0).integers(0, 256, (2, 3, 299, 299)).astype(np.float32)
  with torch.no_grad():
    pool, logits = net((torch.tensor(x) - 128) / 128)
  found = space.network(x.transpose(0, 2, 3, 1))
  close(found[0], pool)
  close(found[1], logits)


def test_dinov2(tmp_path):
  net = randomised(Transformer())
  space = adapters.load('dinov2', saved(net, tmp_path / 'net.pth', old=False))
  x = np.random.default_rng(0).uniform(0, 255, (2, 3, 224, 224)).astype(np.float32)
  mean, sd = (torch.tensor(values)[:, None, None] for values in (dinov2.MEAN, dinov2.SD))
  with torch.no_grad():
    expected = net((torch.tensor(x) / 255 - mean) / sd)
  found, logits = space.network(x.transpose(0, 2, 3, 1))
  assert logits is None
  close(found, expected)


def test_half_precision_is_read(tmp_path):
  values = torch.randn(3, 5)
  for dtype in (torch.float16, torch.bfloat16, torch.float64):
    torch.save({'state_dict': {'x': values.to(dtype).T}}, tmp_path / 'x.pth')
    found = weights.read(tmp_path / 'x.pth').arrays['x']
    np.testing.assert_array_equal(found.astype(np.float32), values.to(dtype).float().numpy().T)
