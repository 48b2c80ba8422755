# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Which trainings have a stream and a teacher in common."""

import json
from collections import defaultdict
from functools import partial

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from .shared_stream import SharedStream, StreamLoader
from .turns import Turns


class Group:
    """Trainings of one process that share what they can.

    Trainings with one stream of batches (:func:`stream_key`) share its
    loading and augmentation, those of them with one frozen teacher share that
    too. Each has its own student, optimizer, folder and end, and comes out as
    if it were alone.
    """

    def __init__(self) -> None:
        self.turns = Turns()
        self._streams = defaultdict(partial(SharedStream, self.turns))
        self._rounds: dict = {}

    def join(self, name: str, runner: Runner) -> None:
        """Have a run share, from its start to its end."""
        runner.register_hook(_ShareHook(self, name), priority='HIGHEST')

    def share(self, name: str, runner: Runner) -> None:
        """Once its loop is built: take the stream in place of its loader."""
        key = stream_key(runner.cfg) or name  # else one of its own
        stream = self._streams[key]
        loop = runner.train_loop
        loop.dataloader = StreamLoader(
            stream, loop.dataloader, name, lambda: runner.epoch
        )
        if stream_key(runner.cfg) is None:
            return
        preprocessor = runner.model.data_preprocessor
        preprocessor.forward = partial(stream.prepare, preprocessor.forward)
        self._share_teacher(runner, key)

    def _share_teacher(self, runner: Runner, stream: str) -> None:
        from hkd_mm.models.algorithms.teacher_round import TeacherRound

        teacher = teacher_key(runner.cfg)
        if teacher is not None and TeacherRound.takes(runner.model):
            place = stream, teacher
            if place not in self._rounds:
                self._rounds[place] = TeacherRound()
            self._rounds[place].join(runner.model)

    def leave(self, runner: Runner) -> None:
        """Let the others go on without this one."""
        for shared in self._rounds.values():
            shared.leave(runner.model)


class _ShareHook(Hook):
    def __init__(self, group: Group, name: str) -> None:
        self.group, self.name = group, name

    def before_train(self, runner: Runner) -> None:
        self.group.share(self.name, runner)


def stream_key(cfg: Config) -> str | None:
    """What decides the batches of a run, if it can share them.

    Args:
        cfg: composed, see :func:`hkd_mm.apis.config.compose.compose_config`.

    Returns:
        Equal texts: equal batches and views in every epoch. None where they
        hang on the run: images that are not packed, whose augmentation draws
        from the generators of the process, and compiled nets.
    """
    loader = cfg.get('train_dataloader') or {}
    packed = str((loader.get('dataset') or {}).get('type'))
    packed = packed.endswith(('PackedDataset', 'PackedMasks'))
    if not packed or cfg.get('compiled'):
        return None
    model = cfg.model
    found = dict(
        loader=loader,
        preprocessor=cfg.get('data_preprocessor'),
        of_model=model.get('data_preprocessor'),
        randomness=cfg.get('randomness'),
        environment=cfg.get('env_cfg'),  # of the whole process
        hooks=[h for h in cfg.get('custom_hooks') or [] if _of_data(h)],
        seed=cfg.get('seed'),
        device=cfg.get('device'),
    )
    return json.dumps(found, sort_keys=True, default=_plain)


def teacher_key(cfg: Config) -> str | None:
    """What decides the answers of a run's teacher; None without one."""
    model = cfg.model
    if not (model.get('teacher') and model.get('teacher_ckpt')):
        return None
    names = ('teacher', 'teacher_ckpt', 'teacher_inference')
    found = {name: model.get(name) for name in names}
    found.update(
        cached=bool(model.get('teacher_cache')),
        order=cfg.get('channels_last'),
        precision=(cfg.get('optim_wrapper') or {}).get('dtype'),
    )
    return json.dumps(found, sort_keys=True, default=_plain)


def _of_data(hook: dict) -> bool:
    """Whether a hook decides the view, the order or the random numbers."""
    kind = str(hook.get('type')).rpartition('.')[2]
    return kind in ('ViewHook', 'EpochSeedHook', 'TeacherRankingHook')


def _plain(value) -> object:
    """Of a value that JSON does not know."""
    if hasattr(value, 'to_dict'):
        return value.to_dict()
    if hasattr(value, 'tolist'):
        return value.tolist()
    return str(value)
