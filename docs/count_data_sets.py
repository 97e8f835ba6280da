"""Count the objects and findings of `boxel check` in each folder below DIR, as a table with one row per data set.

    python docs/count_data_sets.py [DIR]

DIR is a folder of real data sets, by default that of BOXEL_DATA, otherwise ../shared/data.
"""

import os
import sys
from pathlib import Path

from boxel.datasets.quality.check import examine

DATA = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("BOXEL_DATA", "../shared/data"))
OPTIONS = {
    "ct": ["modality=CT"],
    "hippocampus": ["classes=anterior,posterior"],
    "lidc_nodules": ["class_column=Diagnosis_value", "classes=benign,malignant", "modality=CT", "values=instances"],
    "nuclei": ["classes=nucleus"],
    "nuclei3d": ["classes=nucleus"],
}

print("| data set | layout | axes | cases | patients | objects | by class | errors | warnings |")
print("|---|---|---|---|---|---|---|---|---|")
folders = sorted(folder for folder in DATA.iterdir() if folder.is_dir())
for folder in [*folders, DATA / "deeplesion" / "jpg8bit"]:
    examination = examine(folder, options=OPTIONS.get(folder.name, ()))
    if examination.dataset is None:
        print(f"| {folder.name} | not opened: {examination.findings[0].problem} |")
        continue
    data = examination.dataset
    most = sorted(examination.objects.items(), key=lambda item: -item[1])
    classes = ", ".join(f"{name} {count}" for name, count in most[:3] if count) + (", ..." if len(most) > 3 else "")
    groups = {case.group for case in data.cases if case.group}
    count = {name: sum(finding.severity == name for finding in examination.findings) for name in ("error", "warning")}
    print(
        f"| {folder.relative_to(DATA)} | {data.format} | {data.ndim} | {len(data.cases)} | {len(groups) or ''} "
        f"| {sum(examination.objects.values())} | {classes} | {count['error']} | {count['warning']} |"
    )
