from __future__ import annotations

import re

import pytest

from cxr.metric_definitions import METRIC_DEFINITIONS


@pytest.mark.parametrize("value", ["0.1709", "1.2e-05", "nan"])
def test_each_expression_finds_its_own_metric_and_no_other(value: str) -> None:
    printed = " ".join(f"{one['Name']}={value}" for one in METRIC_DEFINITIONS)
    line = f"epoch=3 {printed} auroc=7 other:aurocs=7"
    for one in METRIC_DEFINITIONS:
        assert re.findall(one["Regex"], line) == [value], one["Name"]
