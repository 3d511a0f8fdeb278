"""The parts of a training step on one device, built from the model's own modules, each with its counted work."""

import dataclasses
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rig3r_jax.benchmarks.ceilings import attention_rate, convolution_rate, copy_rate, matmul_rate, normal
from rig3r_jax.benchmarks.setting import Setting
from rig3r_jax.losses.ground_truth import ground_truth_for
from rig3r_jax.losses.multitask import LossWeights, multitask_loss
from rig3r_jax.models.attention import Attention
from rig3r_jax.models.dpt import ChunkedDPTHead, views_at_a_time
from rig3r_jax.models.heads import LinearPointHead, RayHead, points_and_confidence
from rig3r_jax.models.layers import Block, BlockOptions
from rig3r_jax.models.linear import PRODUCTS
from rig3r_jax.models.positions import grid_positions
from rig3r_jax.models.remat import rematerialised
from rig3r_jax.models.rig3r import Rig3R, output_grids
from rig3r_jax.models.rig_embedding import RigEmbedding
from rig3r_jax.models.vit import Encoder
from rig3r_jax.schema import Batch, Predictions
from rig3r_jax.training.rig3r.flops import forward_parts


@dataclasses.dataclass(frozen=True)
class Part:
    """Something that a step does `times` times. `function(differentiated, fixed)` is differentiated by its first."""

    name: str
    function: Callable
    differentiated: PyTree
    fixed: PyTree
    times: int
    operations: float = 0.0  # of one forward call; 0 for what is bound by memory
    backward_over_forward: float = 2.0  # operations; 2.5 for attention that keeps no matrix
    bytes: float = 0.0  # that forward and backward must move, one call; 0 for what is bound by operations
    ceiling: Callable[[], tuple[float, str]] = lambda: (float("nan"), "")  # of operations or bytes per second; source


def summed(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Stands in for attention where a block's other work is timed; q, k and v all count."""
    return q + k + v


@dataclasses.dataclass(frozen=True)
class Shapes:
    """What one device holds of a micro-batch."""

    rows: int  # samples
    views: int  # of each
    all_views: int  # of each, over all devices
    size: int

    @classmethod
    def of(cls, setting: Setting) -> "Shapes":
        config = setting.config
        ways = config.mesh.data * config.mesh.fsdp * config.train.accumulate
        return cls(setting.rows // ways, setting.views // config.mesh.frames, setting.views, setting.size)


class Parts:
    """All parts of the step of a model at some shapes, with the run's own parameters."""

    def __init__(self, model: Rig3R, setting: Setting, params: Mapping, batch: Batch):
        self.model, self.config, self.shapes = model, setting.config, Shapes.of(setting)
        self.calls = setting.config.train.accumulate
        self.dtype = str(jnp.dtype(model.dtype))
        self.grid = setting.size // model.patch
        self.inner = model.decoder_width or model.width
        self._params = params
        shapes = self.shapes
        self.batch = jax.tree.map(lambda x: jnp.asarray(x[: shapes.rows, : shapes.views]), batch)
        counted = forward_parts(model, shapes.all_views, shapes.size, shapes.size)
        share = shapes.rows * shapes.views / shapes.all_views
        self.operations = {name: share * value for name, value in counted.items()}

    def all(self) -> list[Part]:
        """In the order of the forward pass; recomputation and the optimizer are not among them."""
        return [
            self.patch_embedding(),
            self.block("encoder"),
            self.attention("encoder"),
            self.rig_embedding(),
            self.block("decoder"),
            self.attention("decoder"),
            self.point_head(),
            self.ray_heads(),
            self.loss(),
        ]

    def depth(self, stack: str) -> int:
        return self.model.encoder_depth if stack == "encoder" else self.model.decoder_depth

    def heads_and_attention(self, stack: str) -> tuple[int, Attention]:
        model = self.model
        if stack == "encoder":
            return model.heads, model.attend
        return model.decoder_heads or model.heads, model.attend_jointly or model.attend

    def patch_embedding(self) -> Part:
        """The encoder without blocks: cutting into patches, one product, positions, the last norm."""
        model, shapes = self.model, self.shapes
        params = dict(self._params["encoder"])
        params["blocks"] = jax.tree.map(lambda x: x[:0], params["blocks"])
        block = BlockOptions(model.heads, attend=summed, dtype=model.dtype)
        module = Encoder(model.width, 0, model.patch, block, model.position)
        images = self.batch.views.images.reshape(-1, shapes.size, shapes.size, 3) / np.float32(255)
        product = (images.shape[0] * self.grid**2, 3 * model.patch**2, model.width, self.dtype)
        return Part(
            "patch embedding",
            lambda params, images: module.apply({"params": params}, images),
            _placed(params),
            images,
            self.calls,
            self.operations["patch_embed"],
            1.0,  # images take no gradient
            ceiling=lambda: (matmul_rate((product,)), "products"),
        )

    def block(self, stack: str, *, whole: bool = False, remat: str = "none") -> Part:
        """One block of the encoder or decoder without its attention, or the `whole` block."""
        model, depth = self.model, self.depth(stack)
        tokens = self.tokens(stack)
        width = tokens.shape[-1]
        rotary = model.position == "rope"
        positions = np.tile(grid_positions(self.grid, self.grid), (1 if stack == "encoder" else self.shapes.views, 1))
        heads, attend = self.heads_and_attention(stack)
        options = BlockOptions(
            heads,
            attend=attend if whole else summed,
            product=PRODUCTS[model.linear],
            qk_norm=model.qk_norm and stack == "decoder",
            dtype=model.dtype,
        )
        module = rematerialised(Block, remat)(options, positions if rotary else None)
        blocks = self._params["encoder"]["blocks"] if stack == "encoder" else self._params["decoder"]["stage0"]
        params = jax.tree.map(lambda x: x[0], blocks["block"])
        rows = tokens.shape[0] * tokens.shape[1]
        shapes = ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width))
        products = tuple((rows, inner, columns, self.dtype) for inner, columns in shapes)
        return Part(
            f"{stack} linear layers",
            lambda params_and_tokens, _: module.apply({"params": params_and_tokens[0]}, params_and_tokens[1]),
            (_placed(params), tokens),
            (),
            self.calls * depth,
            self.operations[f"{stack}_linear"] / depth,
            ceiling=lambda: (matmul_rate(products), "products"),
        )

    def attention(self, stack: str) -> Part:
        """One layer's attention."""
        depth = self.depth(stack)
        batch, queries, width = self.tokens(stack).shape
        keys = queries if stack == "encoder" else self.shapes.all_views * self.grid**2
        heads, attend = self.heads_and_attention(stack)
        head = width // heads
        q_k_v = tuple(normal((batch, n, heads, head), self.dtype, seed) for seed, n in enumerate((queries, keys, keys)))
        return Part(
            f"{stack} attention",
            lambda q_k_v, _: attend(*q_k_v),
            q_k_v,
            (),
            self.calls * depth,
            self.operations[f"{stack}_attention"] / depth,
            2.5,
            ceiling=lambda: attention_rate(batch, queries, keys, heads, head, self.dtype),
        )

    def rig_embedding(self) -> Part:
        """Metadata to a vector per token."""
        size, grid = self.shapes.size, self.grid
        module = RigEmbedding(self.inner, time_unit=self.model.time_unit, dtype=self.model.dtype)
        tokens = self.shapes.rows * self.shapes.views * grid**2
        return Part(
            "rig embedding",
            lambda params, metadata: module.apply({"params": params}, metadata, grid, grid, size, size),
            _placed(self._params["rig_embedding"]),
            self.batch.views.metadata,
            self.calls,
            bytes=2.0 * tokens * self.inner * jnp.dtype(self.dtype).itemsize,
            ceiling=_memory,
        )

    def point_head(self) -> Part:
        """The point head and the map to points. A DPT head's backward pass repeats its forward pass: that is in its
        time, not in its operations."""
        model, grid, shapes = self.model, self.grid, self.shapes
        if model.point_head == "linear":
            module = _Child(lambda: LinearPointHead(model.points_per_patch, model.dtype, name="point_head"))
            levels = self._levels(1)
            product = (levels[0].size // self.inner, self.inner, 4 * model.points_per_patch**2, "float32")
            name, ceiling = "linear point head", lambda: (matmul_rate((product,)), "products")
        else:
            dpt = {"patch": model.patch, "features": model.dpt_features, "last": model.dpt_last, "dtype": model.dtype}
            module, levels = (
                _Child(lambda: ChunkedDPTHead(model.dpt_chunk, dpt, model.unroll_head, name="point_head")),
                self._levels(4),
            )
            images = shapes.rows * views_at_a_time(shapes.views, model.dpt_chunk)
            shape = (images, 4 * grid, model.dpt_features, self.dtype)
            name, ceiling = "DPT head", lambda: (convolution_rate(*shape), "3x3 convolution")

        def run(params_and_levels, _):
            params, levels = params_and_levels
            levels = levels[0] if model.point_head == "linear" else levels
            return points_and_confidence(module.apply({"params": params}, levels, grid, grid))

        params = {"point_head": _placed(self._params["point_head"])}
        return Part(name, run, (params, levels), (), self.calls, self.operations["point_head"], ceiling=ceiling)

    def ray_heads(self) -> Part:
        """Pose and rig rays."""
        model, grid = self.model, self.grid
        module = RayHead(model.ray_hidden, model.rays_per_patch, model.dtype)
        tokens = self._levels(1)[0]
        rows, rays = tokens.size // self.inner, 3 * model.rays_per_patch**2
        products = ((rows, self.inner, model.ray_hidden, self.dtype), (rows, model.ray_hidden, rays, "float32"))

        def run(heads_and_tokens, _):
            heads, tokens = heads_and_tokens
            return [module.apply({"params": params}, tokens, grid, grid) for params in heads]

        heads = tuple(_placed(self._params[f"{name}_head"]) for name in ("pose", "rig"))
        return Part(
            "ray heads",
            run,
            (heads, tokens),
            (),
            self.calls,
            self.operations["ray_heads"],
            ceiling=lambda: (matmul_rate(products), "products"),
        )

    def loss(self) -> Part:
        """Ground truth on the model's grids, all terms and metrics of the loss."""
        weights = LossWeights(**self.config.loss.to_dict())
        points, rays = output_grids(self.model, self.shapes.size, self.shapes.size)
        lead = self.batch.views.images.shape[:2]
        predictions = Predictions(
            normal((*lead, *points, 3), "float32"),
            1.0 + jnp.exp(normal((*lead, *points), "float32")),
            normal((*lead, *rays, 3), "float32"),
            normal((*lead, 3), "float32"),
            normal((*lead, *rays, 3), "float32", 1),
            normal((*lead, 3), "float32", 1),
        )

        def run(predictions, batch):
            truth = ground_truth_for(predictions, batch.targets, batch.views.image_mask)
            return multitask_loss(predictions, truth, weights)

        targets = self.batch.targets
        moved = 2 * _bytes(predictions) + _bytes((targets.depth, targets.valid, self.batch.views.image_mask))
        return Part(
            "ground truth + loss",
            run,
            predictions,
            self.batch.replace(views=self.batch.views.replace(images=self.batch.views.images)),
            self.calls,
            bytes=float(moved),
            ceiling=_memory,
        )

    def tokens(self, stack: str) -> jax.Array:
        """What a block of the encoder or decoder is given."""
        rows, views, patches = self.shapes.rows, self.shapes.views, self.grid**2
        if stack == "encoder":
            return normal((rows * views, patches, self.model.width), self.dtype)
        return normal((rows, views * patches, self.inner), self.dtype)

    def _levels(self, count: int) -> list[jax.Array]:
        shape = (self.shapes.rows, self.shapes.views, self.grid**2, self.inner)
        return [normal(shape, self.dtype, seed) for seed in range(count)]


class _Child(nn.Module):
    """A module inside another, as in the model: flax copies the attributes of an outermost one into other types."""

    make: Callable[[], nn.Module]

    @nn.compact
    def __call__(self, *args):
        return self.make()(*args)


def _memory() -> tuple[float, str]:
    return copy_rate(), "copy"


def _placed(params: PyTree) -> PyTree:
    return jax.tree.map(jnp.asarray, params)


def _bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
