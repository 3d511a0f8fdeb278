"""What every test may ask for, and the rules that hold for all of them."""

import hashlib
import importlib.metadata
import logging
import os
import pathlib
import platform
import sys
from collections.abc import Callable

import hypothesis
import pytest

REPO = pathlib.Path(__file__).resolve().parent.parent
NO_SKIPS = os.environ.get("RIG3R_NO_SKIPS") == "1"

# Container images often turn bytecode off, and every process that a test starts compiles jax and its kin again: 5 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Most of the time of these small tests is compilation: machine code need not be good. The older emitters of fused
# operations and one piece of code per program take half of XLA's time for the training step of a small model.
COMPILE_QUICKLY = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
if importlib.metadata.version("jaxlib").startswith("0.10."):  # newer ones do not know both, and end at an unknown flag
    COMPILE_QUICKLY += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
os.environ.setdefault("XLA_FLAGS", " ".join(COMPILE_QUICKLY))


def _instructions() -> str:
    """A name for the instructions of this machine's processor: what is compiled for one may not run on another."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else [platform.processor()]
    features = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}) or lines
    return hashlib.sha256("\n".join(features).encode()).hexdigest()[:16]


# Every worker, and every process that a test starts, takes a program that one of them has compiled from this folder;
# jax names it by the program, the flags, the devices and its own version.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPO / ".pytest_cache" / "compiled" / _instructions()))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# Files that take longest, the longest first: none of them shall begin when the other workers come to their end.
LONGEST = (
    "launch/training_job_test.py",
    "launch/batch_scripts_test.py",
    "uncertainty/uncertainty_run_test.py",
    "training/loop_test.py",
    "training/processes_test.py",
    "models/vggt_test.py",
    "parity/twin_test.py",
    "models/rig3r_test.py",
    "parity/dump_vggt_test.py",
    "training/scale_test.py",
    "benchmarks/bench_scaling_test.py",
    "benchmarks/bench_peer_test.py",
    "benchmarks/bench_train_test.py",
    "weights/vggt_full_test.py",
    "parity/dump_uncertainty_test.py",
    "weights/vggt_weights_test.py",
    "uncertainty/uncertainty_task_test.py",
    "inspection/check_data_test.py",
    "data/sources/sevenscenes_test.py",
    "data/build_scale_test.py",
    "data/sources/tum_test.py",
    "data/sources/contract_test.py",
    "geometry/residual_test.py",
    "uncertainty/uncertainty_trajectories_test.py",
    "parity/dump_models_test.py",
    "geometry/se3_test.py",
)

# Marks of tests that want more than an installation: run where -m names them (make test-slurm, test-cuda-compiler;
# pytest -m rerun).
ASKED_FOR = ("slurm", "cuda_compiler", "rerun", "py123d")

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


@pytest.fixture
def own_warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The package's warnings since the test began or `caplog.clear()`. What other packages log, some of it once per
    process, and messages of levels that an earlier test asked for depend on what ran before."""

    def messages() -> list[str]:
        ours = (record for record in caplog.records if record.name.startswith("rig3r_jax."))
        return [record.getMessage() for record in ours if record.levelno >= logging.WARNING]

    return messages


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files come first (xdist takes the order as it is under --no-loadscope-reorder); sweeps whose files
    are as they were when they passed are left out."""
    ranks = {REPO / "tests" / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(LONGEST)))
    _leave_out(config, items, [mark for mark in ASKED_FOR if mark not in config.option.markexpr])
    sweeps = [(item, mark) for item in items if (mark := item.get_closest_marker("sweep"))]
    if sweeps:
        _choose_sweeps(config, items, sweeps)


def _leave_out(config: pytest.Config, items: list[pytest.Item], marks: list[str]) -> None:
    left_out = [item for item in items if any(item.get_closest_marker(mark) for mark in marks)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def _choose_sweeps(config: pytest.Config, items: list[pytest.Item], sweeps: list[tuple[pytest.Item, pytest.Mark]]):
    from tests.sweeps import RUN_ALL, fingerprint, noted

    passed = noted(REPO)
    for item, mark in sweeps:
        value = fingerprint(REPO, [*mark.args, item.path.relative_to(REPO).as_posix()])
        item.user_properties.append(("sweep", value))
        if not RUN_ALL and passed.get(item.nodeid) == value:
            items.remove(item)
            config.hook.pytest_deselected(items=[item])


_passed_sweeps: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed and "sweep" in (properties := dict(report.user_properties)):
        _passed_sweeps[report.nodeid] = properties["sweep"]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Notes the sweeps that passed, where all of them were asked for."""
    if _passed_sweeps and "PYTEST_XDIST_WORKER" not in os.environ:
        from tests.sweeps import RUN_ALL, note

        if RUN_ALL:
            note(REPO, _passed_sweeps)


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
