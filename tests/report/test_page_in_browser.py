"""The page in a headless Chromium: by mouse, by keyboard, in print and without scripts."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from benchmark.report.page import Illustration, make_page
from tests.report.test_page import failed, record, sample

pytestmark = pytest.mark.browser

LONG = "a-method-with-a-name-that-is-as-long-as-names-of-methods-should-really-never-be-" * 2


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page with long names, many seeds, a failure, a figure and markup as text."""
    settings = "+".join(["quick", *(f"training.{name}=1234567890" for name in ("steps", "lr", "momentum", "warmup"))])
    records = [*sample(), record("crd", 0, 0.6, provenance="reported-in-paper")]
    records += [record(LONG, seed, 0.5, dataset="emoji", preset=settings) for seed in range(30)]
    records += [failed("<b>bold</b>", 0, f"<i>{LONG * 3}</i>", dataset="emoji", preset=settings)]
    picture = '<svg xmlns="http://www.w3.org/2000/svg" width="900" height="200"><rect width="900" height="200"/></svg>'
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(make_page(records, [Illustration("A figure", "What it shows.", picture)], ["a.json is damaged"]))
    return path.as_uri()


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        missing = " and ".join(n for n, p in (("Chromium", browser), ("chromedriver", driver)) if p is None)
        pytest.skip(f"no {missing} on the path (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium does not start as root otherwise
    for argument in arguments:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=Service(driver))
    yield session
    session.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome, page: str) -> Iterator[webdriver.Chrome]:
    """The page, freshly loaded at 1280 x 900. Afterwards the browser must have logged no error and no other request."""
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    resize(chromium, 1280)
    chromium.get("about:blank")
    chromium.get_log("performance")
    chromium.get(page)
    yield chromium
    assert [entry["message"] for entry in chromium.get_log("browser")] == []
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    sent = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert page in {url.partition("#")[0] for url in sent}
    assert {url for url in sent if not url.startswith("data:")} <= {page}


def resize(browser: webdriver.Chrome, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def rows(browser: webdriver.Chrome, dataset: str = "glyphs") -> list[str]:
    """Return the visible methods of a data set's group in their order."""
    script = f"""return [...document.querySelectorAll('#leaderboard tbody[data-dataset="{dataset}"] tr[data-method]')]
        .filter((row) => row.checkVisibility()).map((row) => row.querySelector("th").textContent)"""
    return browser.execute_script(script)


def heads(browser: webdriver.Chrome) -> dict[str, str | None]:
    """Return aria-sort by column."""
    cells = browser.find_elements(By.CSS_SELECTOR, "#leaderboard thead th")
    return {cell.text.strip(): cell.get_attribute("aria-sort") for cell in cells}


def column(browser: webdriver.Chrome, name: str) -> WebElement:
    buttons = browser.find_elements(By.CSS_SELECTOR, "#leaderboard thead button")
    return next(button for button in buttons if button.text.strip() == name)


def overview(browser: webdriver.Chrome) -> WebElement:
    return browser.find_element(By.ID, "overview")


def article(browser: webdriver.Chrome) -> WebElement:
    return browser.find_element(By.ID, "run")


def wait(browser: webdriver.Chrome, until: Callable[[], Any]) -> Any:
    return WebDriverWait(browser, 5, poll_frequency=0.02).until(lambda _: until())


def open_run(browser: webdriver.Chrome, method: str, seed: int = 0) -> None:
    selector = f"#leaderboard tr[data-method='{method}'] td.runs a"
    next(a for a in browser.find_elements(By.CSS_SELECTOR, selector) if a.text.split()[0] == str(seed)).click()
    wait(browser, article(browser).is_displayed)


def test_page_column_sorts_both_ways_with_missing_numbers_last(browser: webdriver.Chrome) -> None:
    assert rows(browser) == ["at", "kd (temperature=2.0)", "rkd", "kd", "ce", "vid"]
    last = "return document.querySelector('tbody[data-dataset=glyphs]').lastElementChild.className"
    assert browser.execute_script(last) == "reference"
    assert heads(browser)["Rank"] == "ascending"
    column(browser, "Mean %").click()
    assert rows(browser) == ["at", "kd (temperature=2.0)", "rkd", "kd", "ce", "vid"]
    assert {name for name, order in heads(browser).items() if order} == {"Mean %"}
    assert heads(browser)["Mean %"] == "descending"
    column(browser, "Mean %").click()
    assert rows(browser) == ["ce", "kd", "rkd", "kd (temperature=2.0)", "at", "vid"]
    assert heads(browser)["Mean %"] == "ascending"
    column(browser, "Method").click()
    assert rows(browser) == ["at", "ce", "kd", "kd (temperature=2.0)", "rkd", "vid"]
    assert rows(browser, "emoji") == ["ce", "kd", "<b>bold</b>", LONG]  # each group is sorted separately
    assert browser.execute_script(last) == "reference", "what methods are read against stays below them"


def test_page_filters_rows_by_protocol_data_set_method_and_words(browser: webdriver.Chrome) -> None:
    def choose(name: str, value: str) -> None:
        Select(browser.find_element(By.NAME, name)).select_by_visible_text(value)

    count = browser.find_element(By.CSS_SELECTOR, "#filter output")
    assert count.text == "11 rows"
    choose("method", "kd")
    assert rows(browser) == ["kd (temperature=2.0)", "kd"]
    assert rows(browser, "emoji") == ["kd"]
    assert count.text == "3 of 11 rows"
    choose("dataset", "emoji")
    assert rows(browser) == []
    assert count.text == "1 of 11 rows"
    browser.find_element(By.CSS_SELECTOR, "#filter button[type=reset]").click()
    wait(browser, lambda: count.text == "11 rows")
    choose("protocol", "fewshot-5way1shot")
    assert count.text == "11 rows"
    search = browser.find_element(By.NAME, "text")
    search.send_keys("GLYPHS lacks")
    assert rows(browser) == ["at", "kd (temperature=2.0)", "vid"]
    assert rows(browser, "emoji") == []
    search.clear()
    search.send_keys("nothing like this")
    assert count.text == "0 of 11 rows"
    assert not browser.find_elements(By.CSS_SELECTOR, "tbody:not([hidden])")
    labels = browser.find_elements(By.CSS_SELECTOR, "#filter label")
    assert [label.text.split("\n")[0] for label in labels] == ["Protocol", "Data set", "Method", "Search"]


def test_page_run_opens_shows_its_record_and_leads_back(browser: webdriver.Chrome) -> None:
    open_run(browser, "rkd", seed=2)
    assert not overview(browser).is_displayed()
    text = article(browser).text
    value = 0.75 + 2 / 200
    assert f"{100 * value:.2f} %" in text
    assert f"{100 * (value - 0.035):.2f} to {100 * (value + 0.035):.2f}, n = 54" in text
    assert "Delete-one-class jackknife" in text
    assert "on the mean over 3 seeds, 75.50 %" in text
    for words in ("weight decay", "0.0005", "a processor", "147,403", "queries per episode", "python -m benchmark run"):
        assert words in text
    assert f"teacher 85.00 % ± 0.20 (episode), ± 3.50 (class) \N{MINUS SIGN}{100 * (0.85 - value):.2f}" in text
    assert browser.title.startswith("rkd, seed 2")
    siblings = article(browser).find_elements(By.CSS_SELECTOR, ".runs a")
    assert [(a.text, a.get_attribute("aria-current")) for a in siblings] == [("0", None), ("1", None), ("2", "page")]
    siblings[0].click()
    wait(browser, lambda: browser.title.startswith("rkd, seed 0"))
    browser.back()
    wait(browser, lambda: browser.title.startswith("rkd, seed 2"))
    browser.back()
    wait(browser, overview(browser).is_displayed)
    assert not article(browser).is_displayed()
    assert browser.title == "Distillation benchmark"


def test_page_run_draws_curves_of_the_history(browser: webdriver.Chrome) -> None:
    open_run(browser, "ce")
    plots = article(browser).find_elements(By.CSS_SELECTOR, ".plots figure")
    assert [p.find_element(By.TAG_NAME, "figcaption").text for p in plots] == ["tuples", "ce", "local"]
    tooltips = [
        [t.get_attribute("textContent") for t in p.find_elements(By.CSS_SELECTOR, "circle title")] for p in plots
    ]
    assert tooltips == [["step 300: 0.25"], ["step 450: 1.5", "step 600: 0.75"], ["step 450: -0.5", "step 600: -1"]]
    places = [
        [tuple(float(c.get_attribute(f"c{axis}") or "nan") for axis in "xy") for c in circles]
        for circles in (p.find_elements(By.TAG_NAME, "circle") for p in plots)
    ]
    assert places[1][0][0] == places[2][0][0] < places[1][1][0] == places[2][1][0]
    assert places[1][0][1] < places[1][1][1]  # ce falls from 1.5 to 0.75: lower on the screen is a larger y
    for plot in plots:
        box = plot.find_element(By.TAG_NAME, "svg").rect
        assert box["width"] > 150
        assert box["height"] > 80
        assert {"embedding", "classifier"} <= {t.text for t in plot.find_elements(By.TAG_NAME, "text")}


def test_page_shows_markup_in_records_as_text(browser: webdriver.Chrome) -> None:
    assert "<b>bold</b>" in rows(browser, "emoji")
    open_run(browser, "<b>bold</b>")
    assert article(browser).find_element(By.TAG_NAME, "h1").text == "<b>bold</b>, seed 0"
    assert f"<i>{LONG}" in article(browser).find_element(By.CLASS_NAME, "error").text
    assert not browser.find_elements(By.CSS_SELECTOR, "b, i")


def test_page_says_that_an_unknown_run_does_not_exist(browser: webdriver.Chrome, page: str) -> None:
    for key in ("0123", "%", "a'\"]b"):
        browser.execute_script("location.hash = arguments[0]", f"run-{key}")
        wait(browser, article(browser).is_displayed)
        assert "No such run" in article(browser).text
        article(browser).find_element(By.CLASS_NAME, "back").click()
        wait(browser, overview(browser).is_displayed)


def test_page_can_be_used_by_keyboard_alone(browser: webdriver.Chrome) -> None:
    def press(*keys: str) -> WebElement:
        browser.switch_to.active_element.send_keys(*keys)
        return browser.switch_to.active_element

    def tab_to(wanted: Callable[[WebElement], bool]) -> WebElement:
        for _ in range(60):
            if wanted(element := press(Keys.TAB)):
                return element
        raise AssertionError("not reached")

    skip = press(Keys.TAB)
    assert skip.text == "Skip to the leaderboard"
    assert skip.rect["x"] >= 0
    press(Keys.ENTER)
    wait(browser, lambda: browser.switch_to.active_element.get_attribute("id") == "leaderboard")
    button = tab_to(lambda e: e.text.strip() == "Mean %")
    assert button.value_of_css_property("outline-style") == "solid"
    press(Keys.ENTER)
    assert heads(browser)["Mean %"] == "descending"
    press(Keys.SPACE)
    assert heads(browser)["Mean %"] == "ascending"
    link = tab_to(lambda e: "#run-" in (e.get_attribute("href") or ""))
    address = link.get_attribute("href")
    press(Keys.ENTER)
    wait(browser, article(browser).is_displayed)
    assert browser.switch_to.active_element.get_attribute("id") == "run"
    assert press(Keys.TAB).text == "← Leaderboard"
    press(Keys.ESCAPE)
    wait(browser, overview(browser).is_displayed)
    wait(browser, lambda: browser.switch_to.active_element.get_attribute("href") == address)
    press(Keys.ENTER)
    wait(browser, article(browser).is_displayed)
    assert press(Keys.TAB).text == "← Leaderboard"
    press(Keys.ENTER)
    wait(browser, overview(browser).is_displayed)


@pytest.mark.parametrize("width", [390, 1280])
def test_page_of_any_width_does_not_scroll_sideways(browser: webdriver.Chrome, width: int) -> None:
    resize(browser, width)

    def fits() -> bool:
        return browser.execute_script("return Math.max(document.documentElement.scrollWidth, innerWidth)") == width

    assert fits()
    inside = browser.execute_script(
        "const box = document.querySelector('.scroll'); return box.scrollWidth > box.clientWidth"
    )
    assert inside == (width == 390)
    for method in ("rkd", "<b>bold</b>"):
        open_run(browser, method)
        assert fits()
        browser.back()
        wait(browser, overview(browser).is_displayed)
    browser.execute_script("for (const box of document.querySelectorAll('details')) box.open = true")
    open_run(browser, LONG, seed=29)
    assert fits()


def luminance(colour: str) -> float:
    """Return the relative luminance of a CSS colour (WCAG 2)."""
    channels = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_has_contrast_in_both_colour_schemes(browser: webdriver.Chrome, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    body = browser.find_element(By.TAG_NAME, "body")
    ground = luminance(body.value_of_css_property("background-color"))
    assert (ground < 0.1) == (scheme == "dark")
    for selector in ("body", ".count", "nav a", "thead button", ".pool th", ".done", ".incomplete", ".status.failed"):
        colour = luminance(browser.find_element(By.CSS_SELECTOR, selector).value_of_css_property("color"))
        assert (max(colour, ground) + 0.05) / (min(colour, ground) + 0.05) >= 4.5, selector


def test_page_print_omits_interactive_parts(browser: webdriver.Chrome) -> None:
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not browser.find_element(By.ID, "filter").is_displayed()
    assert browser.find_element(By.CSS_SELECTOR, "table.board").is_displayed()


def test_page_shows_the_table_without_scripts(browser: webdriver.Chrome, page: str) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page)
        assert "75.50" in browser.find_element(By.CSS_SELECTOR, "tr[data-method=rkd]").text
        assert "need JavaScript" in browser.find_element(By.CSS_SELECTOR, ".note").text
        assert not browser.find_element(By.ID, "filter").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_page_policy_stops_foreign_scripts(browser: webdriver.Chrome) -> None:
    browser.execute_script(
        "const script = document.createElement('script'); script.textContent = 'window.foreign = 1';"
        "const image = document.createElement('div'); image.innerHTML = '<img src=data:, onerror=foreign=1>';"
        "document.body.append(script, image)"
    )
    assert browser.execute_script("return window.foreign") is None
    refused = [entry["message"] for entry in browser.get_log("browser")]
    assert len(refused) >= 2
    assert all("Content Security Policy" in message for message in refused)


def test_page_run_command_can_be_copied(browser: webdriver.Chrome) -> None:
    open_run(browser, "kd")
    button = article(browser).find_element(By.CSS_SELECTOR, ".command button")
    button.click()
    wait(browser, lambda: button.text != "Copy")
    command = article(browser).find_element(By.CSS_SELECTOR, ".command code").text
    assert command.startswith("python -m benchmark run --protocol fewshot-5way1shot --method kd --dataset emoji")
    if button.text == "Copied":
        browser.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
        assert browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])") == command
    else:
        assert browser.execute_script("return getSelection().toString()") == command
