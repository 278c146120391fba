"""all-MiniLM-L6-v2 by onnxruntime: no torch, loaded in a fifth of a second."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmbagent_nb.skills.matching import weights

#: Word pieces of a text that the model sees.
_LONGEST = 256
#: Texts that are embedded at once: of about the same length, so that little is padded.
_BATCH = 16


class OnnxEmbedder:
    """Turns texts into vectors of length 1, with the model's eight-bit weights."""

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
        vectors = np.zeros((len(texts), 384), np.float32)
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
