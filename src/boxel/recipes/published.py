"""Results that the Retina U-Net papers report, and what a recipe says that it reproduces.

Reference: Jaeger et al., arXiv 1811.08661, tables 1 and 2, and figure 5; PMLR 116 (2020), table 1, has the same numbers
for slices with context and volumes.
"""

# mAP at IoU 0.10 and patient-level AP (%) by data set and by what the model sees, in the order of `OF_TABLES`.
_TABLES = {
    "lidc": {
        "2d": ((40.8, 68.0), (39.5, 67.7), (29.0, 59.8), (38.6, 66.4), (35.3, 63.6)),
        "2dc": ((50.2, 73.9), (48.2, 71.5), (41.1, 66.1), (49.1, 71.6), (45.4, 69.1)),
        "3d": ((49.8, 70.4), (45.9, 68.8), (36.6, 62.8), (50.5, 70.7), (48.3, 71.8)),
    },
    "breast": {
        "2d": ((31.8, 85.2), (32.3, 86.1), (22.3, 80.1), (33.1, 83.7), (33.6, 86.8)),
        "2dc": ((33.4, 86.9), (33.2, 84.4), (25.8, 81.6), (33.2, 84.7), (32.3, 86.4)),
        "3d": ((35.8, 88.0), (31.9, 86.4), (26.9, 85.1), (35.1, 86.5), (34.0, 84.8)),
    },
}
# The tables have no Faster R-CNN+; figure 5 compares all six on toy images.
OF_TABLES = ("retina_unet", "retina_net", "det_unet", "ufrcnn_plus", "mask_rcnn")
_OF_FIGURE = (*OF_TABLES, "faster_rcnn_plus")
_SOURCES = {
    "lidc": "LIDC {}, arXiv 1811.08661 table 1",
    "breast": "breast DWI (in-house data, not public) {}, arXiv 1811.08661 table 2",
}


def result_in_table(data: str, seen: str, model: str) -> tuple[float, float]:
    """MAP at IoU 0.10 and patient-level AP (%) of a model on "lidc" or "breast", in "2d", "2dc" or "3d"."""
    return _TABLES[data][seen][OF_TABLES.index(model)]


def in_table(data: str, seen: str, model: str, remark: str = "") -> str:
    """The papers' result of a model on "lidc" or "breast", in "2d", "2dc" or "3d"; empty where they report none."""
    if model not in OF_TABLES:
        return ""
    precision, patient = result_in_table(data, seen, model)
    return f"{_SOURCES[data].format(model)}: mAP10 {precision}, patient AP {patient}{remark}"


def in_figure(model: str, remark: str) -> str:
    """The papers' comparison on toy images, which is a figure without numbers; empty for other models than theirs."""
    return f"toy data, arXiv 1811.08661 figure 5; {remark}" if model in _OF_FIGURE else ""
