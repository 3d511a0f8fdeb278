"""Cards that XLA's GPU compiler can be told of where there is none: facts of their data sheets, in XLA's own form."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Card:
    """A GPU. Bytes, bytes per second, GHz."""

    name: str
    memory: int
    bandwidth: float
    cores: int = 132
    clock_ghz: float = 1.98
    l2_cache: int = 50 * 2**20
    capability: int = 9

    def description(self) -> str:
        """The text protocol buffer `GpuTargetConfigProto` of XLA."""
        return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  core_count: {self.cores}
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  memory_bandwidth: {self.bandwidth:.0f}
  l2_cache_size: {self.l2_cache}
  clock_rate_ghz: {self.clock_ghz}
  device_memory_size: {self.memory}
  cuda_compute_capability {{ major: {self.capability} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 12 }}
runtime_version {{ major: 13 minor: 0 patch: 0 }}
device_description_str: "{self.name}"
"""


CARDS = {
    "h100": Card("NVIDIA H100 80GB HBM3", memory=84_929_347_584, bandwidth=3.352e12),
    "h200": Card("NVIDIA H200", memory=143_771 * 2**20, bandwidth=4.8e12),
}
