# shellcheck shell=bash
# The environment of every batch script, and the interpreter: sourced by job.sh in the top folder of the repository.
# What is set already stays as it is. Nothing here knows a site; where a site needs more, it is set before sbatch
# (sbatch hands the environment on): NCCL_SOCKET_IFNAME, NCCL_IB_HCA, APPTAINER_BIND=/data,/scratch ...

# The interpreter: RIG3R_CONTAINER=IMAGE.sif, or RIG3R_VENV=FOLDER, or .venv; with both, a venv inside the container.
if [ -n "${RIG3R_CONTAINER:-}" ]; then
    # --nv brings the host's NVIDIA driver in; what the image holds must not be older than it asks for.
    rig3r_python=(apptainer exec --nv --bind "$PWD" "$RIG3R_CONTAINER" "${RIG3R_VENV:+$RIG3R_VENV/bin/}python3")
else
    rig3r_python=("${RIG3R_VENV:-.venv}/bin/python")
    if [ ! -x "${rig3r_python[0]}" ]; then
        echo "launch: no ${rig3r_python[0]}; RIG3R_VENV=FOLDER or RIG3R_CONTAINER=IMAGE.sif says where Python is" >&2
        exit 2
    fi
fi

# A node whose driver is broken must fail: left to itself, JAX would go on quietly on the node's CPU, and the number of
# devices would still be right. `cpu` beside `cuda` is for float64 on the host.
export JAX_PLATFORMS="${JAX_PLATFORMS:-cuda,cpu}"

# XLA takes this share of a GPU's memory at start. The default, 0.75, leaves 20 of 80 GB idle; what lies outside it is
# for CUDA itself, cuDNN and NCCL's buffers.
export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}"

# NCCL says what went wrong, no more: INFO is pages from every rank.
export NCCL_DEBUG="${NCCL_DEBUG:-WARN}"

# GPUs are numbered as nvidia-smi does, so that a rank's complaint names the card to replace.
export CUDA_DEVICE_ORDER="${CUDA_DEVICE_ORDER:-PCI_BUS_ID}"

# C++ notes of XLA and TensorFlow, from every rank: errors only.
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"

# The loader's threads (config.data.threads) are the parallelism of a rank. BLAS and OpenCV would start a thread per
# core of the node under each of them.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-1}"
export OPENCV_FOR_THREADS_NUM="${OPENCV_FOR_THREADS_NUM:-1}"

# Lines reach the log when they are written, not when a buffer is full or, after a kill, never.
export PYTHONUNBUFFERED=1

# A crash in native code shows where Python was.
export PYTHONFAULTHANDLER=1

# gRPC would ask a web proxy for the way to the coordinator: jax.distributed.initialize() hangs then.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY

# srun no longer takes this over from sbatch (SLURM 22.05 on): every rank would be bound to one core.
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
    export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
fi

# NCCL opens a socket per peer and channel, a checkpoint a file per array; the usual limit is 1,024.
ulimit -n "$(ulimit -Hn)"

# An aborted rank leaves its stacks in the log; its memory, written as a core file, would fill the disk.
ulimit -c 0
