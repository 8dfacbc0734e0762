"""Values that hyperparameters may take."""


def sizes_of(text: str) -> tuple[int, ...]:
  """'500-2000' -> (500, 2000); '' -> ().

  Raises:
    ValueError: not numbers joined by dashes.
  """
  try:
    return tuple(int(size) for size in text.split('-')) if text else ()
  except ValueError as error:
    raise ValueError(f'layers are sizes joined by dashes, 500-2000, not {text!r}') from error
