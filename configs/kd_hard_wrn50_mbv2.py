"""KD + hard label (Hybrid KD paper, table 8: top-1 81.98).

python tools/train.py THIS_FILE --cfg-options data_root=PATH
"""
_base_ = 'hybrid_wrn50_mbv2.py'
model = dict(distiller=dict(
    distill_losses=dict(loss_hybrid=dict(alpha=0.85, beta=0.0))))
