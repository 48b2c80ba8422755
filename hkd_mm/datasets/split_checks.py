# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Holding a split against the data it is used for."""

from hkd_mm.errors import UserError

from .records import SPLITS, Record
from .splits import assignment_hash, data_hash


def check_split(document: dict, records: list[Record], path) -> None:
    """Hold a split against the data.

    Raises:
        UserError: a key is missing, the data or the lists have changed since
            it was written, an id is in two splits, or a lesion is.
    """
    check_data(document, records, path)
    where = {}
    for name in SPLITS:
        for sample_id in document[name]:
            if sample_id in where:
                raise UserError(
                    f'split file {path}: image {sample_id} is in '
                    f'{where[sample_id]} and in {name}; draw the split anew'
                )
            where[sample_id] = name
    check_lesions(records, where, f'split file {path}')
    if document['hash'] != assignment_hash(document):
        raise UserError(
            f'split file {path} was changed by hand (its hash '
            'does not match its lists); draw the split anew'
        )


def check_data(document: dict, records: list[Record], path) -> None:
    """Hold the data hash of a split against the data.

    Raises:
        UserError: a key is missing, or it was drawn for other data.
    """
    for key in ('data_hash', 'hash', *SPLITS):
        if key not in document:
            raise UserError(
                f'split file {path} has no "{key}"; is it a split '
                'file of tools/dataset_tools/split.py?'
            )
    found = data_hash(records)
    if document['data_hash'] != found:
        raise UserError(
            f'split file {path} was drawn for other data (hash '
            f'{document["data_hash"][:8]}, these images have {found[:8]}); '
            'name the matching data_root, or another split_file'
        )


def check_lesions(records: list[Record], where: dict, source: str) -> None:
    """Refuse photographs of one lesion in two splits.

    Args:
        records: all photographs.
        where: split by sample id; ids that are not there are passed over.
        source: named in the message.

    Raises:
        UserError: naming the first such lesion.
    """
    homes = {}
    for record in records:
        name = where.get(record.sample_id)
        if name is None or not record.lesion_id:
            continue
        first = homes.setdefault(record.lesion_id, (name, record.sample_id))
        if first[0] != name:
            raise UserError(
                f'{source}: {record.group} {record.lesion_id} is in '
                f'{first[0]} (image {first[1]}) and in {name} (image '
                f'{record.sample_id}); draw the split anew'
            )
