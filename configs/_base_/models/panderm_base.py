# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""PanDerm's ViT-B/16 (Yan et al., Nature Medicine 2025), 86 M parameters.

Its weights (CC BY-NC-ND 4.0: whether a student of it may be published is for
its authors to say) are a file of theirs: put it where `file` says, or name
another with model.pretrained_cfg_overlay.file. It takes 224 x 224 only:
input_size=224, or as a teacher teacher_input_size=224."""
pretrained = True  # start from its published weights
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='beit_base_patch16_224',
    num_classes=6,
    use_abs_pos_emb=True,
    use_rel_pos_bias=False,
    init_values=0.1,
    pretrained=pretrained,
    pretrained_cfg_overlay=dict(file='weights/panderm_base.pth'),
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
