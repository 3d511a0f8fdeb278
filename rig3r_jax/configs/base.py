"""Every key of a run with its default. Other configs start from these and override.

The keys of `sampling` stand in data/options.py, the thresholds of `evaluation` in evaluation/options.py, the options of
a data set in its source's file below data/sources.
"""

import dataclasses

from ml_collections import ConfigDict, FieldReference

from rig3r_jax.data.options import PipelineOptions
from rig3r_jax.data.source import filled_options, option_fields, takes_several_types
from rig3r_jax.data.sources import source_class
from rig3r_jax.evaluation.options import ScoreOptions


def dataset(name: str, root: str | FieldReference = "", weight: float = 1.0, **options) -> ConfigDict:
    """One entry of `data.mixture`: a source, the folder of its raw data, its share of the samples, all its options."""
    filled, fields = filled_options(source_class(name), options), option_fields(source_class(name))
    for key in filled:
        if takes_several_types(fields[key]):  # the command line may change one type to another
            filled[key] = FieldReference(filled[key], field_type=object)
    return ConfigDict({"name": name, "root": root, "weight": weight, "options": filled})


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = "base"  # names the default workdir, runs/<name>
    config.task = "rig3r"  # or uncertainty: a head on a frozen backbone (configs/uncertainty.py)
    config.title = "Rig3R"  # heading of the report
    config.notes = ()  # sentences that the report shows above its tables
    config.seed = 0  # of parameters and data; sample n of a run is a function of (seed, n)
    config.deterministic = False  # on GPUs: every start computes the same bits (training/xla.py); on CPUs it is so

    data = config.data = ConfigDict()
    data.mixture = [dataset("procedural")]
    data.records = ""  # folder of the built records; "" is <workdir>/records
    data.max_bad_fraction = 0.1  # of a source's scenes, and of their frames, that a build may leave out as bad
    data.skip_missing = False  # leave out the data sets of the mixture that have no root, nor records built before
    data.build_workers = 0  # processes that build records; 0: as many as cores
    data.split = "train"
    data.max_scenes = 0  # of each source's training split that are used, the first; 0: all
    data.threads = 8  # of the loader
    data.prefetch = 16  # batches
    data.cache_gigabytes = 0.0  # memory per source for scenes kept after their first reading; for small data sets

    config.sampling = ConfigDict(dataclasses.asdict(PipelineOptions()))  # explained in data/options.py

    model = config.model = ConfigDict()
    model.variant = "large"  # a key of models.rig3r.VARIANTS; the keys below override it where they name the same field
    # Whose parameters a fresh run starts from: the workdir of a run, or a file of `rig3r convert` or export; "": none.
    model.init_from = ""
    model.heads = 0  # of every block; 0: the variant's. Heads of width 128 are quicker on a GPU than those of 64
    model.decoder_heads = 0  # of the decoder's blocks; 0: as the encoder's
    model.patch = 16
    model.position = "sincos"  # "rope" for weights from DUSt3R
    model.point_head = "dpt"  # "linear": one layer per token
    model.points_per_patch = 16  # linear head: side of the grid of points of one patch
    model.rays_per_patch = 16  # side of the grid of rays of one patch
    model.dpt_features = 256
    model.dpt_last = 128
    model.dpt_chunk = 4  # views of a sample that pass the DPT head at a time
    model.time_unit = 0.1  # seconds that count as one position of the time code
    model.rig_embedding = True  # False: camera IDs, times and rigs are not read, as an ablation
    model.qk_norm = False
    # auto: the fastest that is installed and fits device and dtype: flash3, cudnn, chunked; by name also tokamax, dense
    model.attention = "auto"
    model.linear = "plain"  # how the blocks' linear layers multiply: in dtype; "fp8": in 8 bits (H100; an experiment)
    model.remat = "attention"  # what the backward pass keeps, most to least: none (all), dots, qkv, attention, full
    model.unroll = False  # unroll the scan over layers: quicker steps, a longer compilation
    model.dtype = "bfloat16"  # of activations; parameters, losses and geometry are float32

    loss = config.loss = ConfigDict()
    loss.alpha = 0.2
    loss.beta = 1.0
    loss.lambda_pose = 1.0
    loss.lambda_rig = 1.0
    loss.reduction = "mean"  # "sum" is the paper's formula to the letter

    optimizer = config.optimizer = ConfigDict()
    optimizer.learning_rate = 1e-4
    optimizer.end_learning_rate = 1e-6
    optimizer.warmup_steps = 5_000
    optimizer.b1 = 0.9
    optimizer.b2 = 0.95
    optimizer.eps = 1e-8
    optimizer.weight_decay = 0.05  # not on biases, norms and null vectors
    optimizer.clip_norm = 1.0  # global gradient norm; 0: no clipping
    optimizer.ema_decay = 0.0  # 0: no average of the parameters is kept
    # Of layer l of L the learning rate is layer_decay^(L - l) times as large (training/rig3r/layer_rates.py); 1: equal
    optimizer.layer_decay = 1.0
    optimizer.frozen = ()  # names of parameters that stay as they begin, * for anything: ("encoder/*",)

    train = config.train = ConfigDict()
    train.steps = 250_000
    train.batch_size = 128  # samples, over all devices
    train.accumulate = 1  # micro-batches per step; from 2 on their gradients tell the noise scale
    train.continue_from = (
        ""  # file of `rig3r export` with whose parameters and step a workdir without checkpoint goes on
    )
    train.log_every = 50  # steps
    train.checkpoint_every = 1_000  # steps
    train.keep_checkpoints = 3  # the newest
    train.keep_every = 0  # and those of steps that are a multiple of this; 0: none
    train.copy_checkpoints_to = ""  # a second place for them: a mounted folder, or gs:// and the like; "": none
    train.save_retry_minutes = 30.0  # without a checkpoint, though saves are tried, after which the run stops (code 74)
    train.evaluate_every = 0  # steps; 0 evaluates at the end only
    train.max_bad_steps = 10  # steps in a row that are not finite, or spikes, after which the run stops
    # Skip a step whose loss or gradient is so many robust standard deviations above the median of the last spike_window
    # steps; 0: none is skipped. 20 leaves usual training alone. To be set from the start of a run.
    train.skip_spikes = 0.0
    train.spike_window = 128
    # Steps after which the copies of the state on all devices are compared, and then before every save too; 0: never
    train.check_copies_every = 0
    # Without a step after which a process prints its stacks and ends, five times that while it compiles; 0: never.
    train.watchdog_seconds = 300.0
    train.event_writer = "auto"  # of TensorBoard's files: clu (imports TensorFlow), tensorboard; auto: clu if it can
    train.profile_at = 0  # step at which a profile of profile_steps steps is taken; 0 for none
    train.profile_steps = 5
    train.peak_tflops = 0.0  # of one device, for MFU; 0 looks the device up or measures a matrix product

    mesh = config.mesh = ConfigDict()
    mesh.data = 1  # devices that hold whole copies of the state
    mesh.fsdp = 1  # devices that one copy of parameters and optimizer state is cut over; the batch is cut over both
    mesh.frames = 1  # devices that the images of one sample are cut over: for more images than one device holds

    evaluation = config.evaluation = ConfigDict()
    evaluation.enabled = True
    evaluation.sets = ("same_rigs",)  # splits of the sources
    evaluation.samples = 128  # per set
    evaluation.batch_size = 32
    evaluation.known_intrinsics = False  # recover cameras with the true intrinsics, else estimate the focal length
    evaluation.baselines = True  # add the untrained, blank-image and no-network rows
    evaluation.seed = 1
    evaluation.update(dataclasses.asdict(ScoreOptions()))  # explained in evaluation/options.py
    return config
