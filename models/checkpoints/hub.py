"""A model's files from the Hugging Face hub, or from a folder that holds them under the repository's name."""

from collections.abc import Collection
from hashlib import sha1
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.hf_api import RepoFile

from models.errors import NotFound, Unavailable
from models.fetching import Say, sha256

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
TOKENIZER = ("tokenizer.json", "vocab.txt")
ABOUT = ("config.json", "tokenizer_config.json")
T = TypeVar("T")


def from_folder(repository: str, offline: Path) -> dict[str, Path]:
    """The repository's files by name: weights, tokenizer and what tells about them.

    Raises NotFound, saying which file to put where.
    """
    short = repository.rpartition("/")[2]
    candidates = [offline / repository, offline / short]
    folder = next((found for found in candidates if found.is_dir()), candidates[-1])
    there = {name: folder / name for name in (*WEIGHTS, *TOKENIZER, *ABOUT) if (folder / name).is_file()}
    for alternatives in (WEIGHTS, TOKENIZER):
        if not any(name in there for name in alternatives):
            raise NotFound(
                f"{repository!r} is not in the folder of published checkpoints: put its {alternatives[0]} (or"
                f" {alternatives[1]}) into a folder {short!r} in the folder that TANDEM_PRETRAINED_DIR names.",
                code="checkpoint_missing",
            )
    return _needed(there)


def from_hub(repository: str, folder: Path, say: Say, endpoint: str | None = None) -> dict[str, Path]:
    """The same files, downloaded into `folder` and checked by the hashes that the hub knows.

    Raises Unavailable when the hub does not answer or a file arrives damaged.
    """
    try:
        found = HfApi(endpoint=endpoint).get_paths_info(repository, [*WEIGHTS, *TOKENIZER, *ABOUT])
        files = _needed({one.path: one for one in found if isinstance(one, RepoFile)})
        _check_whole(repository, files)
        return {name: _fetched(repository, file, folder, say, endpoint) for name, file in files.items()}
    except (NotFound, Unavailable):
        raise
    except Exception as error:
        words = next(iter(str(error).splitlines()), type(error).__name__)
        raise Unavailable(
            f"{repository!r} could not be downloaded from the hub ({words[:200]}). Allow the"
            f" download, or put its files into a folder {repository.rpartition('/')[2]!r} in the folder that"
            " TANDEM_PRETRAINED_DIR names.",
            code="download_failed",
        ) from error


def _needed(there: dict[str, T]) -> dict[str, T]:
    """Of weights and of tokenizers the first form that is there."""
    first = [next((name for name in names if name in there), None) for names in (WEIGHTS, TOKENIZER)]
    return {name: there[name] for name in (*first, *ABOUT) if name in there}


def _check_whole(repository: str, files: Collection[str]) -> None:
    for alternatives in (WEIGHTS, TOKENIZER):
        if not any(name in files for name in alternatives):
            raise NotFound(
                f"{repository!r} has neither {alternatives[0]} nor {alternatives[1]} on the hub.",
                code="checkpoint_missing",
            )


def _fetched(repository: str, file: RepoFile, folder: Path, say: Say, endpoint: str | None) -> Path:
    say(file.path)
    path = Path(hf_hub_download(repository, file.path, local_dir=folder, endpoint=endpoint))
    if not _is_whole(path, file):
        path.unlink()
        raise Unavailable(f"{file.path} of {repository!r} arrived damaged.", code="download_damaged")
    return path


def _is_whole(path: Path, file: RepoFile) -> bool:
    """Large files are known by their SHA-256, small ones by the hash that git gives their content."""
    if file.lfs is not None:
        return sha256(path) == file.lfs.sha256
    content = path.read_bytes()
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == file.blob_id
