"""A corpus as one file of JSON lines, so that a machine with other packages trains on the same tokens.

    .venv/bin/python analysis/corpus_file.py python-packages python-packages.jsonl

Documents keep their order and their text, and with them the part (training or validation) and the hash of the tokens.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from scaling.data.corpus import open_corpus


def main(name: str, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for document in open_corpus(name, root=Path.cwd()).documents():
            file.write(json.dumps({"text": document.text}, ensure_ascii=False) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]))
