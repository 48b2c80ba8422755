# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A distiller that cannot be built is told before a teacher is trained."""

from mmengine.config import Config


def check_distiller(cfg: Config) -> None:
    """Build the losses, recorders and connectors, but no net.

    Args:
        cfg: a distillation, its class weights resolved.

    Raises:
        UserError: a loss refuses its arguments, or would train nothing.
        KeyError: nothing of that type is registered.
    """
    from mmengine.registry import DefaultScope

    from hkd_mm.models.algorithms.default_wiring import complete
    from hkd_mm.models.algorithms.wiring import check_losses
    from hkd_mm.registry import MODELS

    scope = cfg.get('default_scope', 'mmpretrain')
    with DefaultScope.overwrite_default_scope(scope):
        distiller = MODELS.build(complete(cfg.model.distiller))
    check_losses(distiller, cfg.model.get('calculate_student_loss', False))
