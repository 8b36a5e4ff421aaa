"""A real browser in front of a server: pages whose faults are noticed, and what axe says of them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

PATH = shutil.which("chromium")
# it asks nobody for anything: no updates, no accounts
OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LONGEST = 20_000  # ms that anything may take on a busy machine
expect.set_options(timeout=LONGEST)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a screen; where there is none, the test is left out, but not in CI."""
    if PATH is None and not os.environ.get("CI"):
        pytest.skip("there is no chromium here")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=PATH, args=OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One viewer of a server's dashboard, and everything that went wrong meanwhile."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url, self.page = url, context.new_page()
        self.page.set_default_timeout(LONGEST)
        self.errors: list[str] = []
        self.refused: list[str] = []  # answers of 400 and more, and requests that failed
        self.origins: set[str] = set()
        self.loaded: dict[str, int] = {}  # bytes of each file as they came
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._said)
        self.page.on("request", lambda request: self.origins.add("/".join(request.url.split("/")[:3])))
        self.page.on("response", self._came)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def _came(self, response: Any) -> None:
        if response.status >= 400:
            self.refused.append(f"{response.status} {response.request.method} {response.url.removeprefix(self.url)}")

    def open(self, where: str = "") -> Page:
        """The page behind this part of the address, loaded anew, once its figures are there."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/dashboard#/{where}")
        return self.settled()

    def settled(self) -> Page:
        """The page, once nothing is waited for."""
        expect(self.page.locator("h1").first).to_be_visible()
        expect(self.page.locator(".waiting")).to_have_count(0)
        return self.page

    def violations(self) -> list[str]:
        """What axe finds serious or worse, each with where."""
        found = Axe().run(self.page, options={"resultTypes": ["violations"]}).response["violations"]
        return [
            f"{each['id']}: {node['html'][:150]} {node.get('failureSummary', '')[:200]}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]

    def beyond(self) -> int:
        """How many pixels the page is wider than the screen."""
        found: int = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        return found

    def focused(self) -> str:
        """What the focused element is called."""
        found: str = self.page.evaluate(
            "(document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText ?? '').trim()"
        )
        return found


@contextmanager
def visit(browser: Browser, url: str, *, key: str = "", dark: bool = False, phone: bool = False) -> Iterator[Visit]:
    """A viewer with a key, or without."""
    context = browser.new_context(viewport=PHONE if phone else DESKTOP, color_scheme="dark" if dark else "light")
    try:
        if key:
            kept = f"sessionStorage.setItem('bandit-key', {key!r})"
            context.add_init_script(f"if (location.protocol === 'http:') {kept}")
        yield Visit(context, url)
    finally:
        context.close()
