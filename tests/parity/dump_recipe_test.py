"""The recipe of BUILD.md, executed on a small PyTorch encoder written here, then compared."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from rig3r_jax.parity.dump.driver import dump_command, run_dump

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

WIDTH, HEADS, PATCH = 16, 2, 4


def turned(x, positions):
    """Rotary embedding of base 100: the first half of a head by the row, the second by the column."""
    halves = []
    for axis, half in enumerate(x.chunk(2, dim=-1)):
        size = half.shape[-1]
        angle = positions[:, axis, None] * 100.0 ** (-torch.arange(0, size, 2) / size)
        angle = torch.cat([angle, angle], dim=-1)
        a, b = half.chunk(2, dim=-1)
        halves.append(half * angle.cos() + torch.cat([-b, a], dim=-1) * angle.sin())
    return torch.cat(halves, dim=-1)


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.num_heads = HEADS
        self.qkv, self.proj = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, x, positions):
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        weights = turned(q, positions) @ turned(k, positions).transpose(-1, -2) / q.shape[-1] ** 0.5
        return self.proj((weights.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = (torch.nn.LayerNorm(WIDTH, eps=1e-6) for _ in range(2))
        self.attn, self.mlp = Attention(), torch.nn.Module()
        self.mlp.fc1, self.mlp.fc2 = torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x, positions):
        x = x + self.attn(self.norm1(x), positions)
        return x + self.mlp.fc2(torch.nn.functional.gelu(self.mlp.fc1(self.norm2(x))))


class Embedding(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = torch.nn.Conv2d(3, WIDTH, PATCH, PATCH)

    def forward(self, images):
        x = self.proj(images)
        rows, columns = torch.meshgrid(*(torch.arange(size) for size in x.shape[-2:]), indexing="ij")
        return x.flatten(2).transpose(1, 2), torch.stack([rows, columns], dim=-1).reshape(-1, 2)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embed, self.enc_norm = Embedding(), torch.nn.LayerNorm(WIDTH, eps=1e-6)
        self.enc_blocks = torch.nn.ModuleList([Block(), Block()])
        self.downstream = torch.nn.Linear(3, 3)  # not of the encoder

    def forward(self, images):
        x, positions = self.patch_embed(images)
        for block in self.enc_blocks:
            x = block(x, positions)
        return self.enc_norm(x)


@pytest.fixture
def written(repo, tmp_path, monkeypatch):
    """The folder that the recipe writes."""
    text = (repo / "BUILD.md").read_text().split("## Compare your own PyTorch run", 1)[1]
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    torch.manual_seed(0)
    model = Model().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    monkeypatch.chdir(tmp_path)
    exec(code, {"model": model, "encode": model, "images": torch.rand(2, 3, 8, 12) * 2 - 1})
    return SimpleNamespace(folder=tmp_path / "my_run", model=model, lines=list(filter(None, code.splitlines())))


def test_the_recipe_of_the_manual_writes_a_folder_that_agrees(written, capsys):
    assert len(written.lines) <= 12 and max(map(len, written.lines)) <= 120
    assert dump_command(written.folder, None, None) == 0
    rows = run_dump(written.folder, "croco_tiny", None)["croco_tiny"]
    names = {row.name for row in rows}
    assert names >= {f"outputs.npz/rope100/{name}" for name in ("patch_embed", "block0", "block1", "enc_norm")}
    assert "4 compared" in capsys.readouterr().out

    weights = written.folder / "croco_tiny/weights.safetensors"
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights)
    tensors["enc_blocks.1.mlp.fc1.weight"][3, 5] += 0.1
    save_file(tensors, weights)
    assert dump_command(written.folder, None, None) == 1
    broken = [row.name for row in run_dump(written.folder, None, None)["croco_tiny"] if not row.passed]
    assert broken == ["outputs.npz/rope100/block1", "outputs.npz/rope100/enc_norm"]

    np.savez(written.folder / "croco_tiny/inputs.npz", image=np.zeros(3))
    with pytest.raises(ValueError, match=r"inputs\.npz holds no array 'img'"):
        run_dump(written.folder, None, None)
