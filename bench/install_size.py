"""What the plain install brings: megabytes on the disk and packages, beside what it may not grow above.

    python bench/install_size.py                       # builds this checkout, installs it into a new place
    python bench/install_size.py --into build/plain    # looks at an environment that is there

All of `site-packages` counts, compiled files and pip included, as `du` has it; pip is no package of ours.
Extras may grow, and are held to nothing: `--extras local,evaluate` says what they bring.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

MOST_MEGABYTES, MOST_PACKAGES = 456, 40
ROOT = Path(__file__).parents[1]


def install(place: Path, extras: str) -> None:
    venv.create(place, with_pip=True)
    what = f"{ROOT}[{extras}]" if extras else str(ROOT)
    subprocess.run([python_of(place), "-m", "pip", "install", "--quiet", what], check=True)


def python_of(place: Path) -> str:
    return str(place / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def measure(place: Path) -> tuple[float, int]:
    """Return the megabytes of an environment's packages, and how many they are without pip."""
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    folder = subprocess.run([python_of(place), "-c", program], capture_output=True, text=True, check=True)
    packages = Path(folder.stdout.strip())
    files = {(found.st_dev, found.st_ino): found for found in map(os.lstat, packages.rglob("*"))}
    # Blocks of the disk, not the lengths of files: a small file takes a whole block.
    used = sum(getattr(found, "st_blocks", found.st_size / 512) * 512 for found in files.values())
    names = {path.name.partition("-")[0].lower() for path in packages.glob("*.dist-info")}
    return used / 2**20, len(names - {"pip"})


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
    print(f"{megabytes:.0f} MB (at most {MOST_MEGABYTES}), {packages} packages (at most {MOST_PACKAGES})")
    if not options.extras and (megabytes > MOST_MEGABYTES or packages > MOST_PACKAGES):
        sys.exit("the plain install has grown")


if __name__ == "__main__":
    main()
