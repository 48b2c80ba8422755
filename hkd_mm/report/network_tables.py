# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Table of networks: parameters and operations."""

from collections.abc import Sequence

import torch
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.markup import escape

from hkd_mm.config.compose import read_config
from hkd_mm.config.networks import network_config, network_names, set_network
from hkd_mm.experiments.table_text import make_table
from hkd_mm.models.networks.complexity import complexity
from hkd_mm.registry import MODELS


def network_complexity(network: dict, sizes: Sequence[int]) -> dict:
    """Count a classifier, of which no weights are fetched and little is computed.

    ``parameters``, and ``gmacs``, one float a size (a side in pixels), in 1e9.
    """
    init_default_scope('mmpretrain')
    set_network(network, pretrained=False)
    # mmpretrain's own networks ask for values while they are built
    device = 'meta' if 'model_name' in network else 'cpu'
    with torch.device(device):
        model = MODELS.build(network)
    found = [complexity(model, size) for size in sizes]
    return dict(
        parameters=found[0]['parameters'], gmacs=[one['gmacs'] for one in found]
    )


def print_network_table(names: Sequence[str], sizes: Sequence[int]) -> None:
    """Print one row a network, at these sides of square images in pixels.

    Names are those of ``configs/_base_/models``, none for all of them, or config
    files; of a distillation the student is shown.
    """
    columns = ['network', 'parameters / M', *(f'GMACs at {size}' for size in sizes)]
    rows = []
    for name in names or network_names():
        if name.endswith('.py'):
            model = read_config(name).model
            network = model.get('architecture', model).to_dict()
        else:
            network = network_config(name, pretrained=False)
        row = network_complexity(network, sizes)
        values = (row['parameters'] / 1e6, *row['gmacs'])
        rows.append([escape(name), *(f'{value:.3f}' for value in values)])
    console = Console()
    console.print(make_table(None, columns, rows))
    console.print(
        '1 MAC = a multiplication and an addition. Papers mostly '
        'print GMACs under the name GFLOPs.'
    )
