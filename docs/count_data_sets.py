"""Count what `boxel check` finds in each folder below DIR, one row of a table per data set.

    python docs/count_data_sets.py [DIR]

DIR is the folder of real data sets, by default that which BOXEL_DATA names, else ../shared/data.
"""

import os
import sys
from pathlib import Path

from boxel.datasets.quality.check import examine

DATA = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("BOXEL_DATA", "../shared/data"))
OPTIONS = {
    "ct": ["modality=CT"],
    "hippocampus": ["classes=anterior,posterior"],
    "lidc_nodules": ["class_column=Diagnosis_value", "classes=benign,malignant", "modality=CT"],
    "nuclei": ["classes=nucleus"],
    "nuclei3d": ["classes=nucleus"],
}

print("| data set | layout | axes | cases | patients | objects | by class | errors | warnings |")
print("|---|---|---|---|---|---|---|---|---|")
folders = sorted(folder for folder in DATA.iterdir() if folder.is_dir())
for folder in [*folders, DATA / "deeplesion" / "jpg8bit"]:
    found = examine(folder, options=OPTIONS.get(folder.name, ()))
    if found.dataset is None:
        print(f"| {folder.name} | not opened: {found.findings[0].problem} |")
        continue
    data = found.dataset
    most = sorted(found.objects.items(), key=lambda item: -item[1])
    classes = ", ".join(f"{name} {count}" for name, count in most[:3] if count) + (", ..." if len(most) > 3 else "")
    groups = {case.group for case in data.cases if case.group}
    count = {name: sum(finding.severity == name for finding in found.findings) for name in ("error", "warning")}
    print(
        f"| {folder.relative_to(DATA)} | {data.format} | {data.ndim} | {len(data.cases)} | {len(groups) or ''} "
        f"| {sum(found.objects.values())} | {classes} | {count['error']} | {count['warning']} |"
    )
