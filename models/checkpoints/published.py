"""Published checkpoints: found, fetched once, checked, and kept in the cache in a form that every framework reads.

A checkpoint is a folder of the cache: `weights.safetensors`, for texts `tokenizer.json`, and `complete.json`, written
last, with the hashes of these files and of those that they were made from.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from models import tensor_files
from models.checkpoints import hub, process
from models.checkpoints.tokenizers import tokenizer_json
from models.errors import CorruptArtifact, NotFound
from models.fetching import Digest, Say, download, sha256
from models.file_locks import alone
from models.published import Published

WEIGHTS, TOKENIZER, COMPLETE = "weights.safetensors", "tokenizer.json", "complete.json"
# torchvision's files bear the first digits of their SHA-256: vgg16-397923af.pth.
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")


@dataclass(frozen=True)
class Fetched:
    """A published checkpoint in the cache: a safetensors file under the publisher's names; for texts the tokenizer."""

    weights: Path
    tokenizer: str | None


class Complete(BaseModel):
    """`complete.json`: the SHA-256 of each file of the folder, and of each that they were made from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    files: dict[str, str]
    made_from: dict[str, str]


@dataclass(frozen=True)
class Library:
    """Where published checkpoints come from, and where they are kept.

    `offline` holds the publishers' files, and nothing is downloaded; without it they come from the network. `locate`
    and `endpoint` say where there; tests put a server of their own in their place.
    """

    cache: Path
    offline: Path | None
    say: Say = lambda text: None
    locate: Callable[[str], str] = process.locate
    endpoint: str | None = None

    def fetch(self, published: Published) -> Fetched:
        """The checkpoint, from the cache where it is there and whole.

        Raises:
            NotFound: it is not in the offline folder; the message says which file to put where.
            Unavailable: it cannot be downloaded.
            CorruptArtifact, InvalidInput: the file is not what it should be.
        """
        folder = self.cache / published.library / re.sub(r"[^A-Za-z0-9._-]+", "--", published.reference)
        folder.parent.mkdir(parents=True, exist_ok=True)
        wait = f"waiting for another job that fetches {published.name}"
        with alone(folder.with_name(f"{folder.name}.lock"), partial(self.say, wait)):
            if not self._is_ready(folder, published):
                self._make(folder, published)
        tokenizer = folder / TOKENIZER
        return Fetched(folder / WEIGHTS, tokenizer.read_text("utf-8") if tokenizer.exists() else None)

    def _is_ready(self, folder: Path, published: Published) -> bool:
        try:
            complete = Complete.model_validate_json((folder / COMPLETE).read_bytes())
            whole = all(sha256(folder / name) == value for name, value in complete.files.items())
        except (OSError, ValueError):
            return False
        if not whole or WEIGHTS not in complete.files:
            return False
        return self.offline is None or self._is_of_the_same_files(complete, published)

    def _is_of_the_same_files(self, complete: Complete, published: Published) -> bool:
        """Whether what is cached was made from what the offline folder holds now."""
        assert self.offline is not None
        if published.library == "torchvision":
            files = {name: self.offline / name for name in complete.made_from}
        else:
            files = hub.from_folder(published.reference, self.offline)
        return all(path.is_file() for path in files.values()) and _hashes(files) == complete.made_from

    def _make(self, folder: Path, published: Published) -> None:
        """In a folder beside it, renamed when it is complete; what a crash left there is gone on with."""
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        unfinished.mkdir(exist_ok=True)
        self.say(f"fetching {published.name}")
        sources = self._sources(published, unfinished)
        made_from = _hashes(sources)
        made = _converted(sources, unfinished)
        complete = Complete(files=_hashes(made), made_from=made_from)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, path in made.items():
            path.replace(folder / name)
        (folder / f".{COMPLETE}").write_text(complete.model_dump_json(indent=2))
        (folder / f".{COMPLETE}").replace(folder / COMPLETE)
        shutil.rmtree(unfinished)

    def _sources(self, published: Published, unfinished: Path) -> dict[str, Path]:
        """The publisher's files by name."""
        if published.library == "torchvision":
            return self._of_torchvision(published, unfinished)
        if self.offline is not None:
            return hub.from_folder(published.reference, self.offline)
        say: Say = lambda text: self.say(f"downloading {published.name}: {text}")  # noqa: E731
        return hub.from_hub(published.reference, unfinished / "hub", say, self.endpoint)

    def _of_torchvision(self, published: Published, unfinished: Path) -> dict[str, Path]:
        url = self.locate(published.reference)
        name = url.rpartition("/")[2]
        prefix = _HASH_IN_NAME.search(name)
        assert prefix is not None, name
        if self.offline is None:
            path, digest = unfinished / name, Digest(prefix[1])
            if not (path.exists() and digest.fits(path)):
                say: Say = lambda text: self.say(f"downloading {name}: {text}")  # noqa: E731
                download(url, path, digest, say, folder="the folder that TANDEM_PRETRAINED_DIR names")
            return {name: path}
        path = self.offline / name
        if not path.is_file():
            raise NotFound(
                f"{name} is not in the folder of published checkpoints: put the file, as torchvision publishes it"
                f" ({url}), into the folder that TANDEM_PRETRAINED_DIR names.",
                code="checkpoint_missing",
            )
        if not sha256(path).startswith(prefix[1]):
            raise CorruptArtifact(
                f"{name} in the folder of published checkpoints is not what torchvision publishes under this name:"
                f" its SHA-256 does not begin with {prefix[1]}. Fetch it again from {url}.",
            )
        return {name: path}


def _converted(sources: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """The weights as safetensors and, where there is one, the tokenizer as JSON."""
    made = {WEIGHTS: folder / WEIGHTS}
    source = next(
        path for name, path in sources.items() if Path(name).suffix in (".safetensors", ".bin", ".pth")
    )
    to_safetensors(source, made[WEIGHTS])
    if any(name in sources for name in hub.TOKENIZER):
        made[TOKENIZER] = folder / TOKENIZER
        made[TOKENIZER].write_text(tokenizer_json(sources), "utf-8")
    return made


def to_safetensors(source: Path, target: Path) -> None:
    """A published or uploaded file as a safetensors file of ours. Raises InvalidInput, CorruptArtifact."""
    if source.suffix != ".safetensors":
        process.convert(source, target)
        return
    try:
        tensors = tensor_files.read(source)[1]
    except (OSError, ValueError) as error:
        raise CorruptArtifact(f"{source.name} cannot be read: {error}.") from error
    tensor_files.write(tensors, target, {})


def _hashes(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: sha256(path) for name, path in files.items()}
