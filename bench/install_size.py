"""What an install brings, for the package alone and with each of its extras: packages and bytes.

    python bench/install_size.py [extra or extras ...]

Each is installed into a folder of its own, without compiled files. `lora` and `dev` are measured where they
are named alone.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LARGE = {"lora", "dev", "docs"}
README = "local,plots,evaluate"


def install(extras: str) -> tuple[int, int]:
    """Install, and return how many packages there are, and their bytes."""
    with tempfile.TemporaryDirectory() as folder:
        what = f"{ROOT}[{extras}]" if extras else str(ROOT)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--quiet",
            "--no-compile",
        ]
        subprocess.run([*pip, "--target", folder, what], check=True)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        packages = sum(path.name == "METADATA" and path.parent.suffix == ".dist-info" for path in files)
        return packages, sum(path.stat().st_size for path in files)


def main(named: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = named or ["", *(name for name in project["optional-dependencies"] if name not in LARGE), README]
    plain = None
    for each in extras:
        packages, size = install(each)
        plain = size if plain is None else plain
        more = f", {(size - plain) / 1e6:+.0f} MB" if size != plain else ""
        print(
            f"{each or 'plain':<24}{packages - 1:4} packages beside our own {size / 1e6:6.0f} MB{more}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
