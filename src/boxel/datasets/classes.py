"""Names of classes that cannot be told apart, in a data set of any layout."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator

from boxel.datasets.cases import Dataset
from boxel.datasets.problems import InputError
from boxel.wording import counted

__all__ = ["alike_classes"]


def alike_classes(dataset: Dataset) -> Iterator[InputError]:
    """Classes without a name or of the same name (errors), and those that are probably one class (warnings).

    Names are alike if they differ only in case, in blanks, or in how their letters are encoded.
    """
    counts = Counter(label for case in dataset.cases for label in case.labels)
    alike: dict[str, list[int]] = defaultdict(list)
    for label, name in enumerate(dataset.classes):
        alike["".join(unicodedata.normalize("NFKC", name).casefold().split())].append(label)
    for key, labels in alike.items():
        names = [dataset.classes[label] for label in labels]
        if not key:
            problem = f"class {labels[0]} has no name"
            yield InputError(dataset.root, problem, "name it; an empty line in a list of names counts as a class")
        elif len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            problem = f"classes {', '.join(map(str, labels))} have the same name {twice!r}"
            yield InputError(dataset.root, problem, "give each its own name, or its objects the same number")
        elif len(names) > 1:
            encoded = len({unicodedata.normalize("NFKC", name) for name in names}) < len(names)
            spelled = {label: (ascii if encoded else repr)(dataset.classes[label]) for label in labels}
            known = any(counts[label] for label in labels)  # objects of some layouts are counted when they are read
            numbers = {label: f" ({counted(counts[label], 'object')})" if known else "" for label in labels}
            listed = " and ".join(f"{name}{numbers[label]}" for label, name in spelled.items())
            problem = f"{listed} are different classes, but are spelled nearly alike"
            fix = f"if they are one class, write it everywhere as {spelled[max(labels, key=counts.__getitem__)]}"
            yield InputError(dataset.root, problem, fix, severity="warning")
