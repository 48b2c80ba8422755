"""The demo's student alone: MobileNetV2 x0.5 from scratch."""
_base_ = './resnet18_demo.py'
model = dict(model_name='mobilenetv2_050')
