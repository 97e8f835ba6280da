"""The settings of all recipes in Markdown, from their records: for the page `reference/settings.md`."""

from collections import defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatch

from boxel.config import Choice, Config
from boxel.evaluation import EvaluateConfig
from boxel.recipes import get_recipe, recipes
from boxel.recipes.explained import Setting, settings

ORDER = ("", "plan", "model", "train", "predict", "consolidate", "evaluation")
FAMILIES = ("mdt_*", "paper_*", "mdt_lidc_*", "paper_lidc_*", "paper_breast_*", "deeplesion_*", "*_small")


@dataclass
class Group:
    """The settings of one kind of record: where it is found, and per setting the recipes that have each value."""

    keys: set[str] = field(default_factory=set)
    settings: dict[str, Setting] = field(default_factory=dict)
    values: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))


Groups = dict[type[Config], Group]


def settings_reference() -> str:
    """One section for each kind of record that a recipe has, or can have."""
    groups: Groups = defaultdict(Group)
    for name in recipes():
        collect(get_recipe(name), "", name, groups)
    collect(EvaluateConfig(), "evaluation", "", groups)
    titles = {kind: heading(kind, group) for kind, group in groups.items()}
    kinds = sorted(groups, key=lambda kind: (ORDER.index(min(groups[kind].keys).partition(".")[0]), titles[kind]))
    return "\n\n".join(section(titles[kind], groups[kind]) for kind in kinds)


def collect(record: Config, key: str, recipe: str, groups: Groups) -> None:
    """Note the settings of a record, and those of each type that a choice in it may have instead."""
    records = {key: record}
    groups[type(record)].keys.add(key)
    for setting in settings(record, f"{key}." if key else ""):
        parent, _, name = setting.key.rpartition(".")
        group = groups[type(records[parent])]
        group.settings.setdefault(name, setting)
        if recipe and parent:  # what an experiment itself consists of is its recipe
            group.values[name][setting.shown].add(recipe)
        if isinstance(setting.value, Config):
            records[setting.key] = setting.value
            groups[type(setting.value)].keys.add(setting.key)
        if isinstance(setting.value, Choice):
            for other in setting.value.registry.values():
                if setting.key not in groups[other].keys:
                    collect(other(), setting.key, "", groups)


def heading(kind: type[Config], group: Group) -> str:
    where = ", ".join(f"`{key}`" for key in sorted(group.keys) if key) or "The experiment"
    if issubclass(kind, Choice):
        return f"{where}: `{kind.type_name}`"
    having = {name for values in group.values.values() for names in values.values() for name in names}
    models = {recipes()[name].model for name in having}
    return f"{where} of `{models.pop()}`" if len(models) == 1 else where


def section(title: str, group: Group) -> str:
    entries = [entry(name, setting, group.values[name]) for name, setting in group.settings.items()]
    return "\n".join([f"## {title}", "", *(entries or ["There is nothing to set."])])


def entry(name: str, setting: Setting, values: dict[str, set[str]]) -> str:
    having = set().union(*values.values())
    others = [f"`{value}` in {in_words(names, having)}" for value, names in values.items() if value != setting.default]
    default = f"; default `{setting.default}`" if setting.default else ""
    recipes_differ = f"  \n  Recipes: {'; '.join(others)}." if others and setting.shown else ""
    return f"- **`{name}`** ({setting.kind}{default}): {setting.about.rstrip('.')}.{recipes_differ}"


def in_words(names: set[str], having: set[str]) -> str:
    """The recipes, with `mdt_*` for all of a family that have the setting."""
    if names == having:
        return "all that have it"
    shown = []
    for family in FAMILIES:
        members = {name for name in having if fnmatch(name, family)}
        if len(members) > 1 and members <= names:
            shown.append(family)
            names = names - members
    return ", ".join(f"`{name}`" for name in [*shown, *sorted(names)])
