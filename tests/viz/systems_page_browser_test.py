"""The page of an evaluation in a browser: switches and folds work, nothing is wider than a phone, nothing fails."""

import pytest

from tests.browsers import headless_chromium, open_page
from tests.viz.evaluated_systems import FAR, write_example

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    with headless_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return f"file://{write_example(tmp_path_factory.mktemp('page'))[0]}"


def test_tables_open_and_systems_switch(browser, address):
    with open_page(browser, address, width=1280) as page:
        table = page.get_by_role("group", name="trajectory and scale")
        assert not table.is_visible()
        page.get_by_text("Trajectory and scale", exact=True).click()
        assert table.is_visible()
        scene = page.locator(".scene").first
        assert scene.locator(".strip img").evaluate_all("all => all.every(one => one.naturalWidth > 0)")
        assert "12 of 12 images with a pose" in scene.inner_text()
        scene.get_by_text(FAR, exact=True).click()
        assert "11 of 12 images with a pose" in scene.inner_text()
        assert "12 of 12 images with a pose" not in scene.inner_text()
        chart = page.locator("figure.chart svg[data-chart]").first
        chart.hover()
        assert page.locator(".readout").first.inner_text().strip()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_legible_on_a_phone(browser, address, scheme):
    with open_page(browser, address, width=390, height=844, scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        colors = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        assert colors[0] != colors[1]
