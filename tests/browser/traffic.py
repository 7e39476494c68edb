"""The page's requests, held back or come to nothing."""

from __future__ import annotations

import json
from collections import Counter


class Traffic:
    """Holds back the page's requests of one event, or has them come to nothing."""

    def __init__(self, demo) -> None:
        self.demo, self.held, self.wanted = demo, [], ""
        self.sent: Counter[str] = Counter()  # since the first `catch`
        components = demo.page.evaluate("window.gradio_config.dependencies")
        self.events = {e["id"]: e["targets"][0][1] for e in components if e["targets"]}

    def catch(self, event: str, drop: bool = False) -> None:
        self.wanted = event

        def decide(route) -> None:
            name = self.events.get(json.loads(route.request.post_data)["fn_index"], "")
            self.sent[name] += 1
            if name != self.wanted:
                route.continue_()
            elif drop:
                route.fulfill(status=503, json={"detail": "busy", "error": None})
            else:
                self.held.append(route)

        for address in ("**/run/predict*", "**/queue/join*"):
            self.demo.route(address, decide)

    def wait_caught(self) -> None:
        for _ in range(300):
            if self.held:
                return
            self.demo.page.wait_for_timeout(50)
        raise AssertionError(f"the page sent no {self.wanted}")

    def let_go(self) -> None:
        self.wanted = ""
        for route in self.held:
            route.continue_()
        self.held.clear()
