"""KD: soft targets only (S1, table 8: top-1 81.46).

python tools/train.py THIS_FILE --cfg-options data_root=PATH
"""
_base_ = '_base_/pairs/wrn50_mbv2.py'
model = dict(distiller=dict(
    distill_losses=dict(loss_hybrid=dict(
        type='hkd_mm.HybridKDLoss', alpha=1.0, beta=0.0, tau=4.0)),
    loss_forward_mappings=dict(loss_hybrid=dict(
        preds_S=dict(recorder='logits', from_student=True),
        preds_T=dict(recorder='logits', from_student=False)))))
