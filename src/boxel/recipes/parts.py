"""Parts that several models share, in one place for each recipe."""

from collections.abc import Mapping

from boxel.config import Config
from boxel.models import ModelConfig


def model_with(name: str, shared: Mapping[str, object]) -> ModelConfig:
    """The model `name` with those of the `shared` parts that it has.

    A part belongs to a model that has a setting of that name, and, where the part is a record, of that kind: a
    user's model may call something else `dense`.

    Raises:
        ValueError: no such model, or a part that no model has.
    """
    known = {key for kind in ModelConfig.registry.values() for key in kind.model_fields}
    if unknown := shared.keys() - known:
        raise ValueError(
            f"no model has the parts {', '.join(sorted(unknown))}; the models have {', '.join(sorted(known))}"
        )
    own = ModelConfig.registry[name].model_fields if name in ModelConfig.registry else {}
    fitting = {key: part for key, part in shared.items() if key in own and _is_a(part, own[key].annotation)}
    return ModelConfig.of_parts(name, fitting)


def _is_a(part: object, kind: object) -> bool:
    return not isinstance(part, Config) or (isinstance(kind, type) and isinstance(part, kind))
