"""What checks the shape annotations in tests: beartype, with integers accepted as `float` (PEP 484)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
