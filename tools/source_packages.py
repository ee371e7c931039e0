"""Downloads the pinned source packages and unpacks them. It runs nothing inside a package."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

TOOLS = Path(__file__).resolve().parent


@dataclass(frozen=True)
class SourcePackage:
    """One pinned package.

    Attributes:
        kind: ``debian`` or ``npm``.
        name: name in the registry.
        version: pinned version.
        sha256: hash of the archive.
        licence: licence of the fonts or drawings.
    """

    kind: str
    name: str
    version: str
    sha256: str
    licence: str

    @property
    def slug(self) -> str:
        """The package's name as a folder name."""
        return self.name.removeprefix("@").replace("/", "-")

    @property
    def archive_name(self) -> str:
        """File name that the registry's client gives the archive."""
        if self.kind == "npm":
            return f"{self.slug}-{self.version}.tgz"
        return f"{self.name}_{self.version.replace(':', '%3a')}_all.deb"


def read_pins(path: Path) -> list[SourcePackage]:
    """Read a pin file: tab-separated kind, name, version, sha256, licence; ``#`` starts a comment line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [SourcePackage(*line.split("\t")) for line in lines if line and not line.startswith("#")]


def download(package: SourcePackage, cache: Path) -> Path:
    """Download the package's archive into the cache, unless it is there, and check its digest."""
    folder = cache / package.kind
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / package.archive_name
    if not archive.exists():
        pinned = f"{package.name}{'@' if package.kind == 'npm' else '='}{package.version}"
        command = ["npm", "pack", "--silent", "--ignore-scripts", pinned]
        if package.kind == "debian":
            command = ["apt-get", "download", "-qq", pinned]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise ValueError(f"{archive.name}: digest {digest}, pinned {package.sha256}")
    return archive


def unpack(package: SourcePackage, cache: Path) -> Path:
    """Download and unpack one package and return the folder of its files."""
    target = cache / "unpacked" / package.kind / f"{package.slug}_{package.version.replace(':', '_')}"
    done = target / ".unpacked"
    if done.exists():
        return target
    archive = download(package, cache)
    target.mkdir(parents=True, exist_ok=True)
    if package.kind == "debian":
        subprocess.run(["dpkg-deb", "--extract", str(archive), str(target)], check=True)
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(target, filter="data")
    done.touch()
    return target


def relative_name(path: Path, folder: Path) -> str:
    """Return the file's path inside its package, with forward slashes."""
    return str(PurePosixPath(path.relative_to(folder)))
