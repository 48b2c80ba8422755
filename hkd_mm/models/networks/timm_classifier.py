# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Any network of timm as a classifier of mmpretrain."""

from pathlib import Path
from typing import Any

from mmpretrain.models.classifiers import TimmClassifier as _TimmClassifier
from torch import nn

from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import safe_load
from hkd_mm.models.networks.image_classifier import PackedBatches
from hkd_mm.models.networks.imagenet_weights import hub_weights
from hkd_mm.models.networks.weight_selection import select_weights
from hkd_mm.registry import MODELS

_OF_MMPRETRAIN = 'loss train_cfg with_cp data_preprocessor init_cfg'.split()


@MODELS.register_module()
class TimmClassifier(PackedBatches, _TimmClassifier):
    """mmpretrain's ``TimmClassifier`` that keeps its ImageNet weights.

    ``init_weights`` is changed, for upstream's undoes ``pretrained=True``: at the start
    of training mmengine calls ``init_weights`` of every child that has one, and timm's
    ResNets draw their convolutions again. Weights are read there, not when the network
    is built, so that a network that gets a checkpoint anyway fetches nothing.

    Args:
        model_name: a network of ``timm.list_models()``.
        pretrained_cfg_overlay: as in timm; ``dict(file=PATH)`` names a weight
            file that is read in place of the published one.
        select_from: a larger network of ``timm.list_models()`` of the same family;
            ``pretrained`` then takes the weights from its published ones, see
            :func:`hkd_mm.models.networks.weight_selection.select_weights`.
        frozen: train the last layer alone, on features of a network in eval mode.

    Raises:
        UserError: timm has no network of that name.
    """

    def __init__(
        self,
        model_name: str,
        pretrained: bool = False,
        pretrained_cfg_overlay: dict[str, Any] | None = None,
        select_from: str | None = None,
        frozen: bool = False,
        **kwargs,
    ) -> None:
        try:
            super().__init__(model_name, **kwargs)
        except RuntimeError as error:
            if 'Unknown model' not in str(error):
                raise
            raise UserError(_unknown(model_name)) from error
        reset_wide_head(self.model)
        # timm's constructor has initialised the network: mmengine's recursion,
        # which asks for this name, has to pass it by.
        self.model.is_init = True
        # Upstream's two hooks work for a classifier that stands alone; inside
        # a distiller the first does nothing and the second deletes the keys
        # of all other modules, so that nothing is loaded on resume.
        self._state_dict_hooks.clear()
        self._load_state_dict_pre_hooks.clear()
        self._register_state_dict_hook(_to_timm_names)
        self.register_load_state_dict_pre_hook(_from_timm_names)
        self._pretrained, self._larger = pretrained, select_from
        self._frozen = frozen
        if frozen:
            self.model.requires_grad_(False)
            self.model.get_classifier().requires_grad_(True)
        self._overlay = dict(pretrained_cfg_overlay or {})
        own = {k: v for k, v in kwargs.items() if k not in _OF_MMPRETRAIN}
        self._timm = dict(own, model_name=model_name)

    def forward(self, *args, **kwargs):
        """As mmpretrain's; images of another size than a network takes are refused."""
        try:
            return super().forward(*args, **kwargs)
        except AssertionError as error:
            if not str(error).startswith('Input '):  # of timm's patch embedding
                raise
            raise UserError(
                f'{self._timm["model_name"]}: {error}; set input_size, or, of a '
                'teacher, teacher_input_size'
            ) from error

    def train(self, mode: bool = True) -> nn.Module:
        """Set the mode; that of a frozen network stays eval."""
        super().train(mode)
        if self._frozen:
            self.model.eval()
        return self

    def init_weights(self) -> None:
        if self._pretrained and not self.is_init:
            self._load_imagenet()
        super().init_weights()

    def _load_imagenet(self) -> None:
        from timm.models import create_model

        cfg = self.model.pretrained_cfg
        overlay = dict(self._overlay)
        path = overlay.pop('file', None)
        if self._larger:
            state = safe_load(path or published_weights(self._larger))['state_dict']
            selected = select_weights(self.model, state, self._larger)
            self.model.load_state_dict(selected)
            return
        path = path or _published(cfg)
        state = safe_load(path)['state_dict']
        own = self.model.state_dict()
        try:
            if own.keys().isdisjoint(state):
                raise RuntimeError('no weight has a name of this network')
            # A second network takes timm's own way of fitting the weights in:
            # renamed layers, another number of classes or input channels.
            network = create_model(
                pretrained=True,
                pretrained_cfg_overlay={**overlay, 'state_dict': state},
                **self._timm,
            )
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise UserError(
                f'{path} does not hold weights of {cfg["architecture"]} '
                f'({reason}); replace or remove the file'
            ) from error
        reset_wide_head(network)
        self.model.load_state_dict(network.state_dict())


def reset_wide_head(model: nn.Module) -> None:
    """Initialise the last layer again where timm's start is too wide.

    EfficientNet's rule, which MobileNetV2 and others share, draws it uniform within ``1
    / sqrt(number of classes)``: with seven classes 13 times as wide as torch's rule,
    ``1 / sqrt(features)``, for 1,280 features, and the first steps blow up.
    """
    head = model.get_classifier()
    # on the meta device a network is counted and never run
    if isinstance(head, nn.Linear) and not head.weight.is_meta:
        if head.weight.std() > 2 * (3 * head.in_features) ** -0.5:
            head.reset_parameters()


def _to_timm_names(
    module: Any, state_dict: dict[str, Any], prefix: str, local_metadata: dict
) -> None:
    """Leave out ``model.``, so that the keys are those of timm."""
    for key in [k for k in state_dict if k.startswith(f'{prefix}model.')]:
        state_dict[prefix + key[len(prefix) + len('model.') :]] = state_dict.pop(key)


def _from_timm_names(
    module: Any, state_dict: dict[str, Any], prefix: str, *unused
) -> None:
    """Put ``model.`` back in front of this classifier's own keys."""
    for key in [k for k in state_dict if k.startswith(prefix)]:
        if not key.startswith(f'{prefix}model.'):
            state_dict[f'{prefix}model.{key[len(prefix) :]}'] = state_dict.pop(key)


def published_weights(model_name: str) -> Path:
    """Find or fetch the ImageNet weights of a timm network."""
    from timm.models import get_pretrained_cfg

    cfg = get_pretrained_cfg(model_name)
    if cfg is None:
        raise UserError(_unknown(model_name))
    return _published(cfg.to_dict())


def _published(cfg: dict[str, Any]) -> Path:
    repo, name = cfg.get('hf_hub_id'), cfg['architecture']
    if not repo:
        raise UserError(
            f'timm publishes no weights of {name}; start from scratch with '
            '--cfg-options pretrained=False'
        )
    return hub_weights(repo, f'{name}.{cfg.get("tag")}.safetensors')


def _unknown(model_name: str) -> str:
    import difflib

    import timm

    close = difflib.get_close_matches(model_name, timm.list_models(), n=3)
    hint = f'did you mean {", ".join(close)}?' if close else ''
    return f'model_name={model_name!r}: timm has no such network; ' + (
        hint or 'timm.list_models() lists them'
    )
