"""The PyTorch twin as a contestant: its training step and its inference under torch.compile."""

import dataclasses
import functools
import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
import torch
from torch import Tensor, nn

from rig3r_jax.benchmarks.torch_fast import Checkpointed, fast_twin, masked_loss
from rig3r_jax.benchmarks.torch_flash3 import pin_flash
from rig3r_jax.benchmarks.torch_recover import recover_camera
from rig3r_jax.geometry.camera import cell_pixels
from rig3r_jax.parity.torch_layers import Block
from rig3r_jax.parity.torch_losses import ground_truth
from rig3r_jax.parity.torch_optimizer import adamw
from rig3r_jax.parity.torch_rig3r import Rig3R
from rig3r_jax.parity.torch_run import Recipe
from rig3r_jax.schema import Batch, Views

# As torch says it eagerly, compiled, and of FlashAttention-3.
_NO_KERNEL = ("No available kernel", "turning off both the math kernel and the fused kernels", "FA3 SDPA")


@dataclasses.dataclass(frozen=True)
class Twin:
    """The model that both sides time: what `torch_fast.fast_twin` takes, and the kernel of attention."""

    fields: Mapping
    weights: Mapping[str, np.ndarray]
    dtype: str
    images_per_chunk: int
    remat: str  # a policy of models.remat
    kernel: str  # a key of torch_fast.SDPA


class Contestant:
    """A compiled function of the twin. Where inductor cannot compile, it runs eagerly and its name says so."""

    def __init__(self, twin: Twin):
        self.twin = twin
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.name = f"torch {torch.__version__.split('+')[0]} compiled, SDPA {twin.kernel}"
        # A graph of 48 blocks takes inductor minutes for a GPU; block by block, it compiles each kind of block once.
        self.by_region = self.device == "cuda"
        self.remark, self.first_seconds = "", 0.0
        self._before = 0

    def open(self) -> None:
        """Builds the model and makes the first call, which compiles.

        Raises:
            RuntimeError: "No available kernel" and why, where attention's does not run here.
        """
        pin_flash(self.twin.kernel)
        torch.set_num_threads(len(os.sched_getaffinity(0)))  # as XLA's thread pool
        torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as JAX's default
        torch.backends.cudnn.benchmark = True  # shapes do not change: the fastest convolutions, as XLA's autotuning
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        try:
            self._start(functools.partial(torch.compile, dynamic=False))  # shapes do not change
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if any(words in str(error) for words in _NO_KERNEL):
                raise RuntimeError(
                    f"No available kernel: SDPA {self.twin.kernel} does not take these arrays"
                ) from error
            lines = str(error).strip().splitlines() or [type(error).__name__]
            self.remark = f"torch.compile failed ({lines[0][:160]}); this row runs eagerly"
            self.name = self.name.replace("compiled", "EAGER")
            self.close()
            self._start(lambda function: function)

    def _start(self, compiler: Callable) -> None:
        self.build(compiler)
        start = time.perf_counter()
        self.call()
        self.first_seconds = time.perf_counter() - start

    def build(self, compiler: Callable) -> None:
        raise AssertionError("a contestant says what it builds")

    def call(self) -> object:
        """One call, until the device has done it."""
        raise AssertionError("a contestant says what it calls")

    def close(self) -> None:
        """Gives the memory back."""
        for name in [name for name in vars(self) if name.startswith("held_")]:
            delattr(self, name)
        torch.compiler.reset()
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def peak_bytes(self) -> int | None:
        """The most memory that tensors took since `open`; None where torch does not tell."""
        return torch.cuda.max_memory_allocated() - self._before if self.device == "cuda" else None

    def _model(self):
        twin = self.twin
        return fast_twin(
            twin.fields,
            twin.weights,
            dtype=twin.dtype,
            device=self.device,
            images_per_chunk=twin.images_per_chunk,
            remat=twin.remat,
            kernel=twin.kernel,
        )

    def _compiled(self, model: Rig3R, finish: Callable, compiler: Callable) -> Callable:
        """finish(model(views), more) as one graph, or by region: blocks, heads and `finish` each by themselves."""
        if self.by_region:
            for region in regions(model):
                region.forward = compiler(region.forward)
            finish = compiler(finish)

        def whole(views, more):
            return finish(model(views), more)

        compiled = whole if self.by_region else compiler(whole)

        def run(views, more):
            pin_flash(self.twin.kernel)  # another contestant may have called since
            return compiled(views, more)

        return run

    def _on_device(self, tree):
        return jax.tree.map(lambda leaf: torch.from_numpy(np.asarray(leaf)).to(self.device), tree)

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def regions(model: Rig3R) -> Iterator[nn.Module]:
    """The parts of the twin that are compiled one by one where it is no graph as a whole: alike ones share a graph."""
    for part in model.modules():
        if isinstance(part, nn.ModuleList):
            yield from (block for block in part if isinstance(block, Block | Checkpointed))
    dpt = getattr(model.point_head, "dpt", None)
    yield dpt.dpt if dpt is not None else model.point_head  # of a DPT head one chunk of images
    yield from (model.rig_embedding, model.pose_head, model.rig_head)


class TorchTraining(Contestant):
    """Forward, loss, backward, clipping and fused AdamW. It takes no notice of numbers that are not finite, and logs
    no errors, which the JAX step does."""

    def __init__(self, twin: Twin, batch: Batch, recipe: Recipe):
        super().__init__(twin)
        self.batch, self.recipe, self.first_loss = batch, recipe, float("nan")

    def build(self, compiler: Callable) -> None:
        model = self.held_model = self._model()
        self.held_batch = self._on_device(self.batch)
        self.held_optimizer = adamw(model, **self.recipe.optimizer)
        for group in self.held_optimizer.param_groups:
            group["lr"] = self.recipe.schedule["peak"]

        def loss_of(predictions: dict[str, Tensor], batch: Batch) -> Tensor:
            grids = tuple(predictions["points"].shape[2:4]), tuple(predictions["pose_directions"].shape[2:4])
            truth = ground_truth(batch.targets, batch.views.image_mask, *grids)
            return masked_loss(predictions, truth, **self.recipe.loss)

        self.held_loss = self._compiled(model, loss_of, compiler)
        self.first_loss = float("nan")

    def call(self) -> None:
        loss = self.held_loss(self.held_batch.views, self.held_batch)
        loss.backward()
        parameters = list(self.held_model.parameters())
        if self.recipe.clip_norm:
            torch.nn.utils.clip_grad_norm_(parameters, self.recipe.clip_norm, foreach=True)
        self.held_optimizer.step()
        self.held_optimizer.zero_grad(set_to_none=True)
        self._wait()
        if np.isnan(self.first_loss):
            self.first_loss = loss.item()


class TorchInference(Contestant):
    """Bytes on the host to points, confidences and cameras on the host."""

    def __init__(self, twin: Twin, views: Views):
        super().__init__(twin)
        self.views = views

    def build(self, compiler: Callable) -> None:
        model = self.held_model = self._model().eval()
        height, width = self.views.images.shape[2:4]
        patch, rays = self.twin.fields["patch"], self.twin.fields["rays_per_patch"]
        rows, cols = (cell_pixels(side, side // patch * rays).tolist() for side in (height, width))

        def with_cameras(out: dict[str, Tensor], views: Views):
            cameras = []
            on_image = views.image_mask[..., rows, :][..., cols, None]  # rays of padding count for nothing
            for name in ("pose", "rig"):
                directions = out[f"{name}_directions"] * on_image
                cameras.append(recover_camera(directions, out[f"{name}_center"], height, width))
            return out["points"], out["confidence"], *cameras

        self.held_infer = self._compiled(model, with_cameras, compiler)

    def call(self) -> tuple:
        """Points, confidences, and (focal lengths, a_from_camera) of pose and rig."""
        with torch.no_grad():
            views = self._on_device(self.views)
            out = self.held_infer(views, views)
        return jax.tree.map(lambda leaf: leaf.cpu().numpy(), out)
