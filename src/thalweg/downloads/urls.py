"""A file that a library names by its address, fetched by PyTorch's own client into its own folder."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from thalweg.errors import ThalwegError, reason

HASH = re.compile(r"-([a-f0-9]{8,})\.")  # the beginning of the file's SHA-256, as PyTorch writes it into names


@dataclass(frozen=True)
class UrlFile:
    """A file by its address, the folder that its library looks in, and what that says of its size and licence."""

    address: str
    folder: Path
    said: str = ""

    @property
    def what(self) -> str:
        """The file's name, and where it is fetched from."""
        return f"{Path(self.address).name} from {self.address}"

    def about(self) -> str:
        """What its library says of it."""
        return self.said or "size and licence are not known before it is fetched"

    def fetch(self) -> None:
        """Fetch it into its folder; where its name has a hash, it is checked.

        Raises:
            ThalwegError: there is no network, no such file, or it has another hash.
        """
        named = HASH.search(Path(self.address).name)
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / Path(self.address).name
        try:
            torch.hub.download_url_to_file(self.address, str(file), named[1] if named else None, progress=False)
        except Exception as wrong:
            raise ThalwegError(
                f"{self.address}: cannot be fetched ({reason(wrong)}); put it into {self.folder}"
            ) from wrong
