"""all-MiniLM-L6-v2 by sentence-transformers, with the weights as they were published."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cmbagent_nb.skills.matching import weights


class TorchEmbedder:
    """Turns texts into vectors of length 1; importing torch takes some seconds, once."""

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
            return np.zeros((0, 384), np.float32)
        found = self._model.encode(
            list(texts), batch_size=32, show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True
        )
        return np.asarray(found, dtype=np.float32)
