# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Queue of teacher vectors and KD: nothing of it needs a label of the images.

Photographs without labels: --cfg-options unlabelled_root=FOLDER
"""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_kd=dict(type='hkd_mm.KLLoss', tau=4.0, loss_weight=1.0),
    loss_queue=dict(
        type='hkd_mm.QueueDistillLoss', tau=0.07, loss_weight=1.0))))
