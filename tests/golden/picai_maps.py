"""Random detection maps and lesions of the PI-CAI challenge, from a seed; and what picai_eval says of them.

`python tests/golden/picai_maps.py` in an environment of its own, with numpy and picai_eval (1.4.13) only, writes
`tests/golden/recorded/picai.json`: for each seed AP, AUROC, and the sensitivities at the rates of false positives.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

RECORDED = Path(__file__).with_name("recorded") / "picai.json"
SEEDS = range(200)
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def random_set(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cases of one set: detection map and lesions `(*s)`; 2D in every other set.

    Several lesions, and several candidates on one; empty cases; equal confidences; confidences above 1 in a third.
    """
    rng = np.random.default_rng(seed)
    shape = (24, 24) if seed % 2 else (10, 16, 16)
    top = 3.0 if seed % 3 == 0 else 1.0
    cases = []
    for number in range(10):
        lesions, scores = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        boxes = [_box(rng, shape) for _ in range(0 if number % 3 == 0 else int(rng.integers(1, 4)))]
        for box in boxes:
            if not lesions[_grown(box)].any():
                lesions[box] = 1
        for _ in range(int(rng.integers(0, 7))):
            box = _box(rng, shape)
            if boxes and rng.random() < 0.6:  # a part of a lesion or around it
                box = _moved(rng, boxes[int(rng.integers(len(boxes)))])
            if not scores[_grown(box)].any():
                scores[box] = round(top * rng.uniform(0.02, 1.0), int(rng.integers(1, 5))) or 0.1
        cases.append((scores, lesions))
    return cases


def _box(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[slice, ...]:
    sizes = rng.integers(2, 7, len(shape))
    return tuple(slice(a, a + n) for a, n in zip(rng.integers(0, np.array(shape) - sizes), sizes, strict=True))


def _moved(rng: np.random.Generator, box: tuple[slice, ...]) -> tuple[slice, ...]:
    lower = [max(0, s.start + int(rng.integers(-1, 3))) for s in box]
    return tuple(slice(a, max(a + 1, s.stop + int(rng.integers(-3, 2)))) for a, s in zip(lower, box, strict=True))


def _grown(box: tuple[slice, ...]) -> tuple[slice, ...]:
    return tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)


def record() -> dict[str, object]:
    from picai_eval import evaluate

    sets = {}
    for seed in SEEDS:
        maps = [[one if one.ndim == 3 else one[None] for one in case] for case in random_set(seed)]
        result = evaluate(y_det=[a for a, _ in maps], y_true=[b for _, b in maps], num_parallel_calls=1)
        sensitivity = [float(result.lesion_TPR_at_FPR(rate)) for rate in RATES]
        sets[str(seed)] = {
            "AP": float(result.AP), "AUROC": float(result.auroc), "sensitivity": sensitivity,
            "lesions": int(result.num_lesions),
        }  # fmt: skip
    return {"picai_eval": version("picai_eval"), "command": "python tests/golden/picai_maps.py", "sets": sets}


if __name__ == "__main__":
    content = record()
    rows = ",\n".join(f'"{seed}": {json.dumps(values)}' for seed, values in content.pop("sets").items())  # type: ignore[attr-defined]
    RECORDED.write_text(f'{json.dumps(content)[:-1]}, "sets": {{\n{rows}\n}}}}\n')
