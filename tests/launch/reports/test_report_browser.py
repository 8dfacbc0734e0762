"""The page as a person uses it, in headless Chromium."""

import shutil

import pytest

from launch.reports import report
from tests.launch.reports import handmade

selenium = pytest.importorskip('selenium', reason='selenium drives the browser')
DRIVER, BROWSER = shutil.which('chromedriver'), shutil.which('chromium')
if not (DRIVER and BROWSER):
  pytest.skip('no chromium and chromedriver on this machine', allow_module_level=True)


@pytest.fixture(scope='module')
def browser():
  from selenium import webdriver
  from selenium.webdriver.chrome.service import Service
  options = webdriver.ChromeOptions()
  options.binary_location = BROWSER
  for flag in ('headless=new', 'no-sandbox', 'disable-gpu', 'disable-dev-shm-usage'):
    options.add_argument(f'--{flag}')
  options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
  driver = webdriver.Chrome(options=options, service=Service(DRIVER))
  yield driver
  driver.quit()


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  directory = tmp_path_factory.mktemp('report')
  for i, (rate, nats) in enumerate([(0.1, -18.5), (0.2, -9.25), (0.3, -118.0)]):
    for seed in (0, 1):
      handmade.run(directory / 'runs' / f'{i}' / f'seed{seed}', seed, nats - seed,
                   learning_rate=rate)
  handmade.run(directory / 'runs' / 'other', 0, -80.0, experiment='rbm_<b>mnist', variant='pcd1')
  return report.of_directories([directory / 'runs'], directory / 'page.html')


@pytest.fixture
def page(browser, path):
  browser.get_log('browser')
  browser.get_log('performance')
  browser.set_window_size(1280, 1000)
  browser.get(path.as_uri())
  return browser


def column(page, index):
  """Texts of a column of the digits' table, as shown."""
  return page.execute_script("""
    const table = document.querySelector('[data-experiment=rbm_digits] table');
    return [...table.tBodies[0].rows].filter(r => !r.hidden)
      .map(r => r.cells[arguments[0]].innerText);
    """, index)


def test_it_opens_without_errors_or_requests_and_shows_every_picture(page):
  assert page.get_log('browser') == []
  requests = [x['message'] for x in page.get_log('performance')
              if '"Network.requestWillBeSent"' in x['message']]
  assert all('"url":"file://' in x or '"url":"data:' in x for x in requests), requests
  for details in page.find_elements('tag name', 'details'):
    page.execute_script('arguments[0].open = true', details)
  widths = page.execute_script('return [...document.images].map(x => x.naturalWidth)')
  assert len(widths) >= 4 and all(widths)
  assert page.execute_script('return [...document.images].every(x => x.alt)')


def test_it_sorts_numbers_as_numbers_by_key_and_by_click(page):
  nats = [x for x in column(page, 1)]
  assert any('±' in x for x in nats) and any('−' in x for x in nats)

  def value(text):
    return float(text.split(' ')[0].replace('−', '-'))

  from selenium.webdriver.common.by import By
  from selenium.webdriver.common.keys import Keys
  button = page.find_element(By.CSS_SELECTOR,
                             '[data-experiment=rbm_digits] th:nth-child(2) button')
  page.find_element(By.ID, 'filter').click()
  for _ in range(30):  # reached by Tab alone
    page.switch_to.active_element.send_keys(Keys.TAB)
    if page.switch_to.active_element == button:
      break
  else:
    raise AssertionError('Tab never reaches the button')
  button.send_keys(Keys.ENTER)
  assert button.find_element(By.XPATH, '..').get_attribute('aria-sort') == 'ascending'
  up = [value(x) for x in column(page, 1)]
  assert up == sorted(up) and up[0] == -118.5
  button.click()
  assert [value(x) for x in column(page, 1)] == up[::-1]


def test_it_filters_rows_and_experiments(page):
  field = page.find_element('id', 'filter')
  field.send_keys('rate=0.2')
  names = column(page, 0)
  assert len(names) == 1 and 'learning_rate=0.2' in names[0]
  assert ' of ' in page.find_element('id', 'count').text
  field.clear()
  field.send_keys(' ')
  assert len(column(page, 0)) == 4
  boxes = page.find_elements('css selector', 'input[data-of]')
  assert len(boxes) == 2
  boxes[0].click()
  hidden = page.execute_script(
    'return [...document.querySelectorAll("section")].map(x => x.hidden)')
  assert sorted(hidden) == [False, True]
  assert '<b>' in page.find_element('css selector', 'nav').text  # text, not a tag


@pytest.mark.parametrize('width', [360, 768])
def test_it_does_not_scroll_sideways(page, width):
  page.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', {
    'width': width, 'height': 800, 'deviceScaleFactor': 1, 'mobile': True})
  try:
    page.refresh()
    inner, scroll = page.execute_script(
      'return [window.innerWidth, document.documentElement.scrollWidth]')
    assert scroll <= inner == width
  finally:
    page.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})


def test_light_and_dark_can_both_be_read(page):
  def contrast():
    """WCAG contrast of text, soft text and links against the ground."""
    return page.execute_script("""
      const parse = c => c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
        .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
      const light = c => { const [r, g, b] = parse(c); return .2126 * r + .7152 * g + .0722 * b; };
      const back = light(getComputedStyle(document.body).backgroundColor);
      return ['body', '.soft', 'a[href]'].map(s => {
        const x = light(getComputedStyle(document.querySelector(s)).color);
        return (Math.max(x, back) + .05) / (Math.min(x, back) + .05); }).concat([back]);
      """)

  page.execute_cdp_cmd('Emulation.setEmulatedMedia', {
    'features': [{'name': 'prefers-color-scheme', 'value': 'light'}]})
  *light, ground = contrast()
  assert ground > 0.9 and min(light) > 4.5
  page.find_element('id', 'theme').click()
  *dark, ground = contrast()
  assert ground < 0.05 and min(dark) > 4.5
  page.find_element('id', 'theme').click()
  assert contrast()[-1] > 0.9
  page.execute_cdp_cmd('Emulation.setEmulatedMedia', {
    'features': [{'name': 'prefers-color-scheme', 'value': 'dark'}]})
  page.refresh()
  *dark, ground = contrast()
  assert ground < 0.05 and min(dark) > 4.5


def test_script_that_got_into_the_page_does_not_run(browser, path, tmp_path):
  injected = ('<script>document.title = "ran"</script>'
              '<img src="x" onerror="document.title = \'ran\'">')
  page = tmp_path / 'page.html'
  page.write_text(path.read_text().replace('<h1>', f'{injected}<h1>', 1))
  browser.get(page.as_uri())
  assert browser.find_element('id', 'theme').is_displayed()  # the script of the page did run
  assert browser.title and browser.title != 'ran'
  browser.get_log('browser')


def test_a_table_that_is_cut_off_says_so(page):
  page.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', {
    'width': 390, 'height': 800, 'deviceScaleFactor': 1, 'mobile': True})
  try:
    page.refresh()
    cut = page.execute_script("""
      return [...document.querySelectorAll('.wide')].filter(x => x.offsetParent)
        .map(x => [x.scrollWidth > x.clientWidth + 1, !x.nextElementSibling.hidden]);""")
    assert any(overflows for overflows, _ in cut) and all(a == b for a, b in cut)
  finally:
    page.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
