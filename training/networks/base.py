"""What every network is."""

from collections.abc import Mapping

from torch import Tensor, nn

from ucn.training.config import Option


class DenseNetwork(nn.Module):
    """A fully convolutional network from an image to a map of unit features.

    A normalisation that is registered right behind a convolution normalises what that one gives:
    `folded_norms.fold_norms` relies on it.

    Attributes:
        stride, offset: cell j of the feature map lies at pixel ``j * stride + offset``, and its
            receptive field is centred there.
        receptive_field: width of the square of pixels that a feature depends on, centred on its
            cell; batch statistics, which depend on all, apart.
        dimension: D, the length of a descriptor.
        channels: 1 for grey images, 3 for RGB.
        pretraining: weights that training usually starts from; a training without them warns.
    """

    stride: int
    offset: float
    receptive_field: int
    dimension: int
    channels: int
    pretraining: str = ""

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Describe images of any size.

        Args:
            images_BCHW: float, 0 (black) to 1 (white).

        Returns:
            float32 [B, D, h, w], L2-normalised over D; the cells cover the image up to less than
            one stride at its borders.
        """
        raise NotImplementedError

    @classmethod
    def published_options(cls, state: Mapping[str, Tensor]) -> dict[str, Option]:
        """Options with which published weights describe images without further training.

        Args:
            state: as in :meth:`load_published`.

        Raises:
            ValueError: they are of another network; one line says how.
        """
        raise ValueError("no published weights are known for this network")

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Start from weights as others publish them for this network; nothing fits by default.

        Args:
            state: tensors by the names of the publisher.

        Raises:
            ValueError: they are of another network; one line says how.
        """
        raise ValueError("no published weights are known for this network")


def load_exactly(
    module: nn.Module, state: Mapping[str, Tensor], title: str, own: tuple[str, ...] = ()
) -> None:
    """Load published tensors into a module.

    Args:
        state: tensors by the module's names. Counts of steps, which old files lack, may be missing.
        title: of the network, for messages.
        own: beginnings of names that the publisher's network does not have; they keep their values.

    Raises:
        ValueError: a tensor is missing, has another shape, or is not of the module.
    """
    expected = {
        name: value for name, value in module.state_dict().items() if not name.startswith(own)
    }
    for name in sorted(expected.keys() | state.keys()):
        if name not in expected:
            raise ValueError(f"{name} is not of {title}")
        if name not in state and not name.endswith(".num_batches_tracked"):
            raise ValueError(f"{name} is missing; give all of {title}")
        if name in state and state[name].shape != expected[name].shape:
            raise ValueError(
                f"{name} has shape {tuple(state[name].shape)} instead of "
                f"{tuple(expected[name].shape)}; give {title}"
            )
    module.load_state_dict(state, strict=False)
