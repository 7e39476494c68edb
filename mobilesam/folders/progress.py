"""How far a run is, on standard error: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from mobilesam.folders.jobs import Outcome

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts pictures, and shows rate and remaining time.

    Args:
        total: Number of pictures.
        skipped: Of these, how many were finished before.
    """

    def __init__(self, total: int, skipped: int) -> None:
        self.total = total
        self.skipped = skipped
        self.done = 0
        self.objects: int | None = 0  # None where nobody can tell any more
        self.failures: list[Outcome] = []
        self._start = self._last_line = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=total, initial=skipped, unit="picture", file=sys.stderr, dynamic_ncols=True
            )

    @property
    def seconds(self) -> float:
        """How long the run has taken."""
        return time.monotonic() - self._start

    def add(self, outcome: Outcome) -> None:
        """Count a picture; one that failed is reported at once."""
        if outcome.error:
            self.failures.append(outcome)
            self.say(f"{outcome.job.picture.path}: {outcome.error}")
        else:
            self.done += 1
            if self.objects is not None:
                self.objects += outcome.objects
        if self._bar is not None:
            self._bar.set_postfix_str("", refresh=False)
            self._bar.update()
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            ended = self.done + len(self.failures)
            left = self.total - self.skipped - ended
            remaining = tqdm.format_interval(int(self.seconds / ended * left))
            rate = f"{ended / self.seconds:.2g} pictures/s, {remaining} left"
            self.say(f"{self.skipped + ended} of {self.total} pictures, {rate}")

    def recount(self, done: int) -> None:
        """Correct how many are done; what was found in those not told of nobody knows."""
        if done != self.done:
            self.done, self.objects = done, None

    def show_share(self, share: float) -> None:
        """Show how far the present picture is, 0 to 1."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"this one {share:.0%}")

    def say(self, text: str) -> None:
        """Write a line to standard error, above the bar."""
        line = f"mobilesam: {text}"
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
