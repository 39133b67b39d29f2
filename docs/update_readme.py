"""Put the demo's figures into the README: its tables, a picture of matches, the PCK curve.

make demo && make readme
"""

import argparse
import re
import shutil
from pathlib import Path

from ucn.storage.files import atomic_path, write_text

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- demo: start -->", "<!-- demo: end -->"
PICTURES = {"matches.jpg": "test/matches/1-ucn.jpg", "pck.png": "test/pck.png"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "demo")
    evaluation = parser.parse_args().run / "evaluate"
    for name, source in PICTURES.items():
        target = ROOT / "docs" / "images" / name
        target.parent.mkdir(exist_ok=True)
        with atomic_path(target) as temporary:
            shutil.copyfile(evaluation / source, temporary)
    tables = (evaluation / "report.md").read_text().split("\n", 1)[1].strip()
    tables = re.sub(r"^## ", "#### ", tables, flags=re.MULTILINE)
    readme = (ROOT / "README.md").read_text()
    before, rest = readme.split(START)
    after = rest.split(END)[1]
    write_text(ROOT / "README.md", f"{before}{START}\n\n{tables}\n\n{END}{after}")


if __name__ == "__main__":
    main()
