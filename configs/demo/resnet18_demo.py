"""The demo's teacher: ResNet-18 from scratch on generated images."""
_base_ = './_base_run.py'
pretrained = False
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='resnet18',
    num_classes=5,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
optim_wrapper = dict(optimizer=dict(lr=0.05))
