"""Whatever is in a file: a command succeeds, or ends with exit status 2 and one message that names the file.

There is never a traceback, an abort, more than 20 seconds, or more than 2 GB. `BOXEL_FUZZ_SEED` draws other inputs,
`BOXEL_FUZZ_COUNT` more of them; `BOXEL_FUZZ_FIRST=137 BOXEL_FUZZ_COUNT=1` repeats the one with this number.
"""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.inputs import damage, fault
from tests.fuzz.templates import make_templates
from tests.fuzz.worker import Worker

pytestmark = pytest.mark.xdist_group("fuzz")  # its templates are made once
SEED = int(os.environ.get("BOXEL_FUZZ_SEED", "0"))
FIRST = int(os.environ.get("BOXEL_FUZZ_FIRST", "0"))
FEW, MANY = (int(os.environ.get("BOXEL_FUZZ_COUNT", count)) for count in ("300", "5000"))
AT_ONCE = 500


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    worker = Worker(tmp_path_factory.mktemp("worker") / "log")
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("templates")


@pytest.fixture(scope="module")
def templates(base, worker):
    def boxel(*words: object) -> None:
        outcome = worker.run(*words)
        assert outcome.status == 0, f"{words}: {outcome}"

    return make_templates(base, boxel)


def attack(numbers, templates, base, worker, folder) -> list[str]:
    """The faults found with these inputs, one line each; a faulty input stays in the folder."""
    faults, kinds = [], Counter()
    for number in numbers:
        place = folder / str(number)
        given = damage(SEED, number, templates, base, place)
        if found := fault(given, worker.run(*given.words)):
            kinds[found.partition(":")[0]] += 1
            faults.append(f"{given}\n    {found}")
        shutil.rmtree(place)
    return [str(dict(kinds)), *faults] if faults else []


def test_the_inputs_are_valid_before_they_are_damaged(templates, base, worker, tmp_path):
    for row, template in enumerate(templates):
        for column, command in enumerate(dict.fromkeys(template.commands)):
            copy, out = tmp_path / f"{row}_{column}" / "d", tmp_path / f"{row}_{column}" / "out"
            shutil.copytree(template.folder, copy)
            outcome = worker.run(*(word.format(d=copy, o=out, base=base) for word in command.split()))
            assert outcome.status == 0, f"{template.name}: {command}: {outcome}"


def test_a_damaged_file_is_named_or_harmless(templates, base, worker, tmp_path):
    faults = attack(range(FIRST, FIRST + FEW), templates, base, worker, tmp_path)
    assert not faults, "\n".join(faults)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FIRST, FIRST + MANY, AT_ONCE))
def test_thousands_of_damaged_files_are_named_or_harmless(first, templates, base, worker, tmp_path):
    numbers = range(first, min(first + AT_ONCE, FIRST + MANY))
    faults = attack(numbers, templates, base, worker, tmp_path)
    assert not faults, "\n".join(faults)
