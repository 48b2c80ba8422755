# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""One line where a distillation is set up in a way known to disappoint."""

from collections.abc import Iterator

from mmengine.hooks import Hook

from hkd_mm.registry import HOOKS

from ..report.summary import bare_model

# Parameters of the teacher for one of the student. The paper's widest pair
# that works is about 100; Mirzadeh et al. (arXiv 1902.03393) show the gap.
_GAP = 200
_COMPARED = ('balanced_accuracy', 'dice')
_LEAD = 0.05  # of these; the teacher's comes from few images


@HOOKS.register_module()
class GuardRailsHook(Hook):
    """Warn of settings and of a teacher that will not help, with the figure.

    - a teacher more than 200 times the size of the student,
    - a temperature or a weight far from what is usual for its loss
      (``usual`` of the loss),
    - a student that has become better than its teacher.

    Too small a batch and too few classes are said by the losses themselves,
    a teacher at chance by :class:`TeacherCheckHook`, a teacher of another
    split before training.
    """

    def before_train(self, runner) -> None:
        """Look at the nets and the losses."""
        model = bare_model(runner.model)
        self._teacher_said = not hasattr(model, 'teacher')
        if not hasattr(model, 'distiller'):
            return
        for line in _settings(model):
            runner.logger.warning(line)

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        """Compare the student with what the teacher scored at the start."""
        checked = runner.message_hub.runtime_info.get('teacher_check')
        if checked is None or self._teacher_said:
            return
        for name in _COMPARED:
            mine, teachers = (metrics or {}).get(name), checked.get(name)
            if None not in (mine, teachers) and mine > teachers + _LEAD:
                self._teacher_said = True
                runner.logger.warning(
                    f'the student ({name.replace("_", " ")} {mine:.3f} on '
                    f'validation) has passed its teacher ({teachers:.3f} on '
                    f'{checked["images"]} images): soft targets may hold it '
                    'back from here; train the teacher longer, or give the '
                    'label more weight'
                )


def _settings(model) -> Iterator[str]:
    sizes = [
        sum(parameter.numel() for parameter in net.parameters())
        for net in (getattr(model, 'teacher', None), model.student)
        if net is not None
    ]
    if len(sizes) == 2 and sizes[0] > _GAP * sizes[1]:
        yield (
            f'the teacher has {sizes[0] / sizes[1]:.0f} times the parameters '
            f'of the student ({sizes[0] / 1e6:.2f} M and '
            f'{sizes[1] / 1e6:.2f} M): beyond {_GAP} a smaller teacher often '
            'teaches better (capacity gap)'
        )
    for name, loss in model.distiller.distill_losses.items():
        for word, (low, high) in getattr(loss, 'usual', {}).items():
            value = getattr(loss, word, None)
            if isinstance(value, (int, float)) and not low <= value <= high:
                yield (
                    f'distill_losses.{name}.{word}={value:g} lies far from '
                    f'what is usual ({low:g} to {high:g})'
                )
