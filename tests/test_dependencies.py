"""The lowest versions that may be installed have no hole that is known."""

import pytest
from packaging.version import Version

from audit_deps import judge, lowest_version, read_requirements

# What is known of versions below: the package, the version that mends it, and the hole.
HOLES = [
    ("starlette", "0.49.1", "CVE-2025-62727"),
    ("starlette", "1.0.1", "CVE-2026-48710"),
    ("starlette", "1.3.1", "GHSA-82w8-qh3p-5jfq"),
    ("python-multipart", "0.0.22", "CVE-2026-24486"),
    ("python-multipart", "0.0.27", "CVE-2026-42561"),
    ("python-multipart", "0.0.30", "CVE-2026-53539"),
    ("jinja2", "3.1.6", "CVE-2025-27516"),
    ("filelock", "3.20.1", "CVE-2025-68146"),
    ("filelock", "3.20.3", "CVE-2026-22701"),
    ("tqdm", "4.66.3", "CVE-2024-34062"),
    ("orjson", "3.11.6", "CVE-2025-67221"),
    ("python-dotenv", "1.2.2", "CVE-2026-28684"),
    ("click", "8.3.3", "CVE-2026-7246"),
    ("pyarrow", "23.0.1", "CVE-2026-25087"),
    ("datasets", "5.0.1", "PYSEC-2026-3716"),
    ("scikit-learn", "1.5.0", "CVE-2024-5206"),
    ("pydantic", "2.4.0", "CVE-2024-3772"),
]


@pytest.mark.parametrize(("package", "mended", "hole"), HOLES, ids=[hole for *_, hole in HOLES])
def test_no_version_with_a_known_hole_may_be_installed(package: str, mended: str, hole: str) -> None:
    floors = [lowest_version(needed) for needed in read_requirements() if needed.name == package]
    assert floors
    assert all(Version(floor) >= Version(mended) for floor in floors), f"{package} {floors} has {hole}"


def test_every_package_that_users_install_has_a_lowest_version() -> None:
    needed = read_requirements()
    assert {"openai", "starlette", "scikit-learn", "plotly", "rensa"} <= {each.name for each in needed}
    assert all(Version(lowest_version(each)) for each in needed)


FINE = {"name": "tqdm", "version": "4.66.3", "vulns": []}
TORN = {"name": "tqdm", "version": "4.66.0", "vulns": [{"id": "CVE-2024-34062", "fix_versions": ["4.66.3"]}]}
UNKNOWN = {"name": "rensa", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        ([FINE], 0, "1 lowest versions asked about, 0 known holes"),
        ([FINE, UNKNOWN], 0, "no answer about them: rensa"),
        ([TORN], 1, "tqdm 4.66.0: CVE-2024-34062, fixed in 4.66.3"),
        ([TORN, UNKNOWN], 1, "1 known holes"),
        ([UNKNOWN], 0, "skipped: pip-audit's data cannot be had here"),
        (None, 0, "skipped: pip-audit's data cannot be had here (no route)"),
    ],
    ids=["no hole", "no hole and no answer", "a hole", "a hole and no answer", "no answer", "no report"],
)
def test_the_audit_fails_for_a_hole_and_says_what_it_could_not_ask(
    packages: list[object] | None, status: int, words: str
) -> None:
    report = None if packages is None else {"dependencies": packages}
    got, said = judge(report, "ERROR\nno route")
    assert got == status
    assert words in said
