"""Which model turns texts into vectors here: the setting ``embeddings`` says, else what is installed.

| setting | what is used |
|---|---|
| ``auto`` | onnxruntime if its extra is installed, else torch, else none: words alone |
| ``onnx``, ``torch`` | that one; it is an error when it cannot be used |
| ``tfidf`` | none: words alone |

A model is loaded once a process, when it is first needed; nothing is ever downloaded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from cmbagent_nb.errors import CMBAgentError, SettingsError
from cmbagent_nb.logs import get_logger
from cmbagent_nb.skills.matching import weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOG = get_logger(__name__)

#: The values of the setting ``embeddings``.
CHOICES = ("auto", "torch", "onnx", "tfidf")
#: The name that stands for no model.
NONE = "tfidf"


class Embedder(Protocol):
    """Turns texts into vectors whose product says how much their meanings have in common."""

    @property
    def model(self) -> str:
        """The model; vectors of one model can be compared, whatever loaded it."""

    @property
    def name(self) -> str:
        """The model and what loaded it, as kept beside the vectors."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return a vector of length 1 for each text."""


_LOCK = threading.Lock()
_LOADED: dict[str, Embedder | CMBAgentError] = {}


def choose(setting: str = "auto") -> Embedder | None:
    """Return the model to use; None when texts are compared by their words alone.

    Raises
    ------
    SettingsError
        There is no such choice.
    MissingExtra, SkillError
        The one that was asked for by name cannot be used.
    """
    if setting not in CHOICES:
        raise SettingsError(
            f"embeddings cannot be {setting!r}", f"Use one of {', '.join(CHOICES)}.", name="embeddings", value=setting
        )
    if setting == NONE:
        return None
    if setting != "auto":
        found = _load(setting)
        if isinstance(found, CMBAgentError):
            raise found
        return found
    for name, form in (("onnx", weights.ONNX), ("torch", weights.TORCH)):
        if not weights.missing(form):
            found = _load(name)
            if not isinstance(found, CMBAgentError):
                return found
    return None


def available(setting: str = "auto") -> str:
    """Return what :func:`choose` would use, without loading it; for ``doctor``.

    >>> available("tfidf")
    'tfidf'
    """
    if setting != "auto":
        return setting
    forms = (("onnx", weights.ONNX), ("torch", weights.TORCH))
    return next((name for name, form in forms if not weights.missing(form)), NONE)


def same_model(kept: str | None, embedder: Embedder | None) -> bool:
    """Tell whether vectors that were kept with this name can be compared with those of a model."""
    return embedder is not None and bool(kept) and str(kept).partition("/")[0] == embedder.model


def _load(name: str) -> Embedder | CMBAgentError:
    with _LOCK:
        if name not in _LOADED:
            try:
                _LOADED[name] = _makers()[name]()
            except CMBAgentError as error:
                _LOADED[name] = error
            except Exception as error:  # whatever a broken installation of such a library says
                _LOADED[name] = CMBAgentError(
                    f"the model that {name} should load cannot be used ({type(error).__name__}: {error})",
                    "Install its extra again, or set embeddings = tfidf.",
                )
            failed = _LOADED[name]
            if isinstance(failed, CMBAgentError):
                LOG.warning("Skills are matched without %s: %s", name, failed)
        return _LOADED[name]


def _makers() -> dict[str, Callable[[], Embedder]]:
    from cmbagent_nb.skills.matching.onnx import OnnxEmbedder
    from cmbagent_nb.skills.matching.torch import TorchEmbedder

    return {"onnx": OnnxEmbedder, "torch": TorchEmbedder}
