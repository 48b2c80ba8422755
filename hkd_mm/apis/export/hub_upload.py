# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""From a packed folder to the Hugging Face Hub."""

from pathlib import Path

from hkd_mm.errors import UserError


def upload(folder: Path, name: str, private: bool = True) -> str:
    """Make the repository where there is none, and upload the folder.

    Args:
        folder: of :func:`.pack.publish`.
        name: ``owner/name``.
        private: of a repository that is made; one that is there stays what
            it is.

    Returns:
        Address of what was uploaded.

    Raises:
        UserError: huggingface_hub is missing, nobody is logged in, or the
            Hub refuses; the folder stays.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UserError(
            '--hub needs huggingface_hub: pip install huggingface_hub'
        ) from None
    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        made = api.upload_folder(folder_path=folder, repo_id=name)
    except Exception as error:  # of the Hub, its client, or the network
        lines = [line for line in str(error).splitlines() if line.strip()]
        why = lines[0].strip() if lines else type(error).__name__
        raise UserError(
            f'{name} could not be uploaded ({why}); log in with `hf auth '
            f'login`, then upload {folder}: the same command with a new --out'
        ) from None
    return str(made)
