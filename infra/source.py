"""The files of a folder, a zip file or Kaggle's download, before anything is known of them but path and size.

Whatever is broken, unsafe or not a plain file ends in one DatasetError that names it. Archives are read member by
member, nothing is unpacked to disk.
"""

from __future__ import annotations

import functools
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from infra.errors import Fault

KAGGLE = "paultimothymooney/chest-xray-pneumonia"
MAX_FILE_BYTES = 64 * 2**20  # Kaggle's largest film has 2.5 MB, an uncompressed 16-bit DICOM of 25 megapixels 50 MB
MAX_ARCHIVE_BYTES = 64 * 2**30  # unpacked; the whole Kaggle set has 1.2 GB
MAX_RATIO = 200  # unpacked to packed; films are compressed already, a bomb reaches 1000 and more
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError),
    *(ValueError, RuntimeError, OverflowError),  # RuntimeError includes NotImplementedError: an unknown compression
)


class DatasetError(Fault):
    """The source is not a dataset in Kaggle's layout; the message names the file or folder and the remedy."""


@dataclass(frozen=True)
class File:
    """A file of a source: its path (below the root of the source, later of the dataset), size in bytes, and content."""

    path: str
    size: int
    read: Callable[[], bytes]


@contextmanager
def open_source(source: str | Path) -> Iterator[tuple[Iterator[File], str]]:
    """The files of a folder, a zip file, or `kaggle` (downloads it with kagglehub), and what to call the source.

    Raises:
        DatasetError: the source is missing, unreadable or unsafe; also while the files are listed or read.
    """
    if str(source) == "kaggle":
        yield _folder(_download()), KAGGLE
        return
    path = Path(source)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path}: no such folder or zip file ({_why(error)}); give the folder that holds train/ and test/, a zip "
            "of it, or `kaggle`"
        ) from error
    if stat.S_ISDIR(mode):
        yield _folder(path), str(path)
        return
    try:
        archive = zipfile.ZipFile(path) if stat.S_ISREG(mode) else None
    except _BROKEN as error:
        raise DatasetError(
            f"{path} is neither a folder nor a zip file that can be read ({_why(error)}); unpack it, or download it "
            "again if it is cut off"
        ) from error
    if archive is None:
        raise DatasetError(f"{path} is neither a folder nor a zip file; unpack it into a folder")
    with archive:
        yield _members(archive, path), str(path)


def _download() -> Path:
    try:
        import kagglehub

        return Path(kagglehub.dataset_download(KAGGLE))
    except Exception as error:  # kagglehub raises whatever its HTTP client does
        raise DatasetError(
            f"Kaggle's {KAGGLE} cannot be downloaded: {type(error).__name__}: {error}. Check the network, or "
            "download it in a browser and pass the zip file"
        ) from error


def _folder(root: Path) -> Iterator[File]:
    def refuse(error: OSError) -> None:
        raise DatasetError(f"{error.filename} cannot be read ({_why(error)}); correct its rights") from error

    real = root.resolve()
    for folder, folders, files in os.walk(root, onerror=refuse):
        folders.sort()
        for name in folders:
            if (Path(folder) / name).is_symlink():
                raise DatasetError(f"{Path(folder, name)} is a link to a folder; copy the folder itself")
        for name in sorted(files):
            path = Path(folder, name)
            try:
                found = path.stat()
                inside = path.resolve().is_relative_to(real)
            except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
                raise DatasetError(f"{path} is a link to nothing ({_why(error)}); remove it") from error
            if not inside:
                raise DatasetError(f"{path} is a link to a file outside {root}; copy the file into the folder")
            if not stat.S_ISREG(found.st_mode):
                raise DatasetError(f"{path} is no plain file; remove it")
            yield File(path.relative_to(root).as_posix(), found.st_size, functools.partial(_read_file, path))


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({_why(error)}); correct its rights") from error


def _members(archive: zipfile.ZipFile, path: Path) -> Iterator[File]:
    members = [member for member in archive.infolist() if not member.is_dir()]
    total = sum(member.file_size for member in members)
    if total > MAX_ARCHIVE_BYTES:
        raise DatasetError(
            f"{path} would unpack to {total:,} bytes, above {MAX_ARCHIVE_BYTES:,}; it is not this dataset"
        )
    for member in members:
        if fault := _fault(member):
            raise DatasetError(f"{path}: member {member.filename!r} {fault}")
        name = PurePosixPath(member.filename).as_posix()
        yield File(name, member.file_size, functools.partial(_read_member, archive, member, path))


def _fault(member: zipfile.ZipInfo) -> str | None:
    """Why a member cannot be used, as what follows its name."""
    path = PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename or "\0" in member.filename:
        return "points outside the archive; do not use this file"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a symbolic link; pack the file itself"
    if kind not in (0, stat.S_IFREG):
        return "is no plain file; pack films and folders alone"
    if member.flag_bits & 1:
        return "is encrypted; unpack the archive and pass the folder"
    if member.file_size > MAX_RATIO * max(1, member.compress_size) and member.file_size > 2**20:
        return (
            f"is {member.compress_size:,} bytes packed and {member.file_size:,} unpacked, more than {MAX_RATIO} times; "
            "it is a decompression bomb"
        )
    return None


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> bytes:
    try:
        content = archive.read(member)
        if len(content) != member.file_size:
            raise ValueError(f"{len(content):,} bytes instead of {member.file_size:,}")
        return content
    except _BROKEN as error:
        raise DatasetError(
            f"{path}: member {member.filename!r} is damaged ({_why(error)}); download the archive again"
        ) from error


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
