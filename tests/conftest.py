"""What every test may ask for, and the rules that hold for all of them."""

import os
import pathlib

import hypothesis
import pytest

REPO = pathlib.Path(__file__).resolve().parent.parent
NO_SKIPS = os.environ.get("RIG3R_NO_SKIPS") == "1"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Most of the time of these small tests is compilation: machine code need not be good.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers are as many as cores: one thread each for XLA (NPROC), BLAS and OpenCV, before any of them is imported.
    for name in ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ.setdefault(name, "1")

# Examples are the same in every run, and a slow machine is no failure.
hypothesis.settings.register_profile("rig3r", derandomize=True, deadline=None, database=None, max_examples=30)
hypothesis.settings.load_profile("rig3r")


@pytest.fixture(scope="session")
def repo() -> pathlib.Path:
    """The root of the working tree."""
    return REPO


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of golden vectors and real recordings that lies beside the repository, or RIG3R_SHARED."""
    folder = pathlib.Path(os.environ.get("RIG3R_SHARED", REPO.parent / "shared")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no golden vectors and recordings at {folder} (RIG3R_SHARED names another folder)")
    return folder


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turns a skip into a failure that carries the skip's reason; an expected failure stays what it is."""
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: RIG3R_NO_SKIPS=1 allows no skip. {reason}"


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_makereport():
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_make_collect_report():
    report = yield
    _forbid_skip(report)
    return report
