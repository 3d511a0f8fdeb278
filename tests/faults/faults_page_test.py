"""docs/faults.md says what the tests of this folder say, and a mark that says too little is refused."""

import pytest

from tests.faults.faults import fault, faults_of
from tests.faults.page import PAGE, page

TEXTS = {"what": "A disk fills.", "seen": "One line.", "kept": "All."}


def test_the_page_is_fresh():
    assert PAGE.read_text() == page(faults_of()), "python -m tests.faults.page"


def test_marks_are_read_from_the_source(tmp_path):
    folder = tmp_path / "faults"
    folder.mkdir()
    (folder / "some_test.py").write_text(
        "@pytest.mark.fault_slow\n@fault(5, what='Second.', seen='x.', kept='y.')\ndef test_b(): pass\n"
        "@fault(4, what='Fir'\n'st.', seen='x.', kept='y.')\ndef test_a_disk(): pass\ndef test_other(): pass\n"
    )
    first, second = faults_of(folder)
    assert (first.number, first.what, first.test, first.slow) == (4, "First.", "test_a_disk", False)
    assert (second.number, second.file, second.slow) == (5, "faults/some_test.py", True)
    text = page([first, second])
    assert "[a disk](../tests/faults/some_test.py)" in text and "[b](../tests/faults/some_test.py) †" in text
    assert text.index("First.") < text.index("Second.") and "SIGTERM (12)" in text
    (folder / "some_test.py").write_text("@fault(5, what=WHAT, seen='x.', kept='y.')\ndef test_b(): pass\n")
    with pytest.raises(ValueError, match="some_test.py:1: write the texts of a fault as literals"):
        faults_of(folder)


def test_a_test_says_which_fault_it_does():
    def marked():
        """Fault 4: the disk fills."""

    assert fault(4, **TEXTS)(marked).pytestmark[0].name == "fault"
    with pytest.raises(AssertionError, match="shall begin with 'Fault 5: '"):
        fault(5, **TEXTS)(marked)
    with pytest.raises(AssertionError, match="no fault 99"):
        fault(99, **TEXTS)
