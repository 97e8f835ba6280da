"""The settings reference of the site has every setting that a recipe, or another type of a choice in it, has."""

import re
import sys
from pathlib import Path

import pytest

from boxel.config import Choice, Config
from boxel.evaluation import EvaluateConfig
from boxel.recipes import get_recipe, recipes

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def sections() -> dict[str, str]:
    sys.path.insert(0, str(DOCS))
    try:
        from settings_reference import settings_reference
    finally:
        sys.path.remove(str(DOCS))
    found = re.split(r"^## (.+)\n", settings_reference(), flags=re.M)
    return dict(zip(found[1::2], found[2::2], strict=True))


def missing(record: Config, key: str, sections: dict[str, str]) -> list[str]:
    """The settings of a record, and of every type that choices in it may have, that the page lacks."""
    title = rf"`{key}`.*: `{record.type_name}`$" if isinstance(record, Choice) else rf"`{key}`(,|$| of )"
    texts = [text for head, text in sections.items() if re.search(title if key else "^The experiment$", head)]
    names = {name for name in type(record).model_fields if not any(f"**`{name}`** (" in text for text in texts)}
    lost = [f"{key}.{name}" for name in names] if texts else [f"section {key}"]
    for name, value in record:
        inner = f"{key}.{name}".lstrip(".")
        values = [kind() for kind in value.registry.values()] if isinstance(value, Choice) and inner != "model" else []
        lost += [one for each in (value, *values) if isinstance(each, Config) for one in missing(each, inner, sections)]
    return lost


def test_every_setting_is_on_the_page_with_its_meaning(sections):
    assert not {one for name in recipes() for one in missing(get_recipe(name), "", sections)}
    assert not missing(EvaluateConfig(), "evaluation", sections)
    entries = [line for text in sections.values() for line in text.splitlines() if line.startswith("- **")]
    assert len(entries) > 200
    assert all(re.match(r"- \*\*`\w+`\*\* \(.+\): \S.*\.", line) for line in entries)


def test_an_entry_has_type_range_default_and_the_recipes_that_differ(sections):
    [entry] = re.findall(r"- \*\*`lr`\*\* .*\n.*", sections["`train`"])
    assert "(number, at least 0, at most 1e+06; default `0.001`): learning rate at its highest" in entry
    assert re.search(r"Recipes: .*`0.002` in .*`retina_unet_small`", entry)
    assert "one of: constant, cosine, poly, steps; default `poly`" in sections["`train`"]
    assert "`factor`" in sections["`train.schedule`: `steps`"]
