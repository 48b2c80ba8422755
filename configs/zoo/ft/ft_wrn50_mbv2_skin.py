# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Factor transfer, and the label."""
_base_ = '../../_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(distill_losses=dict(
    loss_ce=dict(type='hkd_mm.HardLabelLoss'),
    loss_ft=dict(
        type='hkd_mm.FTLoss',
        rate=0.5,
        kernel_size=1,  # 3 would be 132 M parameters for 2048 channels
        beta=500.0))))
