"""The notebook of the course's fine-tuning day: it runs from top to bottom, and stays small."""

from pathlib import Path

import pytest

from example_outputs import FOLDER, is_of_the_moment, run_notebook

NOTEBOOK = FOLDER / "10_course_day_5.ipynb"


def test_a_saved_notebook_is_small_and_holds_what_a_run_has_shown() -> None:
    nbformat = pytest.importorskip("nbformat")
    assert NOTEBOOK.stat().st_size < 300_000
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    outputs = [output for cell in code for output in cell.outputs]
    assert not any(is_of_the_moment(output) for output in outputs)
    assert "MAE $" in str(outputs)


# Jupyter's libraries warn of themselves, and each cell that fails raises.
@pytest.mark.filterwarnings("default")
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("nbclient", "ipykernel"):
        pytest.importorskip(library)
    monkeypatch.delenv("PRICER_DATA", raising=False)
    notebook = run_notebook(NOTEBOOK, tmp_path)
    printed = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ())]
    assert "The job has successfully completed" in "".join(printed)
    assert {"report.html", "pricer", "priced.csv"} <= {path.name for path in tmp_path.iterdir()}
