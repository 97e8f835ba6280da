"""The images that the rows of a table name, DICOM files among them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from boxel.datasets.formats.table_columns import identity, plain
from boxel.datasets.lookup import DICOM, Lookup, MissingError, images_below
from boxel.datasets.names import below, stem_of
from boxel.datasets.problems import InputError, Report, some
from boxel.inputs.folders import walk
from boxel.inputs.tables import Row
from boxel.wording import counted

__all__ = ["Name", "images_of"]

Name = tuple[str, Path]  # of an image, and the table that says it
TOTALS = {
    "summe", "gesamt", "gesamtsumme", "mittelwert", "durchschnitt", "anzahl",
    "total", "totals", "grandtotal", "sum", "mean", "average", "count",
}  # fmt: skip


def images_of(
    folder: Path, rows_of: Mapping[Name, Sequence[Row]], report: Report, chosen: str, *, subset: bool
) -> dict[Name, Path]:
    """The image of every name; where there is none at all, the path that it would have.

    Args:
        folder: the folder of the data set.
        rows_of: the rows of each name.
        report: called with the problems.
        chosen: folder of the images, absolute or below `folder`; if empty, all folders are searched.
        subset: whether images may be missing, as where a part of a published data set was downloaded.

    Raises:
        InputError: a row has no name, or that of a row of totals.
    """
    lookup = Lookup(folder, report, chosen)
    files: dict[str, list[Path]] | None = None
    images: dict[Name, Path] = {}
    missing: list[str] = []
    for (name, table), rows in rows_of.items():
        if not name.strip():
            fix = "write the name of the image, or remove the line, if it is one of totals"
            raise InputError(table, f"line {rows[0].line}: the row names no image" if rows else "names no image", fix)
        try:
            try:
                images[name, table] = lookup.find(name, table)
            except MissingError:
                files = _dicom_files(lookup.root) if files is None else files
                images[name, table] = _dicom_file(name, files, lookup.root, table)
        except MissingError:
            if rows and plain(name) in TOTALS:
                problem = f"line {rows[0].line}: the row of {name!r} seems to hold totals, not an image"
                raise InputError(table, problem, "remove the line") from None
            missing.append(name)
        except InputError as problem:
            report(problem.of(name))
            images[name, table] = table  # it is not one of the missing ones
    if missing:
        table = next(iter(rows_of))[1]
        present = images_below(lookup.root)
        if len(missing) == len(rows_of) and not present and not files:
            text = f"annotations only: none of the {len(rows_of)} images is below {folder}"
            report(InputError(table, text, "add them for training; the table was checked", severity="warning"))
            return {(name, file): folder / name.replace("\\", "/").lstrip("/") for name, file in rows_of}
        exist = "does not exist" if len(missing) == 1 else "do not exist"
        text = f"{len(missing)} of {counted(len(rows_of), 'image')} {exist}: {some(missing)}"
        fix = _with_zeros(missing, present) or f"add them to {folder}, or remove their lines"
        report(InputError(table, text, fix, severity="warning" if subset else "error"))
    lookup.report_unused()
    return {key: image for key, image in images.items() if image != key[1]}


def _dicom_files(root: Path) -> dict[str, list[Path]]:
    """The files with the suffix of DICOM below a folder, by their names without it."""
    files: dict[str, list[Path]] = defaultdict(list)
    for folder, _, names in walk(root):
        for file in (folder / name for name in names if name.lower().endswith(DICOM)):
            files[file.stem].append(file)
    return files


def _dicom_file(name: str, files: Mapping[str, Sequence[Path]], root: Path, table: Path) -> Path:
    """The DICOM file of a name with or without its suffix; folders in the name are those of the file."""
    place = PurePosixPath(name.strip().replace("\\", "/"))
    stem = place.stem if place.suffix.lower() in DICOM else place.name
    inner = place.parts[:-1]
    fits = [file for file in files.get(stem, ()) if file.parent.parts[len(file.parent.parts) - len(inner) :] == inner]
    fits = [file for file in fits if place.name in (stem, file.name)]
    if not fits:
        raise MissingError(table, f"image {name!r} does not exist", f"add it to {root}")
    if len(fits) > 1:
        listed = some(str(below(file, root)) for file in fits)
        fix = "write the path with its folder, or choose the folder with --option images=FOLDER"
        raise InputError(table, f"image {name!r} may be any of {listed}", fix)
    return fits[0]


def _with_zeros(missing: Sequence[str], present: Sequence[Path]) -> str:
    """A suggested fix if a missing number is that of one image but for zeros before it, which spreadsheets drop."""
    numbers: dict[str, list[Path]] = defaultdict(list)
    for file in present:
        if stem_of(file).isdecimal():
            numbers[str(int(stem_of(file)))].append(file)
    near = {name: numbers[identity(name)] for name in missing}
    same = next(((name, files[0]) for name, files in near.items() if len(files) == 1), None)
    return f"write the names of the files, such as {same[1].name} for {same[0]}" if same else ""
