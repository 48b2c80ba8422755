# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From packed images and masks to the input of a network."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from hkd_mm.errors import UserError
from hkd_mm.models.arguments import Number, Positive, checked
from hkd_mm.models.preprocessors.geometric import fit_masks
from hkd_mm.models.preprocessors.packed_preprocessor import PackedPreprocessor
from hkd_mm.models.preprocessors.pipeline import Parameters
from hkd_mm.registry import MODELS
from hkd_mm.structures.mask_samples import MaskSamples

_KINDS = {torch.uint8: 255, torch.uint16: 65535}  # dtype -> largest value


@MODELS.register_module()
class PackedMaskPreprocessor(PackedPreprocessor):
    """Window, augment and normalise a packed batch with its masks.

    Operations that move pixels do the same to image (bilinear) and mask (nearest,
    filled with 0); others change the image alone. In evaluation images are windowed and
    normalised only. See also ``hkd_mm.PackedPreprocessor``.

    Args:
        window: (centre, width) in stored values, CT for instance: values below centre -
            width / 2 become 0, above centre + width / 2 255, in between linear, not
            rounded. None takes the whole range of the dtype.
        mean: of each channel, 0 to 255, after the window; its length is the
            number of channels.
        augment: nothing that mixes samples, and no ``hkd_mm.RandAugment``;
            this and what follows as of ``hkd_mm.PackedPreprocessor``.
        input_size: masks are resized to the nearest pixel.

    Raises:
        UserError: an argument out of its range, or an augmentation that
            masks cannot follow.
    """

    def __init__(
        self,
        window: Sequence[float] | None = None,
        mean: Sequence[float] = (127.5,),
        std: Sequence[float] = (127.5,),
        augment: Sequence[dict] = (),
        num_views: int | None = None,
        seed: int = 42,
        input_size: int | None = None,
        to_rgb: bool = True,
    ) -> None:
        checked(
            tuple[Number, Positive] | None,
            'data_preprocessor.window',
            window,
            hint='; it is (centre, width), with a width above 0, or None',
        )
        # a stand-in for num_classes: mixing is refused below
        super().__init__(mean, std, to_rgb, augment, num_views, seed, input_size, 1)
        if len(mean) != len(std) or len(mean) not in (1, 3):
            raise UserError(
                f'data_preprocessor: mean={mean} and std={std} must have one '
                'number a channel, 1 or 3'
            )
        self.window = None if window is None else tuple(map(float, window))
        for name, operation in self.pipeline.operations.items():
            if operation.mixes or operation.moves:
                raise UserError(
                    f'data_preprocessor.augment: {name} has no form for '
                    'masks; use flips, hkd_mm.Rotate, hkd_mm.RandomScale, '
                    'hkd_mm.RandomResizedCrop and hkd_mm.ColorJitter'
                )

    def fingerprint(self, plain: bool = False) -> str:
        text = f'{super().fingerprint(plain)} window={self.window}'
        return hashlib.sha256(text.encode()).hexdigest()

    @torch.no_grad()
    def forward(self, data: dict, training: bool = False) -> dict:
        """Make ``inputs`` float32 (B, C, h, w) and ``data_samples``, a ``MaskSamples``.

        Of ``inputs`` uint8 or uint16 (B, H, W, C), ``masks`` uint8 (B, H, W) and
        ``index`` (B,) int64. In evaluation nothing is augmented and the view is -1.
        """
        self._check(data)
        index = data['index']
        images = self.cast_data(data['inputs'])
        masks = self.cast_data(data['masks'])
        size = self._size(images)
        view = self.view if training else -1
        with torch.autocast(images.device.type, enabled=False):
            if training and self.pipeline.operations:
                parameters = self.pipeline.to(
                    self.view_parameters(index, view, data.get('labels')), images.device
                )
                images = self._augment(images, parameters)
                masks = self.pipeline.apply_to_masks(masks, parameters, size)
            else:
                images = self.plain(self.windowed(images))
                masks = fit_masks(masks[:, None], size)[:, 0]
        samples = MaskSamples(masks, self.cast_data(index), view)
        return dict(inputs=images, data_samples=samples)

    def windowed(self, images: Tensor) -> Tensor:
        """Stored values as float32 in [0, 255], any shape."""
        largest = _KINDS[images.dtype]
        values = images.float()
        if self.window is None:
            return values if largest == 255 else values.mul_(255 / largest)
        centre, width = self.window
        values.sub_(centre - width / 2).mul_(255 / width)
        return values.clamp_(0, 255)

    def _augment(self, images: Tensor, parameters: Parameters) -> Tensor:
        return super()._augment(self.windowed(images), parameters)

    def _check(self, data: dict) -> None:
        images = data.get('inputs')
        packed = isinstance(images, Tensor) and images.dtype in _KINDS
        if not packed or 'masks' not in data or 'index' not in data:
            raise UserError(
                'hkd_mm.PackedMaskPreprocessor takes packed batches with '
                'masks; wrap the dataset of this loader in '
                "dict(type='hkd_mm.PackedMasks', dataset=...)"
            )
        if images.shape[-1] != len(self.mean):
            raise UserError(
                f'images have {images.shape[-1]} channels and data_preprocessor.mean '
                f'has {len(self.mean)} numbers; give one a channel'
            )
