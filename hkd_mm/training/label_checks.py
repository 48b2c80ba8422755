# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Refuse what needs labels where the training images have none."""

from collections.abc import Iterator

from mmengine.config import Config

from hkd_mm.config import tree
from hkd_mm.errors import UserError
from hkd_mm.io.signatures import type_name
from hkd_mm.models.algorithms.wiring import asked_recorders, fill_wiring


def check_label_free(cfg: Config) -> None:
    """Hold a config with ``unlabelled_root`` against all that reads labels.

    Raises:
        UserError: a loss, or another part of the training, needs labels.
    """
    root = tree.innermost_dataset(cfg.train_dataloader).get('unlabelled_root')
    found = None if root is None else next(_needs(cfg), None)
    if found is not None:
        name, way = found
        raise UserError(
            f'{name} needs labels, and the images of unlabelled_root={root} have none; '
            f'{way}, or leave unlabelled_root out'
        )


def _needs(cfg: Config) -> Iterator[tuple[str, str]]:
    """What reads labels, and what to do about it."""
    model, key = cfg.model, 'model.distiller.distill_losses'
    if not model.get('distiller'):
        way = 'take a distillation without labels such as those of configs/zoo/queue'
        yield f'model.type={model.type}', way
        return
    distiller = fill_wiring(model.distiller)
    for name, mapping in distiller['loss_forward_mappings'].items():
        asked = asked_recorders({name: mapping}, from_student=True)
        recorders = (distiller['student_recorders'][one] for one in asked)
        if any(type_name(node) == 'GTLabels' for node in recorders):
            kind = type_name(distiller['distill_losses'][name])
            yield f'{kind} ({key}.{name})', f'take it out with {key}.{name}=None'
    for name, off in dict(calculate_student_loss=False, branch=None).items():
        if model.get(name):
            yield f'model.{name}', f'set model.{name}={off}'
    fusion = model.get('fusion')
    measured = fusion == 'class' and not model.get('class_weights')
    unseen = not cfg.get('val_dataloader') or tree.preprocessor(cfg).get('teacher_size')
    if fusion == 'confidence' or (measured and unseen):
        yield f'model.fusion={fusion}', 'set model.fusion=average'
    sampler = cfg.train_dataloader.get('sampler') or {}
    if type_name(sampler) == 'BalancedSampler':
        yield 'BalancedSampler', 'set sampler=None'
    if type_name(sampler) == 'CurriculumSampler' and sampler.get('power', 1):
        yield 'CurriculumSampler', 'set train_dataloader.sampler.power=None'
    if any(node.get('top_up') for node in tree.dataset_chain(cfg.train_dataloader)):
        yield 'packed.top_up', 'set packed.top_up=None'
    for step in tree.preprocessor(cfg).get('augment') or ():
        if step.get('classes'):
            yield f'{type_name(step)} of some classes', 'name no classes'
    if any(type_name(hook) == 'LossBalanceHook' for hook in tree.hooks(cfg)):
        yield 'loss_balance, which measures by the cross-entropy,', 'leave it out'
