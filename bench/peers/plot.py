"""A bar chart of what a benchmark wrote: JSON PLOT X Y BY. `X`, `Y` and `BY` are columns; each value of `BY` is a series."""

import json
import sys
from pathlib import Path

from matplotlib import pyplot

path, plot, x, y, by = sys.argv[1:]
rows = json.loads(Path(path).read_text(encoding="utf-8"))["rows"]
figure, axes = pyplot.subplots(figsize=(10, 5), layout="constrained")
groups = list(dict.fromkeys(row[x] for row in rows))
series = list(dict.fromkeys(row[by] for row in rows))
for index, one in enumerate(series):
    heights = {row[x]: row[y] for row in rows if row[by] == one}
    places = [groups.index(group) + (index - len(series) / 2 + 0.5) / (len(series) + 1) for group in heights]
    axes.bar(places, list(heights.values()), 1 / (len(series) + 1), label=str(one))
axes.set_xticks(range(len(groups)), [str(group) for group in groups], rotation=20)
axes.set_ylabel(y)
axes.legend()
figure.savefig(plot)
