"""The charting script of reports: plotly.js with the chart types that reports draw, and no others.

`plotly-basic.min.js.gz` is the file of that name in plotly.js-basic-dist-min on npm, compressed and otherwise
as it was published; `LICENSE.txt` is that package's. The script that the plotly package brings is four times
as large, and a report is sent by mail. A test holds the hash against the file, and the figures against what
the script can draw.
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

VERSION = "4.1.1"
SHA256 = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
"""Of the script as it was published, which is what `read_script` returns."""
CHART_TYPES: frozenset[str] = frozenset({"scatter", "bar", "pie"})
"""What the basic bundle can draw. Source: README.md of plotly.js, "Partial bundles"."""


@cache
def read_script() -> str:
    """Return the script."""
    packed = Path(__file__).with_name("plotly-basic.min.js.gz").read_bytes()
    return gzip.decompress(packed).decode()
