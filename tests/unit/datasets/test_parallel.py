"""Work on many cases by several threads."""

import pytest

from boxel.datasets.parallel import AHEAD, parallel


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_keep_their_order_and_few_are_made_before_they_are_asked_for(workers):
    begun, seen = [], []

    def work(item):
        begun.append(item)
        return item * item

    for result in parallel(work, range(200), workers, lambda _, done, total: seen.append((done, total)), "working"):
        assert result == len(seen[:-2]) ** 2
        assert len(begun) < len(seen) + AHEAD * workers
    assert seen == [(done, 200) for done in range(201)]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_first_error_ends_the_work(workers):
    begun = []

    def work(item):
        begun.append(item)
        if item == 3:
            raise ValueError("case 3 is damaged")

    with pytest.raises(ValueError, match="case 3"):
        list(parallel(work, range(1000), workers, lambda *_: None, "working"))
    assert len(begun) <= 4 + AHEAD * workers
