"""Models that reconstruct: a file for each family, behind the face of `protocol.Model`."""
