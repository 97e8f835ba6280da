"""Records what the code computes, so that a redesign can show that it computes the same.

`python -m tests.golden.record losses` and `... runs` (from the repository's root) write `tests/golden/recorded/*.json`.
Record again only in a commit that means to change a number, and say there which and why.

The instruction set is pinned (see `ENVIRONMENT`) before torch is loaded, so that two machines round alike.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("recorded")
STEPS = 20
# One thread, and instructions that every x86-64 machine has: sums are formed in the same order everywhere.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "NUMBA_CPU_NAME": "generic",
}
# Terms that have another name now, with the name under which they are recorded.
RENAMED = {f"{prefix}roi_{term}": f"{prefix}region_{term}" for prefix in ("", "loss/") for term in ("class", "box")}
QUICK = (
    "train.steps=12", "train.validate_every=6", "train.save_every=6", "train.batch_size=2", "train.num_workers=0",
    "model.backbone.start_filters=4", "model.backbone.depth=10", "predict.views=identity",
)  # fmt: skip


def record_losses() -> dict[str, list[dict[str, float]]]:
    """The loss terms of 20 steps of every model in both ranks, fp32, plain gradient descent on generated patches."""
    import torch

    from tests.unit.builders import MODELS, make_batch, make_task

    recorded = {}
    for ndim in (2, 3):
        task = make_task(ndim)
        for name, config in sorted(MODELS.items()):
            torch.manual_seed(0)
            model = config.build(task).train()
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
            steps = []
            for step in range(STEPS):
                batch = make_batch(task, 2, objects=2, seed=step)
                torch.manual_seed(step)  # regions and hard negatives are drawn
                recorded_step = {}
                for phase in model.phases:
                    terms = model(batch.images, batch, phase=phase)
                    optimizer.zero_grad()
                    sum(terms.values()).backward()
                    optimizer.step()
                    recorded_step |= {RENAMED.get(term, term): value.item() for term, value in sorted(terms.items())}
                steps.append(recorded_step)
            recorded[f"{name} {ndim}d"] = steps
    return recorded


def record_runs() -> dict[str, Any]:
    """Hashes of the store, losses, detections and metrics of a small run from images to metrics, in both ranks."""
    import boxel

    recorded = {}
    everything = ("model.dense.min_score=0.0", "consolidate.min_score=0.0")  # hardly trained, it is sure of nothing
    for ndim, size in ((2, 64), (3, 32)):
        for recipe, more in (("retina_unet_small", everything), ("mask_rcnn_small", ())):
            settings = (*QUICK, *more)
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder)
                boxel.make_toy(root / "toys", num_train=6, num_val=3, num_test=4, ndim=ndim, size=size)
                boxel.prepare(root / "toys", root / "work", recipe=recipe, overrides=settings, workers=0)
                run = boxel.train(root / "work", root / "run", recipe=recipe, overrides=settings)
                files = boxel.predict(run, [root / "toys" / "imagesTs"], root / "predictions")
                config = boxel.EvaluateConfig(num_resamples=50)
                result = boxel.evaluate(root / "predictions", root / "toys", config=config)
                log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
                recorded[f"{recipe} {ndim}d"] = {
                    "store": json.loads((root / "work" / "manifest.json").read_text())["contents"],
                    "log": [{RENAMED.get(key, key): step[key] for key in step if key != "seconds"} for step in log],
                    "detections": {path.stem: detections(path) for path in sorted(files)},
                    "metrics": result.metrics,
                }
    return recorded


def detections(path: Path) -> list[dict[str, Any]]:
    """The best ten of a prediction file."""
    found = json.loads(path.read_text())["detections"][:10]
    return [{key: one[key] for key in ("lower", "upper", "score", "label")} for one in found]


RECORDERS = {"losses": record_losses, "runs": record_runs}

if __name__ == "__main__":
    name, *out = sys.argv[1:]
    path = Path(out[0]) if out else RECORDED / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(RECORDERS[name](), indent=1) + "\n")
