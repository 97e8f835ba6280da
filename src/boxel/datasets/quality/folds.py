"""The rules of `check` about names, numbers and parts of cases: what `prepare` refuses, what spoils an evaluation."""

from collections.abc import Iterator

from boxel.datasets.cases import Dataset
from boxel.datasets.names import NAMES_OF_CASES, NO_FILE_NAME, can_name_files
from boxel.datasets.problems import Finding, InputError, as_input_error
from boxel.datasets.split import check_splits, dataset_splits

__all__ = ["FOLD_RULES", "bad_names"]

FIX = f"{NAMES_OF_CASES}, and without .labels or .measured at its end"


def bad_names(dataset: Dataset) -> Iterator[InputError]:
    """Cases after which no files can be named."""
    for case in dataset.cases:
        if not can_name_files(case.id) or case.id.endswith((".labels", ".measured")):
            yield InputError(case.file, f"case {case.id!r:.200}: {NO_FILE_NAME}", FIX, case.id)


def _names(dataset: Dataset, looks: object) -> Iterator[Finding]:
    for problem in bad_names(dataset):
        if can_name_files(problem.case):  # the reader reports the others
            yield Finding.of(problem)


def _folds(dataset: Dataset, looks: object) -> Iterator[Finding]:
    """Too few cases for folds, or prescribed ones that training will refuse."""
    if dataset.splits is None:
        try:
            dataset_splits(dataset)
        except ValueError as error:
            problem = as_input_error(error)
            # A note: such a data set can still be predicted, and evaluated on.
            yield Finding("note", "", dataset.root, problem.problem, problem.suggested_fix)
    known = {case.id for case in dataset.cases}
    for fold, split in enumerate(dataset.splits or ()):
        if {name for ids in split.values() for name in ids} <= known:  # unknown names are reported by the reader
            try:
                check_splits([split], dataset.cases, str(dataset.root))
            except ValueError as error:
                problem = as_input_error(error)
                text = problem.problem.replace("fold 0", f"fold {fold}", 1)
                yield Finding("error", "", dataset.root, text, problem.suggested_fix)


def _groups(dataset: Dataset, looks: object) -> Iterator[Finding]:
    train = {case.group: case.id for case in dataset.train if case.group}
    test = {case.group: case.id for case in dataset.test}
    for group in sorted(train.keys() & test.keys()):
        problem = f"{train[group]} and {test[group]}, a training and a test case, are of one group (patient)"
        yield Finding("warning", "", dataset.root, problem, "move its cases to one side: test metrics are optimistic")


FOLD_RULES = (_names, _folds, _groups)
