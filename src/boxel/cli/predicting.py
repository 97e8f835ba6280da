"""The verb that applies runs to images: `boxel predict`."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from boxel.cli.console import say, say_of_patients
from boxel.cli.data_sets import named_images
from boxel.cli.options import (
    All,
    DeviceName,
    Format,
    FpPerImage,
    MinScore,
    Options,
    Plugins,
    RunPath,
    Settings,
    Trust,
)
from boxel.cli.progress import progress_bars
from boxel.wording import counted


def predict(
    run: RunPath,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="Image files, DICOM files, folders with these, one data set in any layout, or a study in a PACS: "
            "`dicomweb://HOST:PORT/PATH/studies/UID` (docs/how_to/pacs.md).",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for one JSON file per image.")],
    with_: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="RUN",
            help="A further run of the same task that votes too, such as another fold; may be repeated.",
        ),
    ] = None,
    masks: Annotated[bool, typer.Option("--masks", help="Also predict instance masks, if the model has them.")] = False,
    segmentation: Annotated[
        bool, typer.Option("--segmentation", help="Also write CASE_seg.nii.gz, a label map of the classes.")
    ] = False,
    boxes: Annotated[
        Path | None,
        typer.Option(
            metavar="PREDICTIONS",
            help="Segment the boxes in these predictions of the same images, by any detector; with --segmentation.",
        ),
    ] = None,
    set_: Settings = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Also write this format into DIR/NAME; may be repeated. See `boxel convert`."
        ),
    ] = None,
    send: Annotated[
        bool, typer.Option("--send", help="Store the results in the PACS of the study, those of `--to dicom-...`.")
    ] = False,
    part: Annotated[
        str,
        typer.Option(
            metavar="all|train|val|test",
            help="Cases to predict: `all`, or the `train`, `val` or `test` cases of the run's fold.",
        ),
    ] = "all",
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N", help="Predict the I-th of N parts of the cases; any number of parts at the same time."
        ),
    ] = "",
    ray: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Predict on a Ray cluster: HOST:PORT, or `local` for one in this machine only."
        ),
    ] = "",
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Workers on the Ray cluster [one per GPU, else by cores].")
    ] = None,
    device: DeviceName = "",
    min_score: MinScore = None,
    fp_per_image: FpPerImage = None,
    all_: All = False,
    guarantee: Annotated[
        str,
        typer.Option(
            metavar="fp=K|missed=S",
            help="Show the detections above the threshold at which a new patient has, with the confidence, at most K "
            "false positives per image, or at most the share S of the objects missed.",
        ),
    ] = "",
    confidence: Annotated[float | None, typer.Option(metavar="X", help="Confidence of --guarantee [0.9].")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Predict images of another modality than the training images, too.")
    ] = False,
    format: Format = "",  # noqa: A002
    option: Options = None,
    plugin: Plugins = None,
    trust: Trust = False,
) -> None:
    """Detect objects in images; boxes are written in voxels of the original image and, if it has a spacing, in mm.

    Each detection is marked as above the threshold of its class, or not: the one with the highest F1 on the validation
    cases, unless another is chosen. Formats that people look at (DICOM, Slicer, MITK, NIfTI, preview) hold those above.

    Exit status 2 if an image could not be predicted; the others are not affected, and the next call tries it again.
    Rerun an interrupted command to resume it. Large cohorts: docs/how_to/cohorts.md.
    """
    from boxel.api.pacs import fetched, pacs_address
    from boxel.api.prediction import predict as run_predict
    from boxel.operating_points import Shown

    shown, address = Shown(min_score, fp_per_image, all_, guarantee, confidence), pacs_address(images, send, to or ())
    with (
        progress_bars("images that are done are kept") as progress,
        fetched(address, out, progress) if address else nullcontext() as study,
    ):
        given = named_images([study.folder] if study else [Path(image) for image in images], format, option)
        flags = {"predict.masks=true": masks, "predict.segmentation=true": segmentation}
        settings = [*(set_ or ()), *(setting for setting, chosen in flags.items() if chosen)]
        written = run_predict(
            run, given, out, ensemble=with_ or (), overrides=settings, formats=to or (), boxes=boxes, part=part,
            shard=shard, ray=ray, workers=workers, device=device or None, trust=trust, force=force, shown=shown,
            progress=progress,
        )  # fmt: skip
        sent = study.send(out, to or ()) if study and send else 0
    say_of_patients(to or ())
    say(f"predicted {counted(len(written), 'image')} in {out}")
    if sent and address:
        say(f"sent {counted(sent, 'DICOM object')} to {address.server}")
