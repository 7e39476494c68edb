"""The models the page can answer with, and what is made ready behind its back.

That is the official model's download, and a faster backend for the image encoders.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mobilesam import backends
from mobilesam.backends import Backend
from mobilesam.checkpoints import CheckpointError, resolve_checkpoint
from mobilesam.predictor import Predictor
from mobilesam.registry import MODELS, available, default_model_name, load_model, locate
from mobilesam.ui.everything import page_defaults

LOGGER = logging.getLogger(__name__)

OFFICIAL = "mobile_sam"
FALLBACK = "embedded"


class ModelShelf:
    """Load each model once, share it read-only between visitors, and say which there are.

    The page never waits for a network: it starts with a model that is on this machine, and the
    official one joins the shelf when its download has arrived. Nor does it wait for an export:
    PyTorch answers until a faster backend is ready, see `start_backend`.

    Args:
        model: Registry name, or None for the official model where its checkpoint is on this
            machine and the embedded one elsewhere.
        checkpoint: A checkpoint file, which goes before `model`.
        loader: Called with a name or path and `download=False`, later also with `backend`;
            `load_model` but for tests.
    """

    def __init__(
        self,
        model: str | None = None,
        checkpoint: str | Path | None = None,
        loader: Callable[..., Any] = load_model,
    ) -> None:
        self._loader = loader
        self._lock = threading.Lock()
        self._predictors: dict[str, Predictor] = {}
        self._sources: dict[str, str | Path] = {}
        self._backend: Backend = "torch"
        self._percent: int | None = None
        self._to_fetch = OFFICIAL
        self.notice = ""
        if checkpoint is not None:
            self.default = self._add(checkpoint)
            return
        wanted = model or default_model_name()
        if wanted != FALLBACK and not available(wanted):
            self._to_fetch = wanted
            self.notice = f"{_title(wanted)} is not on this server; the embedded model answers."
            wanted = FALLBACK
        self.default = self._add(wanted)
        if self.default != OFFICIAL and available(OFFICIAL):
            self._add(OFFICIAL)

    def _add(self, source: str | Path, **options: Any) -> str:
        """Load a model and return the name it goes by on the page."""
        predictor = Predictor(self._loader(source, download=False, **options))
        name = predictor.model.name
        with self._lock:
            self._predictors[name] = predictor
            self._sources[name] = source
        return name

    def predictor(self, name: object = None) -> Predictor:
        """Return the predictor of that name, or the default one for anything else."""
        with self._lock:
            return self._predictors[self._known(name)]

    def source(self, name: object = None) -> str | Path:
        """Return what the model of that name was loaded from, or the default one for all else."""
        with self._lock:
            return self._sources[self._known(name)]

    def _known(self, name: object) -> str:
        return name if isinstance(name, str) and name in self._predictors else self.default

    def sources(self) -> list[str | Path]:
        """Return what the models were loaded from: names, and files given to the server."""
        with self._lock:
            return list(self._sources.values())

    def start_backend(self, backend: str | None = None) -> threading.Thread | None:
        """Let another backend encode pictures as soon as it is ready; PyTorch does until then.

        Its export is taken from this machine's cache, or made by a process of its own. Sessions go
        on undisturbed: embeddings of all backends are interchangeable.

        Args:
            backend: Which; by default the fastest that is installed.

        Raises:
            ValueError: There is no such backend, or its package is missing.
        """
        wanted = backends.installed()[0] if backend is None else backends.check(backend)
        if wanted == "torch":
            return None
        LOGGER.info("PyTorch encodes pictures until %s is ready", backends.TITLES[wanted])
        with self._lock:
            self._backend = wanted
            sources = list(self._sources.values())
        thread = threading.Thread(
            target=self._change_backend, args=(sources,), name="backend", daemon=True
        )
        thread.start()
        return thread

    def _change_backend(self, sources: list[str | Path]) -> None:
        title = backends.TITLES[self._backend]
        for source in sources:
            try:
                backends.build_elsewhere(locate(source, download=False)[0])
                name = self._add(source, backend=self._backend)
                LOGGER.info("%s encodes pictures for %s", title, _title(name))
            except Exception as error:  # whatever it is, PyTorch goes on
                LOGGER.warning("%s cannot encode pictures here: %s", title, error)

    def start_download(self) -> threading.Thread | None:
        """Fetch the official checkpoint, or the one asked for, unless it is here already."""
        if self._to_fetch in self._predictors or self._percent is not None:
            return None
        self._percent = 0
        thread = threading.Thread(target=self._download, name="checkpoint-download", daemon=True)
        thread.start()
        return thread

    def _download(self) -> None:
        def note_progress(done_bytes: int, total_bytes: int) -> None:
            if total_bytes > 0:
                self._percent = min(99, 100 * done_bytes // total_bytes)

        name, title = self._to_fetch, _title(self._to_fetch)
        try:
            resolve_checkpoint(name, download=True, progress=note_progress)
            self._add(name)
            self.notice = f"The official {title} has arrived; choose it here."
        except CheckpointError as error:
            LOGGER.warning("The official %s could not be fetched: %s", title, error)
            self.notice = f"{title} could not be fetched; this model answers."
        except Exception:
            LOGGER.exception("The official %s could not be loaded", title)
            self.notice = f"{title} could not be loaded; see the server's log."
        finally:
            self._percent = None
        if self._backend != "torch" and name in self._predictors:
            self._change_backend([name])

    def status(self) -> dict[str, Any]:
        """Describe the shelf for the page: choices, default, notice and download progress."""
        with self._lock:
            sources, predictors = dict(self._sources), dict(self._predictors)
        return {
            "choices": [
                {
                    "name": name,
                    "title": _title(name),
                    "source": Path(source).name,
                    "search": page_defaults(predictors[name].model),
                }
                for name, source in sources.items()
            ],
            "standard": self.default,
            "notice": self.notice,
            "fetching": _title(self._to_fetch),
            "percent": self._percent,
        }


def _title(name: str) -> str:
    """Return what people call a model."""
    return MODELS[name].title if name in MODELS else name
