# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Give every part of a loss a stated force against the cross-entropy."""

from collections.abc import Iterator
from itertools import chain, count
from statistics import median

import torch
import torch._functorch.config
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from torch import Tensor, nn

from hkd_mm.engine.hooks.data_hooks import ViewHook
from hkd_mm.engine.hooks.teacher_hooks import TeacherCacheHook
from hkd_mm.engine.run_summary import bare_model
from hkd_mm.errors import UserError
from hkd_mm.models.algorithms.wiring import part_name
from hkd_mm.models.arguments import Arguments, Count, Positive
from hkd_mm.models.recorders.network_recorders import classifier_layer
from hkd_mm.registry import HOOKS

_RUNNING = 8  # steps whose medians give the factors of the next one
_LARGE = 1e3  # a factor above it, or below its inverse, is told with a warning


@HOOKS.register_module()
class LossBalanceHook(Arguments, Hook):
    """Static balancing of gradient norms, so that methods meet at equal force.

    Weights of papers stand for one network, one size of map and one batch; carried
    elsewhere the gradient of a part is 1e-4 to 40 times that of the cross-entropy. Here
    a joint warm-up measures the norm of each part's gradient on the weights that all
    share (the student without its classifier, connectors and losses), and

        factor = ratio * median |g_ce| / median |g_part|

    over its second half multiplies the part from then on. The training starts anew
    after the warm-up, with the weights and the data it would have had without. This is
    GradNorm (Chen et al., ICML 2018) with alpha = 0 and weights that are set once.

    Gradients are averaged over the processes before their norm is taken. The factors
    are logged, kept in checkpoints (a resumed run goes on with them), in
    ``metrics.json`` and, as ``factors``, in the config in the work dir.

    Raises:
        UserError: nothing is distilled, there is no cross-entropy, or a part has no
            gradient or one that is not finite.
    """

    priority = 'LOW'  # when the teacher cache is open

    # force of a part in multiples of the cross-entropy's, for all parts, or by the name
    # in the log (``kd`` of ``distill.loss_kd``); None leaves a part as it is, those not
    # named have 1
    ratio: Positive | dict[str, Positive | None] = 1.0
    steps: Count = 64  # of the warm-up; medians are those of the second half
    factors: dict[str, Positive] | None = None  # of an earlier measurement

    def before_train(self, runner) -> None:
        model = bare_model(runner.model)
        if not hasattr(model, 'loss_factors'):
            raise UserError(
                f'loss_balance: {type(model).__name__} adds up no losses of a '
                'distiller; leave it out'
            )
        stored = runner.message_hub.runtime_info.get('loss_factors')
        if runner.epoch and stored is None:
            raise UserError(
                'loss_balance: the run that is resumed was not balanced; leave it out, '
                'or train in a new work dir'
            )
        factors = dict(stored or self.factors or self._measure(runner, model))
        model.loss_factors = factors
        runner.message_hub.update_info('loss_factors', factors)
        values = ', '.join(f'{name} x {value:.4g}' for name, value in factors.items())
        runner.logger.info(f'Loss balance: {values or "no part but the cross-entropy"}')
        large = [n for n, value in factors.items() if not 1 / _LARGE < value < _LARGE]
        if large:
            runner.logger.warning(
                f'Loss balance: the factor of {", ".join(large)} is extreme; its '
                'loss_weight was meant for other networks or sizes'
            )

    def _measure(self, runner, model: nn.Module) -> dict[str, float]:
        """Factors by the warm-up; the model is as before when it ends."""
        # of torch.compile: a graph is walked once a part
        torch._functorch.config.donated_buffer = False
        kept = chain(model.parameters(), model.buffers())
        before = [(x, x.detach().clone()) for x in kept]
        try:
            norms = self._warm_up(runner, model)
        finally:
            with torch.no_grad():
                for tensor, value in before:
                    tensor.copy_(value)
                    tensor.grad = None
        factors = self._factors({n: v[-(-len(v) // 2) :] for n, v in norms.items()})
        hook = runner.cfg.get('default_hooks', {}).get('loss_balance')
        if hook:  # the config in the work dir repeats this run
            hook.factors = factors
            runner.dump_config()
        return factors

    def _warm_up(self, runner, model: nn.Module) -> dict[str, list[float]]:
        """Train for ``steps``; the norms of each part."""
        for hook in runner.hooks:
            if isinstance(hook, (ViewHook, TeacherCacheHook)):
                hook.before_train_epoch(runner)
        shared, others = _shared_first(model)
        parameters, size = [*shared, *others], sum(p.numel() for p in shared)
        optim = runner.build_optim_wrapper(runner.cfg.optim_wrapper)
        rates = [group['lr'] for group in optim.optimizer.param_groups]
        norms: dict[str, list[float]] = {}
        model.train()
        for step, data in zip(range(self.steps), _batches(runner.train_dataloader)):
            data = model.data_preprocessor(data, training=True)
            losses = model._run_forward(data, mode='loss')
            gradients = {
                part_name(name): _gradient(value.mean(), parameters)
                for name, value in losses.items()
                if 'loss' in name
            }
            for name, gradient in gradients.items():
                norms.setdefault(name, []).append(float(gradient[:size].norm()))
            factors = self._factors({n: v[-_RUNNING:] for n, v in norms.items()})
            total = sum(factors.get(n, 1.0) * g for n, g in gradients.items())
            parts = total.split([p.numel() for p in parameters])
            for parameter, part in zip(parameters, parts):
                parameter.grad = part.view_as(parameter)
            warm = min(1.0, 2 * (step + 1) / self.steps)
            for group, rate in zip(optim.optimizer.param_groups, rates):
                group['lr'] = warm * rate
            optim.step()
        return norms

    def _factors(self, norms: dict[str, list[float]]) -> dict[str, float]:
        """Part -> factor, of the cross-entropy's and the parts' norms."""
        reference = next((n for n in ('ce', 'student') if n in norms), None)
        if reference is None:
            raise UserError(
                'loss_balance: no part of the loss is a cross-entropy with the labels '
                f'({", ".join(norms)}); add distill_losses.loss_ce=dict('
                "type='hkd_mm.HardLabelLoss')"
            )
        found, named = {}, isinstance(self.ratio, dict)
        for name, values in norms.items():
            ratio = self.ratio.get(name, 1.0) if named else self.ratio
            if ratio is None or name == reference:
                continue
            force = median(values)
            if not 0 < force < float('inf'):
                raise UserError(
                    f'loss_balance: the gradient of {name} on the student is '
                    f'{force:g}; look at that loss, or leave it as it is with '
                    f'loss_balance.{name}=None'
                )
            found[name] = ratio * median(norms[reference]) / force
        return found


def _shared_first(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trained parameters: the student's without its classifier, and the others."""
    layer = classifier_layer(model.student)
    own = set() if layer is None else {*layer.parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    shared = {*model.student.parameters()} - own
    return [p for p in trained if p in shared], [p for p in trained if p not in shared]


def _batches(loader) -> Iterator[dict]:
    """Batches without end, shuffled anew each time the images are through."""
    for epoch in count():
        if hasattr(loader.sampler, 'set_epoch'):
            loader.sampler.set_epoch(epoch)
        yield from loader


def _gradient(value: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """Gradient (P,) of a scalar, averaged over the processes."""
    found = parameters
    if value.requires_grad:
        found = torch.autograd.grad(
            value, parameters, retain_graph=True, materialize_grads=True
        )
    flat = torch.cat([x.detach().flatten() for x in found]).float()
    if not value.requires_grad:
        flat.zero_()
    all_reduce(flat, op='mean')
    return flat
