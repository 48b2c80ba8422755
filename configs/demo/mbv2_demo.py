"""The demo's student alone: MobileNetV2 x0.5 from scratch."""
_base_ = './_base_run.py'
pretrained = False
model = dict(
    type='hkd_mm.TimmClassifier',
    model_name='mobilenetv2_050',
    num_classes=5,
    pretrained=pretrained,
    loss=dict(type='CrossEntropyLoss', loss_weight=1.0))
