"""From a Parquet file to a checked, counted training file: memory does not grow with the number of items."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.data]

# A process of its own for each size: memory once taken from the system is not always given back.
ROAD = """
import sys, threading, time
from finetune_pricer import ItemDataset, JsonlWriter, check_jsonl, count_tokens

most, done = 0, False
def sample():
    global most
    while not done:
        for line in open("/proc/self/status"):
            if line.startswith("RssAnon"):
                most = max(most, int(line.split()[1]))
        time.sleep(0.01)

sampler = threading.Thread(target=sample)
sampler.start()
started = time.perf_counter()
items = ItemDataset.from_file(sys.argv[1])
training = JsonlWriter().write(items, sys.argv[2])
report = check_jsonl(training.path)
count = count_tokens(training)
assert len(items) == training.examples == report.examples == count.examples == int(sys.argv[3])
assert report.ok
done = True
sampler.join()
print(most, count.billed, count.exact, round(time.perf_counter() - started, 1))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is Linux's")
def test_half_a_million_items_need_little_more_memory_than_fifty_thousand(data_folder: Path) -> None:
    [source] = (data_folder / "diamonds").glob("train-*.parquet")
    table = pq.read_table(source)
    peaks = {}
    for count in (50_000, 500_000):
        with pq.ParquetWriter(f"{count}.parquet", table.schema) as writer:
            left = count
            while left:
                writer.write_table(table.slice(0, left))
                left -= min(left, table.num_rows)
        command = [sys.executable, "-c", ROAD, f"{count}.parquet", f"{count}.jsonl", str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peak, billed, exact, seconds = done.stdout.split()
        peaks[count] = int(peak) / 1024
        print(f"{count:,}: {peaks[count]:.0f} MiB, {int(billed):,} tokens (exact: {exact}), {seconds} s")
    assert isinstance(table, pa.Table)
    assert peaks[500_000] - peaks[50_000] <= 64
