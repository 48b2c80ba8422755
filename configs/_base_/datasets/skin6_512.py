# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Six common skin diseases at 512 x 512, as the private set of DSP-KD.

Class folders: acne, melasma, rosacea, discoid lupus erythematosus, Ota nevus
and seborrhoeic dermatitis. The paper's images are not public.
"""
_base_ = './skin_disease_116.py'

data_root = 'data/skin6'
classes = ['ACNE', 'ME', 'ROS', 'DLE', 'ON', 'SD']
input_size = 512
_loader = dict(dataset=dict(
    size=input_size, dataset=dict(data_root=data_root, classes=classes)))
train_dataloader = _loader
val_dataloader = _loader
test_dataloader = _loader
del _loader
