"""The demo's teacher: ResNet-18 from scratch on generated images."""
_base_ = [
    '../_base_/datasets/demo_64.py', '../_base_/schedules/s1_sgd_100e.py',
    '../_base_/default_runtime.py'
]
max_epochs = 12
pretrained = False
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='resnet18',
    num_classes=5,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
