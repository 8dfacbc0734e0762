"""One result in full, as HTML: likelihood beside baselines, other scores, draws."""

import html


def scores(title: str, result: dict) -> str:
  """A result in full: likelihood beside baselines, what else was scored, draws."""
  rows = [(html.escape(title), result)]
  rows += [(html.escape(k), v) for k, v in result.get('baselines', {}).items()]
  rows = [(name, r) for name, r in rows if r['test_nats'] is not None]
  body = ''.join(
    f'<tr><td>{name}</td><td class="number">{r["test_nats"]:.2f}</td><td>{r["kind"]}</td>'
    f'<td class="number">{_spread(r)}</td><td class="number">{r["image_standard_error"]:.2f}</td>'
    '</tr>' for name, r in rows)
  text = ''
  if body:
    text = ('<h2>Test log-likelihood</h2><table><tr><th>model</th><th>nats per image</th><th>kind'
            '</th><th>spread over seeds</th><th>standard error over images</th></tr>'
            f'{body}</table>')
  return (f'{text}<p class="soft">{html.escape(_note(result))}</p>'
          f'<p class="soft">{result["num_images"]} test images, '
          f'{html.escape(result["binarisation"])} binarisation.</p>'
          f'{_others(result)}{_samples(result)}')


def _note(result) -> str:
  """What a reader must know about the kind of number."""
  if result['kind'] == 'none':
    return f'No likelihood: {result["why"]}.'
  if result['kind'] == 'ais':
    return ('Annealed importance sampling gives a log Z that is low in expectation, so a '
            'likelihood that is high; effective sample size '
            f'{result["effective_sample_size"]:.1f} of {result["num_chains"]} chains, '
            f'standard error {result["standard_error"]:.2f}.')
  if result['kind'] == 'bracket':
    return (f'Between {result["lower"]:.2f} and {result["upper"]:.2f} nats, log Z from both '
            f'sides; {"resolved" if result["resolved"] else "NOT RESOLVED"}; the smaller effective '
            f'sample size {result["effective_sample_size"]:.1f} of {result["num_chains"]} chains.')
  if result['kind'] == 'bound':
    return (f'A lower bound in expectation, standard error {result["standard_error"]:.2f}, '
            f'effective sample size {result["effective_sample_size"]:.1f}.')
  return ''


def _others(result) -> str:
  """Named scores that are no likelihoods."""
  if not result.get('scores'):
    return ''
  spread = result.get('scores_spread', {})
  body = ''.join(
    f'<tr><td>{html.escape(k)}</td><td class="number">{v:.4g}</td>'
    f'<td class="number">{f"{spread[k]:.2g}" if k in spread else "-"}</td></tr>'
    for k, v in result['scores'].items())
  return ('<h2>Scores</h2><table><tr><th>score</th><th>value</th><th>spread over seeds</th></tr>'
          f'{body}</table>')


def _samples(result) -> str:
  """Sample scores beside their real-vs-real floors."""
  if not result.get('samples'):
    return ''
  body = ''.join(
    f'<tr><td>{html.escape(k)}</td><td class="number">{v["value"]:.3g}</td>'
    f'<td>{v["low"]:.3g} to {v["high"]:.3g}</td><td class="number">{v["floor"]:.3g}</td>'
    f'<td>{v["floor_low"]:.3g} to {v["floor_high"]:.3g}</td><td>{v["better"]}</td></tr>'
    for k, v in result['samples'].items())
  first = next(iter(result['samples'].values()))
  copied = '<b>Draws are copies of training images.</b>' if result.get('memorised') else ''
  return ('<h2>Draws against test images</h2><table><tr><th>score</th><th>draws</th>'
          '<th>over sets</th><th>real training images</th><th>over sets</th><th>better</th></tr>'
          f'{body}</table><p class="soft">Both sides {html.escape(result["sample_space"])}; '
          f'{first["num_sets"]} independent sets of {first["n"]} images: mean, least and greatest. '
          f'{copied}</p>')


def _spread(score) -> str:
  return f'{score["seed_spread"]:.2f}' if 'seed_spread' in score else '-'
