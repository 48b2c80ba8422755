# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Two teachers, heard where they agree."""
_base_ = '../multi_average/multi_average_wrn50_mbv2_skin.py'
model = dict(
    fusion_tau=1.0,  # of what the teachers are checked with
    distiller=dict(distill_losses=dict(
        loss_ce=dict(loss_weight=1.0),
        loss_kd=dict(
            _delete_=True, type='hkd_mm.AgreementKDLoss', tau=4.0,
            loss_weight=1.0))))
