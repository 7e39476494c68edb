"""The everything tab as a visitor uses it."""

from __future__ import annotations

from tests.browser.demo_page import DemoPage


class EverythingTab:
    """The tab of one visitor's page; without an example for the photo that it shows."""

    def __init__(self, demo: DemoPage, example: str = "") -> None:
        self.demo, self.page = demo, demo.page
        if example:
            demo.open_example(example)
        self.show()

    def show(self, name: str = "everything") -> None:
        self.page.locator(f"[role=tab][data-tab={name}]").click()

    def choose(self, density: int = 8, fast: bool = True, **thresholds: float) -> None:
        self.page.get_by_role("radio", name=f"{density}×{density}").check()
        self.page.get_by_role("radio", name="Fast" if fast else "Exact").check()
        for name, value in thresholds.items():
            slider = self.page.get_by_role("slider", name=name.replace("_", " "), exact=True)
            slider.fill(str(value))

    def start(self) -> None:
        self.page.get_by_role("button", name="Find everything").click()

    def wait_done(self) -> None:
        self.page.wait_for_selector(".ms[data-everything=done]")

    def search(self, **options) -> None:
        self.choose(**options)
        self.start()
        self.wait_done()

    @property
    def count(self) -> int:
        return int(self.demo.data("found"))

    @property
    def status(self) -> str:
        return self.page.locator(".ms-found-status").inner_text()

    @property
    def rows(self):
        return self.page.locator(".ms-found-box tbody tr")

    def column(self, number: int) -> list[float]:
        """The numbers of a column of the table, from the top; of the area its pixels."""
        cells = self.rows.locator(f"td:nth-child({number})").all_inner_texts()
        return [float(text.removesuffix(" px").split()[-1].replace(",", "")) for text in cells]

    def spot_of_lit(self) -> tuple[float, float]:
        """Move the mouse over the photo until it shows a mask alone; returns where on the page."""
        width, height = self.demo.photo_size
        for x, y in [(0.5, 0.5), (0.4, 0.6), (0.6, 0.4), (0.3, 0.5), (0.5, 0.8)]:
            spot = self.demo.screen(width * x, height * y)
            self.page.mouse.move(*spot)
            if self.demo.data("lit"):
                return spot
        raise AssertionError("no mask under any of five spots")
