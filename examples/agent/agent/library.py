"""Prompts and skills: files beside the code, each set with its own digest."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

MAX_FILE = 64 * 1024
MAX_FILES = 200


@dataclass(frozen=True)
class Document:
    """A text file that starts with `key: value` lines between two `---`."""

    name: str
    header: dict[str, str]
    body: str


@dataclass(frozen=True)
class Library:
    prompts: dict[str, Document]
    skills: dict[str, Document]
    prompts_digest: str
    skills_digest: str


def load(configuration: Path) -> Library:
    """Reads prompts/ and skills/; raises ValueError for a file it cannot use."""
    prompts = _read(configuration / "prompts")
    skills = _read(configuration / "skills")
    return Library(
        {d.name: d for d in map(_parse, prompts.items())},
        {d.name: d for d in map(_parse, skills.items())},
        _digest(prompts),
        _digest(skills),
    )


def _read(directory: Path) -> dict[str, bytes]:
    paths = sorted(p for p in directory.glob("*.md") if p.is_file())
    if not paths or len(paths) > MAX_FILES:
        raise ValueError(f"{directory}: {len(paths)} files, want 1 to {MAX_FILES}")
    files = {}
    for path in paths:
        if path.stat().st_size > MAX_FILE:
            raise ValueError(f"{path}: larger than {MAX_FILE} bytes")
        files[path.stem] = path.read_bytes()
    return files


def _parse(item: tuple[str, bytes]) -> Document:
    name, content = item
    parts = content.decode().split("---\n", 2)
    if len(parts) != 3 or parts[0]:
        raise ValueError(f"{name}.md: want a header between two lines of ---")
    header = {}
    for line in parts[1].splitlines():
        key, colon, value = line.partition(":")
        if not colon:
            raise ValueError(f"{name}.md: {line!r} is not key: value")
        header[key.strip()] = value.strip()
    return Document(name, header, parts[2].strip())


def _digest(files: dict[str, bytes]) -> str:
    """Hashes names and contents, so that neither a change nor a rename hides."""
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        total.update(f"{hashlib.sha256(content).hexdigest()}  {name}.md\n".encode())
    return "sha256:" + total.hexdigest()
