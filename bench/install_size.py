"""What the plain install brings: megabytes on the disk and dependencies, beside what it may not grow above.

    python bench/install_size.py                       # builds this checkout, installs it into a new place
    python bench/install_size.py --into build/plain    # looks at an environment that is there

What a new environment has by itself does not count: pip, and setuptools on older Pythons. Nor is this package
itself a dependency. The rest is counted as it lies on the disk, compiled files included.
Extras may grow, and are held to nothing: `--extras local,evaluate` says what they bring.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

MOST_MEGABYTES, MOST_DEPENDENCIES = 456, 40
ROOT = Path(__file__).parents[1]


def install(place: Path, extras: str) -> None:
    venv.create(place, with_pip=True)
    what = f"{ROOT}[{extras}]" if extras else str(ROOT)
    subprocess.run([python_of(place), "-m", "pip", "install", "--quiet", what], check=True)


def python_of(place: Path) -> str:
    return str(place / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def measure(place: Path) -> tuple[float, int]:
    """Return the megabytes of what was installed into an environment, and how many dependencies that is."""
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    folder = subprocess.run([python_of(place), "-c", program], capture_output=True, text=True, check=True)
    packages = Path(folder.stdout.strip())
    paths = (
        path for top in packages.iterdir() if not is_there_anyway(top.name) for path in [top, *top.rglob("*")]
    )
    files = {(found.st_dev, found.st_ino): found for found in map(os.lstat, paths)}
    # Blocks of the disk, not the lengths of files: a small file takes a whole block.
    used = sum(getattr(found, "st_blocks", found.st_size / 512) * 512 for found in files.values())
    names = {path.name for path in packages.glob("*.dist-info") if not is_there_anyway(path.name)}
    return used / 2**20, sum(not name.startswith("finetune_pricer") for name in names)


def is_there_anyway(name: str) -> bool:
    return re.split(r"\W", name)[0] in {"pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure an install.")
    parser.add_argument("--into", type=Path, help="an environment that is there; a new one if left out")
    parser.add_argument("--extras", default="", help="such as local,evaluate; none if left out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = options.into or Path(folder) / "environment"
        if not options.into:
            install(place, options.extras)
        megabytes, packages = measure(place)
    print(
        f"{megabytes:.0f} MB (at most {MOST_MEGABYTES}), "
        f"{packages} dependencies (at most {MOST_DEPENDENCIES})"
    )
    if not options.extras and (megabytes > MOST_MEGABYTES or packages > MOST_DEPENDENCIES):
        sys.exit("the plain install has grown")


if __name__ == "__main__":
    main()
