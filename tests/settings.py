"""`boxel.evaluation` and `boxel.evaluate` with settings as keywords, which is shorter in tests."""

from functools import partial
from typing import Any

import boxel
from boxel.evaluation import EvaluateConfig, coco, luna16
from boxel.evaluation import compare as compare_sets
from boxel.evaluation import evaluate as evaluate_cases


def _call(function: Any, *args: Any, protocol: str = "boxel", **given: Any) -> Any:
    settings: dict[str, Any] = {"protocol": given.pop("protocol", protocol)}
    settings |= {
        name: given.pop(name) for name in list(given) if name in EvaluateConfig.model_fields and name != "criterion"
    }
    criterion = given.get("criterion")
    if isinstance(criterion, str):
        settings["criterion"] = given.pop("criterion")
    elif criterion is not None:
        settings["criterion"] = criterion.kind
    return function(*args, **given, config=EvaluateConfig.from_dict(settings))


evaluate, compare = partial(_call, evaluate_cases), partial(_call, compare_sets)
evaluate_coco, compare_coco = (partial(_call, f, protocol="coco") for f in (coco.evaluate_coco, coco.compare_coco))
evaluate_luna16, compare_luna16 = (
    partial(_call, f, protocol="luna16") for f in (luna16.evaluate_luna16, luna16.compare_luna16)
)
evaluate_files, compare_files = partial(_call, boxel.evaluate), partial(_call, boxel.compare)
