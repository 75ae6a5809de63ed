"""The site of docs/: its table of contents, and the check of a built site finds what is wrong with one."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from support import ROOT

problems = runpy.run_path(str(ROOT / "docs" / "check_site.py"))["problems"]


def test_pages_in_the_table_of_contents_exist() -> None:
    """Those that it does not list, conf.py puts under More."""
    listed = re.findall(r"^(\w+)$", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} >= set(listed)
    assert len(listed) == len(set(listed)) > 15


def test_a_right_site_has_no_problems_and_a_wrong_one_all_of_them(tmp_path: Path) -> None:
    assert problems(tmp_path) == [f"{tmp_path}: not a built site, or one that cannot be searched"]
    (tmp_path / "searchindex.js").write_text("", encoding="utf-8")
    first, second = tmp_path / "first.html", tmp_path / "second page.html"
    first.write_text('<h1 id="top"></h1><a href="second%20page.html#end">x</a><a href="#top">x</a>', encoding="utf-8")
    second.write_text('<h1 id="end"></h1><a href="https://example.org">x</a><img src="data:,">', encoding="utf-8")
    assert problems(tmp_path) == []
    first.write_text(
        '<a href="third.html">x</a><a href="second page.html#middle">x</a><script src="https://x.org/a.js">', "utf-8"
    )
    assert [line.removeprefix(f"{first}: ") for line in problems(tmp_path)] == [
        "loads https://x.org/a.js, which is not there offline",
        "third.html: there is no such file",
        "second page.html#middle: there is no such anchor",
    ]
