# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""dinov3 small through timm, 22 M parameters: a teacher that learned without labels.

Its weights have the DINOv3 licence, which binds its students too. Where no hub can
be reached, put the file vit_small_patch16_dinov3.lvd1689m.safetensors
(https://huggingface.co/timm/vit_small_patch16_dinov3.lvd1689m)
into torch hub's folder checkpoints. Sides that no patch divides are padded."""
pretrained = True  # start from its published weights
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='vit_small_patch16_dinov3.lvd1689m',
    num_classes=6,
    dynamic_img_size=True,
    dynamic_img_pad=True,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
