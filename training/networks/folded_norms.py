"""Batch normalisation folded into the convolutions before it, once training is over."""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_norms(network: nn.Module) -> None:
    """Give each convolution the scale and the shift of the normalisation behind it, in place.

    The network computes the same, up to rounding, in fewer passes over its maps; it can no longer
    be trained. A normalisation belongs to a plain convolution, transposed or not, that is
    registered right before it; others stay as they are.

    Args:
        network: in evaluation mode.
    """
    for parent in list(network.modules()):
        for (name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if not isinstance(norm, nn.BatchNorm2d):
                continue
            # Not `isinstance`: the spatial transformer is a kind of convolution without a bias.
            if type(conv) is nn.Conv2d or type(conv) is nn.ConvTranspose2d:
                transposed = isinstance(conv, nn.ConvTranspose2d)
                setattr(parent, name, fuse_conv_bn_eval(conv, norm, transposed))
                setattr(parent, norm_name, nn.Identity())
