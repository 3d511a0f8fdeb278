"""Dense prediction head (Ranftl et al. 2021, in DUSt3R's form) in plain PyTorch, channels first."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def upsample(x: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c h2 w2"]:
    """Bilinear, the corner pixels stay where they are."""
    return nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=True)


class ResidualUnit(nn.Module):
    """relu, conv, relu, conv, plus the input."""

    def __init__(self, features: int):
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.conv2(torch.relu(self.conv1(torch.relu(x))))


class Fusion(nn.Module):
    """The coarser map, plus the refined finer one, refined, at twice the resolution."""

    def __init__(self, features: int, with_skip: bool):
        super().__init__()
        if with_skip:
            self.unit1 = ResidualUnit(features)
        self.unit2 = ResidualUnit(features)
        self.out_conv = nn.Conv2d(features, features, 1)

    def forward(
        self, x: Float[Tensor, "b c h w"], skip: Float[Tensor, "b c h w"] | None = None
    ) -> Float[Tensor, "b c h2 w2"]:
        x = self.unit2(x if skip is None else x + self.unit1(skip))
        return self.out_conv(upsample(x, (2 * x.shape[2], 2 * x.shape[3])))


class DPT(nn.Module):
    """Tokens after 0, L/2, 3L/4 and L decoder blocks to `channels` numbers per pixel."""

    def __init__(self, width: int, patch: int, features: int, last: int, channels: int):
        super().__init__()
        self.patch = patch
        level_widths = (96, 192, 384, 768)
        for level, out in enumerate(level_widths, start=1):
            self.add_module(f"level{level}_project", nn.Conv2d(width, out, 1))
            self.add_module(f"layer{level}_rn", nn.Conv2d(out, features, 3, padding=1, bias=False))
            self.add_module(f"fusion{level}", Fusion(features, with_skip=level < 4))
        self.level1_resize = nn.ConvTranspose2d(96, 96, 4, stride=4)
        self.level2_resize = nn.ConvTranspose2d(192, 192, 2, stride=2)
        self.level3_resize = nn.Identity()
        self.level4_resize = nn.Conv2d(768, 768, 3, stride=2, padding=1)
        self.head1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.head2 = nn.Conv2d(features // 2, last, 3, padding=1)
        self.head3 = nn.Conv2d(last, channels, 1)

    def forward(self, levels: list[Float[Tensor, "b n d"]], rows: int, columns: int) -> Float[Tensor, "b h w c"]:
        maps = []
        for level, tokens in enumerate(levels, start=1):
            x = tokens.transpose(1, 2).unflatten(2, (rows, columns))
            for part in (f"level{level}_project", f"level{level}_resize", f"layer{level}_rn"):
                x = self.get_submodule(part)(x)
            maps.append(x)
        x = self.fusion4(maps[3])
        for fusion, skip in ((self.fusion3, maps[2]), (self.fusion2, maps[1]), (self.fusion1, maps[0])):
            x = fusion(x[:, :, : skip.shape[2], : skip.shape[3]], skip)  # odd grids come back one too large
        x = upsample(self.head1(x), (rows * self.patch, columns * self.patch))
        return self.head3(torch.relu(self.head2(x))).permute(0, 2, 3, 1)
