# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""A small sweep on generated images: minutes on a CPU, no download.

python tools/data/make_demo_images.py data/demo
"""
title = 'Hybrid KD on generated images'
config = 'demo/hybrid_resnet18_mbv2_demo.py'
sampler = 'grid'
space = {
    'model.distiller.distill_losses.loss_hybrid.alpha': [0.5, 0.85],
    'model.distiller.distill_losses.loss_hybrid.tau': [2.0, 4.0],
}
options = dict(max_epochs=6)
