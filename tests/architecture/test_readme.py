"""What the README and the tutorials show is what happens: their blocks are executed, in order, in an empty folder.

```python blocks of a page share their names; in ```console blocks the lines `$ boxel ...` and `$ python docs/...` are
run, with `> FILE` at their end. A page with `<!-- needs data: NAME -->` is skipped where that folder of real data is
absent; a block after `<!-- needs module: NAME -->` is left out, and the page reported as skipped, where that is not
installed. A comment before a block changes what is run: `<!-- not run: REASON -->`, `<!-- run first: COMMAND -->`
(files the reader already has), `<!-- run with: OLD -> NEW -->` (a shorter training, for example). The last two kinds
may be repeated.
"""

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests import forks

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^```(\S*)[^\n]*\n(.*?)^```\s*?$|<!--\s*(not run|run first|run with|needs module):\s*(.+?)\s*-->", re.M | re.S
)
SHELLS = {"sh", "bash", "shell", "shell-session"}


@dataclass
class Block:
    language: str
    text: str
    first: list[str] = field(default_factory=list)
    reason: str = ""
    module: str = ""


def blocks(page: str) -> Iterator[Block]:
    """The code blocks of a page, with what the comments before each say applied to it."""
    first, changes, reason, module = [], [], "", ""
    for language, text, kind, value in FENCE.findall(page):
        if kind == "not run":
            reason = value
        elif kind == "needs module":
            module = value
        elif kind == "run first":
            first.append(value)
        elif kind == "run with":
            changes.append([part.strip() for part in value.split("->")])
        else:
            for old, new in changes:
                if old not in text:
                    raise ValueError(f"`run with: {old} -> {new}` but the block after it has no {old!r}")
                text = text.replace(old, new)
            yield Block(language, text, first, reason, module)
            first, changes, reason, module = [], [], "", ""


def commands(text: str) -> Iterator[list[str]]:
    """The `$` lines of a console block; a backslash continues one."""
    for line in re.findall(r"^\$ (.+)$", text.replace("\\\n", " "), re.M):
        yield shlex.split(line, comments=True)


def execute(block: Block, names: dict) -> None:
    for command in map(shlex.split, block.first):
        run(command)
    if block.language == "python":
        exec(compile(block.text, "<block>", "exec"), names)
    else:
        for command in commands(block.text):
            run(command)


def run(command: list[str]) -> None:
    target = command[command.index(">") + 1] if ">" in command else os.devnull
    command = command[: command.index(">")] if ">" in command else command
    command = [word.replace("EXAMPLES/", f"{ROOT / 'examples'}/") for word in command]
    if command[0] == "boxel":
        end = forks.run(*command[1:])
    elif command[0] == "python" and (ROOT / command[1]).is_file():
        end = forks.run(*command[2:], script=ROOT / command[1])
    else:
        raise ValueError(f"only boxel and docs/*.py are run; mark the block with `<!-- not run: REASON -->`: {command}")
    assert end.returncode == 0, f"{shlex.join(command)}\n{end.stdout}\n{end.stderr}"
    Path(target).write_text(end.stdout)


def runnable(page: Path) -> list[Block]:
    shown = [block for block in blocks(page.read_text()) if not block.reason]
    return [block for block in shown if block.language in ("python", "console")]


@pytest.mark.parametrize("page", [p for p in PAGES if runnable(p)], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_blocks_of_a_page_run_as_shown(page, tmp_path, monkeypatch, request):
    for name in re.findall(r"<!-- needs data: (\S+) -->", page.read_text()):
        if not (request.getfixturevalue("data") / name).is_dir():
            pytest.skip(f"{page.name} needs the real data {name}")
    monkeypatch.chdir(tmp_path)
    names, absent = {"__name__": "__main__"}, []
    for block in runnable(page):
        if block.module and not find_spec(block.module):
            absent.append(block.module)
            continue
        execute(block, names)
    if absent:
        pytest.skip(f"the other blocks of {page.name} ran; not installed: {', '.join(absent)}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_block_escapes_by_its_language(page):
    languages = {block.language for block in blocks(page.read_text())}
    assert not languages & SHELLS, "write ```console and `$ `"


def test_comments_apply_to_the_next_block_only():
    page = """
<!-- not run: takes a day -->
```console
$ make demo
```
<!-- run first: boxel toy --out data -->
<!-- run with: 4000 -> 2 -->
```python
steps = 4000
```
```console
$ boxel check \\
    data
clean
```
"""
    long, short, check = blocks(page)
    assert long.reason == "takes a day"
    assert (short.text, short.first) == ("steps = 2\n", ["boxel toy --out data"])
    assert not check.reason
    assert not check.first
    assert list(commands(check.text)) == [["boxel", "check", "data"]]


def test_a_block_that_needs_an_absent_module_is_skipped_visibly_after_the_others_ran(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    block = "```python\nPath({!r}).touch()\n```\n"
    first = "```python\nfrom pathlib import Path\n```\n"
    page.write_text(first + "<!-- needs module: no_such_module -->\n" + block.format("no") + block.format("yes"))
    with pytest.raises(pytest.skip.Exception, match=r"other blocks of page\.md ran; not installed: no_such_module"):
        test_the_blocks_of_a_page_run_as_shown(page, tmp_path, monkeypatch, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.md", "yes"]


def test_a_block_that_fails_is_noticed():
    with pytest.raises(ZeroDivisionError):
        execute(Block("python", "1 / 0"), {})
    with pytest.raises(AssertionError, match="no-such-verb"):
        execute(Block("console", "$ boxel no-such-verb\n"), {})
    with pytest.raises(ValueError, match="not run"):
        execute(Block("console", "$ rm -r /\n"), {})
