"""Writes Grafana's dashboards (config/grafana/dashboards) from the definitions beside this file.

    python3 tools/boards            write them
    python3 tools/boards --check    say which files differ, and end with 1
"""

import pathlib
import sys

sys.dont_write_bytecode = True

import alt  # noqa: E402
import autoforge  # noqa: E402
import daytrade  # noqa: E402
import matching  # noqa: E402
import system  # noqa: E402
import tier  # noqa: E402

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "config" / "grafana" / "dashboards"
BOARDS = [board for module in (system, tier, alt, daytrade, matching, autoforge) for board in module.boards()]


def main():
    files = {FOLDER / board.folder / f"{board.uid}.json": board.json() for board in BOARDS}
    there = set(FOLDER.rglob("*.json"))
    if sys.argv[1:] == ["--check"]:
        wrong = [path for path, text in files.items() if path not in there or path.read_text(encoding="utf-8") != text]
        wrong += there - set(files)
        for path in sorted(wrong):
            print(f"{path.relative_to(FOLDER)}: not what tools/boards makes; run `make boards`", file=sys.stderr)
        return 1 if wrong else 0
    if sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    for path in there - set(files):
        path.unlink()
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


sys.exit(main())
