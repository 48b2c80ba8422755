# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
r"""How strong each method of the zoo pulls at its paper's weight.

The gradient norm of every part of a loss on the student's backbone, as a multiple of
the cross-entropy's: medians over the second half of a warm-up in which all parts are
held at the force of the cross-entropy (``hkd_mm.LossBalanceHook``). With
``--out docs/results/zoo/forces.json``, ``tools/dev/zoo_table.py`` puts them into
docs/zoo.md.

Example:
    python tools/benchmarks/forces.py --data-root data/ham10000 \
        --teacher-ckpt work_dirs/effnet_lite0/student.pth --out forces.json
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from _common import ROOT, write

PAIR = 'effnet_lite0_w045_ham10000_64'
# parts that teach the student nothing: FT's trains the teacher's side alone
LEFT_OUT = dict(ft=dict(paraphraser=None))


class Measured(Exception):
    """Ends a training when its losses are balanced."""


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data-root', required=True, help='HAM10000')
    parser.add_argument(
        '--teacher-ckpt', required=True, type=Path, help='of all teachers, if several'
    )
    parser.add_argument('--methods', nargs='+', help='of configs/zoo; default: all')
    parser.add_argument('--out', type=Path, help='a JSON file; found methods stay')
    return parser.parse_args(argv)


def force_of(method: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Part -> multiple of the cross-entropy's gradient, or ``skipped``: why."""
    from mmengine.config import Config

    from hkd_mm.apis import train
    from hkd_mm.errors import UserError

    options = dict(pair=PAIR, data_root=args.data_root, max_epochs=20)
    options['loss_balance'] = LEFT_OUT.get(method, True)
    options['packed.store_dir'] = str(folder / 'packed')
    config = ROOT / f'configs/zoo/{method}/{method}_wrn50_mbv2_skin.py'
    model = Config.fromfile(config).model
    if model.get('teacher_cache'):
        options['model.teacher_cache.dir'] = str(folder / 'cache')
    count = len(model.get('teachers', ()))
    places = [f'teachers.{i}.ckpt' for i in range(count)]
    pair = Config.fromfile(ROOT / f'configs/_base_/pairs/{PAIR}.py')
    for i in range(count):
        name = pair.model.teacher.model_name
        options[f'model.teachers.{i}.model_name'] = name
    if model.get('teacher'):
        places = ['teacher_ckpt']
    options.update({f'model.{place}': str(args.teacher_ckpt) for place in places})
    try:
        train(str(config), str(folder / method), cfg_options=options)
    except UserError as error:
        return dict(skipped=str(error))
    except Measured as measured:
        return {part: 1 / factor for part, factor in measured.args[0].items()}
    raise AssertionError('the hook did not run')


def main(argv=None) -> None:
    """Measure, print, write."""
    args = parse_args(argv)
    from hkd_mm.engine.hooks.loss_balance_hook import LossBalanceHook

    measure = LossBalanceHook.before_train

    def stop(hook, runner) -> None:
        measure(hook, runner)
        raise Measured(runner.message_hub.runtime_info['loss_factors'])

    LossBalanceHook.before_train = stop
    known = sorted(path.name for path in (ROOT / 'configs/zoo').iterdir())
    there = args.out and args.out.is_file()
    report = json.loads(args.out.read_text()) if there else dict(rows={})
    report['command'] = ' '.join(sys.argv)
    with tempfile.TemporaryDirectory() as folder:
        for method in args.methods or [m for m in known if m not in report['rows']]:
            found = force_of(method, args, Path(folder))
            report['rows'][method] = found
            print(method, found, flush=True)
            write(report, args.out)


if __name__ == '__main__':
    main()
