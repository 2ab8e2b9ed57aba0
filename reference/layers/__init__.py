"""What layers are made of: each function composes ops, and reads weights by name."""

from lingspec.reference.layers.decoder_layer import decoder_layer
from lingspec.reference.layers.lightning_layer import lightning_layer
from lingspec.reference.layers.mla_layer import mla_layer
from lingspec.reference.layers.moe_block import moe_block
from lingspec.reference.layers.mtp_layer import mtp_layer

__all__ = ["decoder_layer", "lightning_layer", "mla_layer", "moe_block", "mtp_layer"]
