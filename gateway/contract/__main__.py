"""`python -m gateway.contract` writes the documents beside this file, and takes away those that are no more."""

from __future__ import annotations

from gateway.contract import DIRECTORY, documents, text_of


def main() -> None:
    """Write every document."""
    wanted = documents()
    for old in DIRECTORY.rglob("*.json"):
        if old.relative_to(DIRECTORY).as_posix() not in wanted:
            old.unlink()
    for name, document in wanted.items():
        path = DIRECTORY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(document), encoding="utf-8")


if __name__ == "__main__":
    main()
