"""WideResNet-50-2 -> MobileNetV2 x0.5: everything but the losses.

Another pair is two words on the command line: ``teacher=resnet152`` and
``student=timm:ghostnet_050``, any names of ``configs/_base_/models/`` or of
timm.
"""
_base_ = [
    '../datasets/skin_disease_116.py',
    '../schedules/hybrid_kd_sgd_100e.py',
    '../default_runtime.py',
]
teacher_config = 'teachers/wrn50_skin.py'  # trained first if no teacher_ckpt
student_config = 'students/mbv2_skin.py'  # the student without a teacher

pretrained = True  # the student's start: ImageNet weights
model = dict(
    type='hkd_mm.FrozenTeacherDistill',
    teacher_ckpt=None,
    teacher_cache=dict(num_views=10),  # its outputs, kept on the disk
    architecture=dict(
        type='hkd_mm.TimmClassifier',
        model_name='mobilenetv2_050',
        num_classes=6,
        pretrained=pretrained),
    teacher=dict(
        type='hkd_mm.TimmClassifier',
        model_name='wide_resnet50_2',
        num_classes=6,
        pretrained=False),  # its weights are teacher_ckpt
    distiller=dict(type='mmrazor.ConfigurableDistiller'))
