"""A plug-in with which a worker on the node that is to be lost does not get beyond its third image."""

import os
import time
from pathlib import Path

from boxel.api.detector import Detector
from tests.end_to_end.tiny_grid import LOST, on_lost_node

STALLS_AT = 3
calls = []
predict_raw = Detector.predict_raw


def stalling_predict_raw(self, image, **settings):
    calls.append(image)
    if len(calls) == STALLS_AT and on_lost_node():
        (Path(os.environ[LOST]) / "reached").touch()
        time.sleep(600)
    return predict_raw(self, image, **settings)


Detector.predict_raw = stalling_predict_raw
