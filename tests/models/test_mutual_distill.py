# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Peers that learn from each other, and the branch between them."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

import hkd_mm  # noqa: F401
from hkd_mm.engine.hooks.distill_hooks import LossScheduleHook
from hkd_mm.errors import UserError
from hkd_mm.io.checkpoints import load_weights, student_state_dict

NORM = dict(
    type='mmpretrain.ClsDataPreprocessor',
    mean=[127.5] * 3,
    std=[127.5] * 3,
    to_rgb=True,
)
RESNET8 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='hkd_mm.CIFARResNet', depth=8),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=64),
)
CE = dict(type='hkd_mm.HardLabelLoss')
DML = dict(loss_ce=CE, loss_kl=dict(type='hkd_mm.KLLoss', tau=1.0))
EML = dict(DML, loss_map=dict(type='hkd_mm.FitNetLoss', loss_weight=0.02))
BRANCH = dict(type='hkd_mm.EmbeddedBranch')


def timm_network(name='mobilenetv2_050', **kwargs):
    return dict(type='hkd_mm.TimmClassifier', model_name=name, num_classes=5, **kwargs)


def build(losses=DML, peers=None, seed=0, **kwargs):
    """ResNet-8 and MobileNetV2 unless told otherwise."""
    init_default_scope('mmpretrain')
    torch.manual_seed(seed)
    return MODELS.build(
        copy.deepcopy(
            dict(
                dict(
                    type='hkd_mm.MutualDistill',
                    input_size=32,
                    data_preprocessor=NORM,
                    architecture=RESNET8,
                    peers=peers or dict(large=timm_network()),
                    distiller=dict(
                        type='mmrazor.ConfigurableDistiller',
                        distill_losses=losses,
                    ),
                ),
                **kwargs,
            )
        )
    )


def batch(n=4):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, 32, 32, generator=generator)
    return images, [DataSample().set_gt_label(i % 5) for i in range(n)]


def log_softmax(scores):
    scores = scores - scores.max(1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def scores_of(model):
    """What each network says, in float64; leaves the networks as they were."""
    images = batch()[0].to(next(model.parameters()))
    saved = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        said = {
            name: network(images, mode='tensor').double().numpy()
            for name, network in model.networks().items()
        }
    model.load_state_dict(saved)
    return said


def gradients(loss, network):
    return torch.autograd.grad(
        loss, list(network.parameters()), retain_graph=True, allow_unused=True
    )


@pytest.mark.parametrize(
    'peers', [dict(a=timm_network()), dict(a=timm_network(), b=RESNET8)]
)
def test_losses_are_those_of_the_paper(peers):
    model = build(peers=peers).train()
    said = {name: log_softmax(s) for name, s in scores_of(model).items()}
    losses = model(*batch(), mode='loss')
    assert len(losses) == 2 * len(said)
    for name, own in said.items():
        kl = [
            (np.exp(other) * (other - own)).sum(1).mean()
            for source, other in said.items()
            if source != name
        ]
        role = 'distill' if name == 'architecture' else name
        assert losses[f'{role}.loss_kl'].item() == pytest.approx(
            sum(kl) / len(kl), rel=1e-4
        )
        assert losses[f'{role}.loss_ce'].item() == pytest.approx(
            -own[range(4), range(4)].mean(), rel=1e-5
        )
    total, _ = model.parse_losses(losses)
    assert total.item() == pytest.approx(sum(v.item() for v in losses.values()))


@pytest.mark.parametrize('branch', [None, BRANCH])
def test_what_a_network_learns_pulls_at_no_other(branch):
    # upstream's loss, told to let the gradient through to the teacher
    leaky = dict(type='mmrazor.KLDivergence', teacher_detach=False)
    words = {
        word: dict(recorder='logits', from_student=word == 'preds_S')
        for word in ('preds_S', 'preds_T')
    }
    distiller = dict(
        type='mmrazor.ConfigurableDistiller',
        distill_losses=dict(EML, loss_leaky=leaky),
        loss_forward_mappings=dict(loss_leaky=words),
    )
    model = build(distiller=distiller, branch=branch).train()
    losses = model(*batch(), mode='loss')
    roles = dict(distill=model.architecture, large=model.peers['large'])
    if branch:
        roles['branch'] = model.branch
    for name, value in losses.items():
        for role, network in roles.items():
            found = [g is not None for g in gradients(value, network)]
            if name.startswith(f'{role}.'):
                assert any(found), (name, role)
            else:
                assert not any(found), (name, role)


def test_one_step_is_one_of_each_network_alone():
    model = build().double().train()
    said = {name: torch.tensor(s) for name, s in scores_of(model).items()}
    images, samples = batch()
    images = images.double()
    labels = torch.tensor([int(s.gt_label) for s in samples])
    expected = {}
    for name, other in (('architecture', 'large'), ('large', 'architecture')):
        network = copy.deepcopy(model.networks()[name])
        own = network(images, mode='tensor').log_softmax(1)
        loss = torch.nn.functional.nll_loss(own, labels)
        target = said[other].softmax(1)
        loss += (target * (target.log() - own)).sum(1).mean()
        loss.backward()
        with torch.no_grad():
            expected[name] = [p - 0.1 * p.grad for p in network.parameters()]
    total, _ = model.parse_losses(model(images, samples, mode='loss'))
    total.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    for name, network in model.networks().items():
        for found, wanted in zip(network.parameters(), expected[name]):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_each_network_runs_once_a_step():
    model = build(peers=dict(a=timm_network(), b=RESNET8), branch=BRANCH)
    runs = []
    for name, network in [*model.networks().items(), ('branch', model.branch)]:
        network.register_forward_hook(lambda *_, name=name: runs.append(name))
    model.train()(*batch(), mode='loss')
    assert runs == ['architecture', 'a', 'b', 'branch']


def test_what_is_predicted_is_the_first_peers():
    model = build().eval()
    images, samples = batch()
    expected = model.architecture(images, mode='tensor')
    assert torch.equal(model(images, mode='tensor'), expected)
    predicted = model(images, samples, mode='predict')
    torch.testing.assert_close(
        torch.stack([s.pred_score for s in predicted]), expected.softmax(1)
    )


@pytest.mark.parametrize('branch', [None, BRANCH])
def test_a_resumed_training_goes_on_as_if_it_had_not_stopped(branch, tmp_path):
    def step(model, optimizer):
        total, _ = model.parse_losses(model(*batch(), mode='loss'))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return total.item()

    def made(seed):
        model = build(EML, branch=branch, seed=seed).train()
        return model, torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)

    first = made(0)
    steps = [step(*first) for _ in range(2)]
    torch.save(
        dict(state_dict=first[0].state_dict(), optimizer=first[1].state_dict()),
        tmp_path / 'run.pth',
    )
    third = step(*first)
    second = made(1)
    saved = torch.load(tmp_path / 'run.pth')
    second[0].load_state_dict(saved['state_dict'], strict=True)
    second[1].load_state_dict(saved['optimizer'])
    assert step(*second) == third and third not in steps
    for key, value in second[0].state_dict().items():
        assert torch.equal(value, first[0].state_dict()[key]), key


def test_the_student_comes_out_of_a_checkpoint_plain(tmp_path):
    model = build(EML, branch=BRANCH)
    saved = dict(state_dict=model.state_dict())
    torch.save(saved, tmp_path / 'run.pth')
    own = model.architecture.state_dict()
    assert student_state_dict(saved).keys() == own.keys()
    plain = MODELS.build(copy.deepcopy(RESNET8))
    load_weights(plain, tmp_path / 'run.pth', 'student')
    for key, value in plain.state_dict().items():
        assert torch.equal(value, own[key])


def test_every_peer_is_initialised_and_trained():
    model = build(EML, branch=BRANCH).train()
    seen = []
    for network in model.networks().values():
        network.init_weights = lambda network=network: seen.append(network)
    model.init_weights()
    assert seen == list(model.networks().values())
    total, _ = model.parse_losses(model(*batch(), mode='loss'))
    total.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_peer_sees_images_in_its_own_statistics():
    own = dict(NORM, mean=[100.0, 110.0, 120.0], std=[50.0, 60.0, 70.0])
    model = build(peers=dict(a=timm_network(data_preprocessor=own))).eval()
    raw = torch.randint(0, 256, (4, 3, 32, 32)).float()
    mean, std = (torch.tensor(own[key]).view(3, 1, 1) for key in ('mean', 'std'))
    seen = []
    model.peers['a'].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model((raw - 127.5) / 127.5, batch()[1], mode='loss')
    torch.testing.assert_close(seen[0], (raw - mean) / std, rtol=0, atol=1e-5)


def test_a_copy_is_on_its_own():
    model = build(EML, branch=BRANCH).train()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    losses = twin(*batch(), mode='loss')
    again = build(EML, branch=BRANCH).train()(*batch(), mode='loss')
    assert {k: v.item() for k, v in losses.items()} == {
        k: v.item() for k, v in again.items()
    }


def test_a_schedule_moves_the_loss_in_every_direction():
    model = build(peers=dict(a=timm_network(), b=RESNET8))
    hook = LossScheduleHook('loss_kl', until=4, start=0.0)
    runner = SimpleNamespace(model=model, epoch=1)
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    every = [model.distiller, *model.peer_distillers.values()]
    assert len(every) == 6
    assert [d.distill_losses['loss_kl'].loss_weight for d in every] == [0.25] * 6


def test_the_branch_fuses_as_it_says():
    model = build(EML, branch=BRANCH).eval()
    model(*batch(), mode='loss')
    branch = model.branch
    maps, scores = branch._records('feature'), branch._records('logits')
    size = maps[0].shape[2:]
    fuse, head = branch.backbone, branch.head
    with torch.no_grad():
        found = branch()
    for i in range(4):
        joined = []
        for feature, conv in zip(maps, fuse.project):
            pooled = torch.nn.functional.interpolate(
                feature[i : i + 1], size, mode='bilinear'
            )[0]  # MobileNetV2 ends at a smaller map
            flat = conv.weight[:, :, 0, 0] @ pooled.flatten(1)
            joined.append(flat + conv.bias[:, None])
        means = torch.cat([flat.mean(1) for flat in joined])
        shares = (fuse.weigh.weight @ means + fuse.weigh.bias).softmax(0)
        fused = sum(share * flat for share, flat in zip(shares, joined))
        pooled = fused.mean(1)
        gates = (head.weigh.weight @ pooled + head.weigh.bias).softmax(0)
        expected = gates[0] * (head.fc.weight @ pooled + head.fc.bias)
        for gate, said in zip(gates[1:], scores):
            expected = expected + gate * said[i]
        torch.testing.assert_close(found[i], expected.detach(), rtol=1e-4, atol=1e-5)


def test_peers_learn_from_each_other_and_from_the_branch_alike():
    model = build(branch=BRANCH).train()
    losses = model(*batch(), mode='loss')
    from_peer = model.distiller.get_record('logits', False)
    from_branch = model.peer_distillers['architecture_from_branch'].get_record(
        'logits', False
    )
    assert not from_peer.requires_grad and not from_branch.requires_grad
    own = model.distiller.get_record('logits', True).log_softmax(1)
    kl = [
        (t.softmax(1) * (t.log_softmax(1) - own)).sum(1).mean()
        for t in (from_peer, from_branch)
    ]
    assert losses['distill.loss_kl'].item() == pytest.approx(
        (sum(kl) / 2).item(), rel=1e-4
    )
    labels = torch.arange(4)
    assert losses['branch.loss_ce'].item() == pytest.approx(
        torch.nn.functional.cross_entropy(from_branch, labels).item(), rel=1e-5
    )


@pytest.mark.parametrize(
    'change, said',
    [
        (dict(teacher=RESNET8), 'model.teacher is set'),
        (dict(teacher_ckpt='x.pth'), 'model.teacher_ckpt is set'),
        (dict(peers=dict(branch=RESNET8)), "called 'branch'"),
        (dict(losses=dict(hybrid=CE)), 'call it loss_hybrid'),
    ],
)
def test_what_would_not_train_is_refused(change, said):
    with pytest.raises(UserError, match=said):
        build(**change)


def test_no_peer_and_deliveries_are_refused():
    distiller = dict(
        type='mmrazor.ConfigurableDistiller',
        distill_losses=DML,
        distill_deliveries=dict(
            x=dict(
                type='FunctionOutputs',
                _scope_='mmrazor',
                max_keep_data=1,
                func_path='torch.nn.functional.relu',
            )
        ),
    )
    with pytest.raises(UserError, match='which peer'):
        build(distiller=distiller)
    cfg = dict(type='hkd_mm.MutualDistill', architecture=RESNET8, peers={})
    with pytest.raises(UserError, match='model.peers is empty'):
        MODELS.build(dict(cfg, distiller=dict()))


def test_autocast_changes_little():
    model = build(EML, branch=BRANCH).eval()
    plain = model(*batch(), mode='loss')
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = model(*batch(), mode='loss')
    for name, value in plain.items():
        assert mixed[name].dtype == torch.float32, name
        assert mixed[name].item() == pytest.approx(value.item(), rel=0.1, abs=0.01)
