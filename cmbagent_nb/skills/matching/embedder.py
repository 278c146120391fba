"""Turns texts into vectors with all-MiniLM-L6-v2, as the setting ``embeddings`` says.

| setting | what is used |
|---|---|
| ``auto`` | onnxruntime if its extra is installed, else torch, else none: words alone |
| ``onnx``, ``torch`` | that one; it is an error when it cannot be used |
| ``tfidf`` | none: words alone |

A model is loaded once a process, when it is first needed; nothing is ever downloaded.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cmbagent_nb.errors import CMBAgentError, SettingsError
from cmbagent_nb.logs import get_logger
from cmbagent_nb.skills.matching import weights

LOG = get_logger(__name__)

#: The values of the setting ``embeddings``.
CHOICES = ("auto", "torch", "onnx", "tfidf")
#: The name that stands for no model.
NONE = "tfidf"
#: Word pieces of a text that the model sees.
_LONGEST = 256
#: Texts that are embedded at once: of about the same length, so that little is padded.
_BATCH = 16


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


class OnnxEmbedder:
    """Uses the model's eight-bit weights by onnxruntime: no torch, loaded in a fifth of a second."""

    model = weights.MODEL
    name = f"{weights.MODEL}/onnx-int8"

    def __init__(self) -> None:
        folder = weights.locate(weights.ONNX)
        weights.check(weights.TOKENIZER, weights.TOKENIZER_SHA256)
        import onnxruntime
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(weights.TOKENIZER))
        self._tokenizer.enable_truncation(_LONGEST)
        self._tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = min(4, os.cpu_count() or 1)
        # a thread that waits for work leaves the processor to others
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return a vector for each text."""
        vectors = np.zeros((len(texts), weights.DIMENSIONS), np.float32)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for first in range(0, len(order), _BATCH):
            places = order[first : first + _BATCH]
            vectors[places] = self._encode([texts[place] for place in places])
        return vectors

    def _encode(self, texts: list[str]) -> Any:
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.array([item.ids for item in encoded], np.int64)
        mask = np.array([item.attention_mask for item in encoded], np.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, given)[0]
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)


class TorchEmbedder:
    """Uses the weights as published, by sentence-transformers; importing torch takes some seconds, once."""

    model = weights.MODEL
    name = f"{weights.MODEL}/torch-fp32"

    def __init__(self) -> None:
        folder = weights.locate(weights.TORCH)
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as shown

        shows_bars = shown.is_progress_bar_enabled()
        shown.disable_progress_bar()
        try:
            # A path and local files only: no hub is asked, so none can be waited for.
            self._model = SentenceTransformer(
                str(folder), device="cpu", local_files_only=True, trust_remote_code=False, backend="torch"
            )
        finally:
            if shows_bars:
                shown.enable_progress_bar()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return a vector for each text."""
        if not texts:
            return np.zeros((0, weights.DIMENSIONS), np.float32)
        found = self._model.encode(
            list(texts), batch_size=32, show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True
        )
        return np.asarray(found, dtype=np.float32)


_LOCK = threading.Lock()
_LOADED: dict[str, Embedder | CMBAgentError] = {}
_MAKERS: dict[str, Callable[[], Embedder]] = {"onnx": OnnxEmbedder, "torch": TorchEmbedder}


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
                _LOADED[name] = _MAKERS[name]()
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
