"""WideResNet-50-2 -> MobileNetV2 x0.5 (S1): everything but the distiller.

Another pair is two lines, ``teacher`` and ``student``, in a config that
inherits this one or on the command line.
"""
_base_ = [
    '../datasets/skin_disease_116.py',
    '../schedules/s1_sgd_100e.py',
    '../default_runtime.py',
]
teacher = 'wide_resnet50_2'
student = 'mobilenetv2_050'
# Trained first when model.teacher_ckpt is None.
teacher_config = 'teachers/wide_resnet50_2_skin.py'

model = dict(type='hkd_mm.FrozenTeacherDistill', teacher_ckpt=None)
