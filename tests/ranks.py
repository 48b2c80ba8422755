# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""What two processes do in one launch, and the tests in one process alone."""

import os
import traceback

import torch
import torch.distributed as dist


def gradients(channels_last: bool) -> dict[str, torch.Tensor]:
    """Gradients of one step of the pair, each process with half of the batch.

    BatchNorm is in eval: in training it sees its own process only.
    """
    from mmengine.model import is_model_wrapper
    from mmengine.runner import Runner
    from mmpretrain.structures import DataSample

    from hkd_mm.config.compose import compose_config
    from hkd_mm.training.runtime import set_up_processes

    many = dist.is_initialized()
    cfg = compose_config('tiny_kd.py')
    set_up_processes(cfg, 'pytorch' if many else 'none', 'cpu')
    cfg.work_dir, cfg.channels_last = 'runs', channels_last
    cfg.experiment_name = f'gradients_{channels_last}_{many}'
    model = Runner.from_cfg(cfg).model
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(8, 3, 16, 16, generator=generator)
    labels = torch.randint(0, 3, (8,), generator=generator)
    assert is_model_wrapper(model) is many
    if many:
        inputs, labels = inputs[dist.get_rank() :: 2], labels[dist.get_rank() :: 2]
    model.train()
    inner = model.module if many else model
    for part in inner.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eval()
    samples = [DataSample().set_gt_label(int(label)) for label in labels]
    total, _ = inner.parse_losses(model(inputs, samples, mode='loss'))
    total.backward()
    return {name: p.grad for name, p in inner.named_parameters()}


def balance() -> dict[str, float]:
    """Factors of the loss; BatchNorm is in eval."""
    from mmengine.runner import Runner

    from hkd_mm.config.compose import compose_config
    from hkd_mm.engine.hooks.loss_balance_hook import LossBalanceHook
    from hkd_mm.engine.run_summary import bare_model
    from hkd_mm.training.runtime import set_up_processes

    many = dist.is_initialized()
    cfg = compose_config(
        'tiny_kd.py',
        {
            'model.teacher_ckpt': 'teacher.pth',
            'batch_size': 3 if many else 6,
            'packed': True,  # a view depends on no process
        },
    )
    set_up_processes(cfg, 'pytorch' if many else 'none', 'cpu')
    cfg.work_dir, cfg.experiment_name = 'runs', f'balance_{many}'
    runner = Runner.from_cfg(cfg)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    model = bare_model(runner.model)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eval().train = lambda mode=True: None
    LossBalanceHook(steps=9).before_train(runner)
    return model.loss_factors


def ranking() -> dict[str, dict[str, list]]:
    """Confidence of the teacher, and the images drawn in two epochs."""
    from mmengine.runner import Runner

    from hkd_mm.config.compose import compose_config
    from hkd_mm.engine.hooks.teacher_hooks import TeacherRankingHook
    from hkd_mm.training.runtime import set_up_processes

    found, many = {}, dist.is_initialized()
    for packed in (False, True):
        for power in (None, 1.0):
            cfg = compose_config(
                'curriculum.py',
                {
                    'packed': packed,
                    'model.teacher_ckpt': 'teacher.pth',
                    'train_dataloader.sampler.power': power,
                },
            )
            set_up_processes(cfg, 'pytorch' if many else 'none', 'cpu')
            cfg.work_dir = 'runs'
            cfg.experiment_name = f'ranking_{packed}_{power}_{many}'
            runner = Runner.from_cfg(cfg)
            runner.val_loop  # noqa: B018  built when asked for
            runner._train_loop = runner.build_train_loop(runner._train_loop)
            runner.model.train()
            if many:
                torch.rand(dist.get_rank() * 3)  # they need not be at one place
            TeacherRankingHook().before_train(runner)
            sampler = runner.train_dataloader.sampler
            drawn = []
            for epoch in range(2):
                sampler.set_epoch(epoch)
                drawn.append([int(i) for i in sampler])
            found[f'{packed}_{power}'] = dict(
                confidence=sampler._confidence.tolist(), drawn=drawn
            )
    return found


def halves_of_losses() -> dict[str, str]:
    """Loss over a batch -> how two halves differ from the whole, '' for not at all.

    Every process has leaves of the whole batch and uses the rows of its half,
    so that averages over the processes compare with one process directly.
    """
    from models.losses.test_every_loss import LOSSES

    found = {}
    for kind in LOSSES:
        if kind.over_batch:
            try:
                _check_halves(kind)
                found[kind.__name__] = ''
            except Exception as error:
                found[kind.__name__] = str(error)
    return found


def _check_halves(kind) -> None:
    from models.losses.test_every_loss import inputs_of

    inputs = inputs_of(kind, n=8)
    order = torch.arange(8 * kind.views)
    whole = _value_and_gradients(kind, inputs, order, False)
    half = order.view(kind.views, 2, 4)[:, dist.get_rank()].flatten()
    two = _averaged(_value_and_gradients(kind, inputs, half, True))
    apart = _averaged(_value_and_gradients(kind, inputs, half, False))
    assert whole.keys() == two.keys(), 'no gradient comes back'
    cut = False
    for name, expected in whole.items():
        size = expected.abs().max().item()
        torch.testing.assert_close(
            two[name], expected, rtol=1e-3, atol=1e-5 * size + 1e-9
        )
        cut |= (apart[name] - expected).abs().max().item() > 1e-4 * size
    assert cut, 'it is said to be over the batch, but a cut does nothing'


def _value_and_gradients(kind, inputs, order, gather) -> dict[str, torch.Tensor]:
    from models.losses.test_every_loss import leaves, make, mapped, rows, total

    inputs = mapped(inputs, lambda x: x.clone().requires_grad_())
    loss = make(kind, inputs, gather=gather)
    value = total(loss, rows(inputs, order))
    value.backward()
    found = {'value': value.detach()}
    for key in ('preds_S', 's_feature'):
        for index, leaf in enumerate(leaves(inputs.get(key, []))):
            found[f'{key}.{index}'] = leaf.grad
    for name, parameter in loss.named_parameters():
        found[name] = parameter.grad
    return {name: x for name, x in found.items() if x is not None}


def _averaged(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for x in found.values():
        dist.all_reduce(x)
        x /= 2
    return found


TASKS = dict(
    gradients_last=lambda: gradients(True),
    gradients_first=lambda: gradients(False),
    balance=balance,
    ranking=ranking,
    halves=halves_of_losses,
)


def main(environment: dict[str, str]) -> None:
    """Leave what each task finds, or its traceback, in ``<task><rank>.pth``."""
    os.environ.update(environment)
    from hkd_mm.engine.distributed import init_process_group

    init_process_group('pytorch', 'cpu')
    for name, task in TASKS.items():
        try:
            found = task()
        except Exception:  # the other tasks have tests of their own
            found = traceback.format_exc()
        torch.save(found, f'{name}{dist.get_rank()}.pth')
    dist.destroy_process_group()
