# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From packed images to the input of a network, augmented on its device."""

import hashlib
import json
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from hkd_mm.errors import UserError
from hkd_mm.models.arguments import Count, Number, Positive, Views, checked
from hkd_mm.models.preprocessors.augmentation import Size
from hkd_mm.models.preprocessors.mixing import Mixed, Partners
from hkd_mm.models.preprocessors.pipeline import Parameters, Pipeline, fit
from hkd_mm.registry import MODELS
from hkd_mm.structures.packed_samples import PackedSamples

CODE_VERSION = 1  # raise it with any change of what the pixels become


@MODELS.register_module()
class PackedPreprocessor(BaseDataPreprocessor):
    """Augment and normalise a packed batch, whole tensors at a time.

    Every random number is a pure function of (seed, view, sample id, operation): a view
    of an image is the same in any batch, process and run. Operations that mix samples
    (``hkd_mm.Mixup``, ``hkd_mm.CutMix``) are the exception, but with ``partners``.

    In evaluation images are only normalised, bit for bit as by mmpretrain's
    ``ClsDataPreprocessor``, and come in channels_last order at no cost.

    Args:
        mean: of the channels in the order that the network takes, 0 to 255.
        to_rgb: the network takes RGB; False hands it BGR. Packed images are RGB.
        augment: augmentations of training, ``dict(type='hkd_mm.X', ...)``
            each; mixing ones last.
        num_views: views of an image before they repeat, >= 1; None makes
            every epoch a new one.
        seed: of the augmentation. It is not the run's: students with several
            seeds share one teacher cache.
        input_size: side of the square images that the network takes; None
            takes them as they were packed. Without a crop, others are resized.
        num_classes: needed to mix labels.
        teacher_size: side of the images that a teacher is shown; None shows it the
            student's. A view is then made at this size, and the student is given its
            means over areas, as images are packed: both see one view. The training
            images are to be packed at this size at least (``packed.margin``).
        partners: of mixing. Those of the ``'batch'`` cost nothing; those of the
            ``'split'`` are a function of (seed, view, sample id) as well, so that mixed
            views can be cached: a second image is read and augmented for each, in its
            own view of the same number.
    """

    def __init__(
        self,
        mean: Sequence[float] = (127.5, 127.5, 127.5),
        std: Sequence[float] = (127.5, 127.5, 127.5),
        to_rgb: bool = True,
        augment: Sequence[dict] = (),
        num_views: int | None = None,
        seed: int = 42,
        input_size: int | None = None,
        num_classes: int | None = None,
        teacher_size: int | None = None,
        partners: Literal['batch', 'split'] = 'batch',
    ) -> None:
        super().__init__(non_blocking=True)
        for name, kind, value in (
            ('mean', list[Number], mean),
            ('std', list[Positive], std),
            ('to_rgb', bool, to_rgb),
            ('num_views', Views | None, num_views),
            ('seed', int, seed),
            ('input_size', Count | None, input_size),
            ('num_classes', Count | None, num_classes),
            ('teacher_size', Count | None, teacher_size),
            ('partners', Literal['batch', 'split'], partners),
        ):
            checked(kind, f'data_preprocessor.{name}', value)
        self.to_rgb, self.num_views, self.seed = to_rgb, num_views, seed
        self.input_size, self.num_classes = input_size, num_classes
        self.teacher_size, self.partners = teacher_size, partners
        self._partners: Partners | None = None
        if teacher_size and not 1 <= (input_size or 0) <= teacher_size:
            raise UserError(
                f'data_preprocessor.teacher_size={teacher_size} needs input_size, the '
                "side of the student's images, at most as large; set it"
            )
        for name, values in (('mean', mean), ('std', std)):
            values = torch.tensor(values, dtype=torch.float32)
            self.register_buffer(name, values.view(-1, 1, 1), False)
        self.pipeline = Pipeline(augment)
        if self.pipeline.mixing and not num_classes:
            raise UserError(
                'data_preprocessor.num_classes is needed to mix '
                'the labels of Mixup and CutMix; set it'
            )
        self._epoch = 0

    @property
    def batch_dependent(self) -> bool:
        """Images depend on their batch: no cache of them can be right."""
        return bool(self.pipeline.mixing) and self.partners == 'batch'

    @property
    def view(self) -> int:
        """Number of the view that training makes now."""
        return self._epoch % self.num_views if self.num_views else self._epoch

    def set_epoch(self, epoch: int) -> None:
        self._epoch = int(epoch)

    def set_split(self, dataset) -> None:
        """Name the training images, of which those of a mixture are taken."""
        if self.partners == 'split' and self.pipeline.mixing:
            self._partners = Partners(dataset)

    def view_parameters(
        self, index: Tensor, view: int, labels: Tensor | None = None
    ) -> Parameters:
        return self.pipeline.parameters(self.seed, view, index, labels)

    def fingerprint(self, plain: bool = False) -> str:
        """SHA-256 of all that decides what becomes of a packed image in a view.

        With ``plain`` of the image without augmentation.
        """
        parts = dict(
            code=CODE_VERSION,
            mean=self.mean.flatten().tolist(),
            std=self.std.flatten().tolist(),
            to_rgb=self.to_rgb,
            input_size=self.teacher_size or self.input_size,
        )
        if not plain:
            parts |= dict(
                seed=self.seed, num_views=self.num_views, augment=self.pipeline.settings
            )
            if self.pipeline.mixing and self.partners == 'split':
                parts |= dict(partners='split')
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @torch.no_grad()
    def forward(self, data: dict, training: bool = False) -> dict:
        """Make ``inputs`` float32 (B, 3, h, w), and ``data_samples`` (PackedSamples).

        Of ``inputs`` uint8 (B, H, W, 3) RGB, ``labels`` and ``index`` (B,) int64. They
        are augmented in training; in evaluation their view is -1. With a
        ``teacher_size`` samples of images packed that large bear ``teacher_images``.
        """
        images = data.get('inputs')
        packed = isinstance(images, Tensor) and images.dtype == torch.uint8
        if not packed or images.shape[-1] != 3 or 'index' not in data:
            raise UserError(
                'hkd_mm.PackedPreprocessor takes packed batches; wrap the dataset '
                "of this loader in dict(type='hkd_mm.PackedDataset', dataset=...)"
            )
        labels, index = data['labels'], data['index']
        images = self.cast_data(data['inputs'])
        if training and self.teacher_size and images.shape[1] < self.teacher_size:
            raise UserError(
                f'data_preprocessor.teacher_size={self.teacher_size}, but the training '
                f'images are packed at {images.shape[1]}; set train_dataloader.dataset.'
                f'margin={self.teacher_size / images.shape[1]:g}'
            )
        view = self.view if training else -1
        samples = PackedSamples(self.cast_data(labels), self.cast_data(index), view)
        with torch.autocast(images.device.type, enabled=False):
            if training and self.pipeline.operations:
                images, parameters = self._view_of(images, index, view, labels)
                if self.pipeline.mixing:
                    images, samples.gt_scores = self._mix(
                        images, index, view, samples.gt_labels, parameters
                    )
            else:
                images = self.plain(images)
            if self.teacher_size and images.shape[-1] == self.teacher_size:
                size = self.input_size, self.input_size
                samples.teacher_images = images
                images = F.interpolate(images, size, mode='area')
        return dict(inputs=images, data_samples=samples)

    def augment(
        self, images: Tensor, index: Tensor, view: int, labels: Tensor | None = None
    ) -> Tensor:
        """A view of images, uint8 (B, H, W, 3), normalised.

        It is mixed with ``partners`` of the split alone. With a ``teacher_size`` it is
        the teacher's. The parameters are computed in host memory, as for a loader's
        batch.
        """
        index, labels = index.cpu(), None if labels is None else labels.cpu()
        images, parameters = self._view_of(images, index, view, labels)
        if self.pipeline.mixing and not self.batch_dependent:
            images, _ = self._mix(images, index, view, labels, parameters)
        return images

    def _view_of(
        self, images: Tensor, index: Tensor, view: int, labels: Tensor | None
    ) -> tuple[Tensor, Parameters]:
        """Augmented, but not mixed, with the parameters on the images' device."""
        parameters = self.view_parameters(index, view, labels)
        parameters = self.pipeline.to(parameters, images.device)
        return self._augment(images, parameters), parameters

    def _mix(
        self,
        images: Tensor,
        index: Tensor,
        view: int,
        labels: Tensor,
        parameters: Parameters,
    ) -> Mixed:
        own, others = (images, self._targets(labels)), None
        if self.partners == 'split':
            if self._partners is None:
                raise UserError(
                    'data_preprocessor.partners=split was told no images: the config '
                    "needs default_hooks=dict(view=dict(type='hkd_mm.ViewHook'))"
                )
            batch = self._partners.of(index, self.seed, view)
            index, labels = batch['index'], batch['labels']
            found = self.cast_data(batch['inputs'])
            others = (
                self._view_of(found, index, view, labels)[0],
                self._targets(labels),
            )
        return self.pipeline.mix(own, parameters, others)

    def _targets(self, labels: Tensor) -> Tensor:
        """(B, C) float32; one_hot() would read the labels on the host."""
        labels = self.cast_data(labels)
        classes = torch.arange(self.num_classes, device=labels.device)
        return (labels[:, None] == classes).float()

    def _augment(self, images: Tensor, parameters: Parameters) -> Tensor:
        size = self._size(images)
        out = self.mean.new_empty((len(images), len(self.mean), *size))
        self.pipeline.apply(images, parameters, size, out, self._normalise)
        return out

    def plain(self, images: Tensor) -> Tensor:
        """Normalise only, as ``(image - mean) / std`` in float32."""
        size = self._size(images)
        if size != tuple(images.shape[1:3]):
            images = fit(images.permute(0, 3, 1, 2).float(), size)
            return self._normalise(images, torch.empty_like(images))
        if not self.to_rgb:
            images = images.flip(-1)
        # Row-wise: three channels side by side are too few for a vector unit.
        batch, height, width, channels = images.shape
        mean = self.mean.flatten().repeat(width)
        std = self.std.flatten().repeat(width)
        out = images.reshape(batch, height, -1).sub(mean).div_(std)
        return out.view(batch, height, width, channels).permute(0, 3, 1, 2)

    def _normalise(self, images: Tensor, out: Tensor) -> Tensor:
        """Planar ``images`` (B, 3, h, w), RGB, into ``out``."""
        if not self.to_rgb:
            images = images.flip(1)
        return torch.sub(images, self.mean, out=out).div_(self.std)

    def _size(self, images: Tensor) -> Size:
        """That of the largest images that are made of stored ones."""
        stored = tuple(images.shape[1:3])
        if self.teacher_size and min(stored) >= self.teacher_size:
            return self.teacher_size, self.teacher_size
        return (self.input_size, self.input_size) if self.input_size else stored
