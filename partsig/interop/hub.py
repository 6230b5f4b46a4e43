"""Exported folders to and from Hugging Face's hub."""

from pathlib import Path
from types import ModuleType

from partsig.errors import CheckpointError, ConfigError
from partsig.runs import exported as packing
from partsig.verbs.export import export

FILES = (packing.CONFIG, packing.WEIGHTS, packing.CARD)


def _hub() -> ModuleType:
    try:
        import huggingface_hub.errors
    except ImportError:
        raise ConfigError("the hub needs huggingface_hub: pip install 'partsig[hub]'.") from None
    return huggingface_hub


def fetch(
    name: str | Path,
    revision: str | None = None,
    *,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """Return the folder of a model: ``name`` itself where it is one, else fetched from the hub.

    ``revision`` is a branch, tag or commit there. Raises CheckpointError when it cannot be had.
    """
    if Path(name).is_dir():
        if revision is not None:
            raise ConfigError(f"{name} is a folder here and has no revision {revision!r}.")
        return Path(name)
    hub = _hub()
    try:
        return Path(
            hub.snapshot_download(
                str(name),
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                allow_patterns=list(FILES),
            )
        )
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{name} is neither a folder nor a model that can be fetched ({reason})."
        ) from None


def push_to_hub(
    run: str | Path,
    repo_id: str,
    *,
    private: bool = True,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    message: str = "Export of partsig",
) -> str:
    """Export a run, or take an exported folder, send it to a repository and return its address.

    The repository is made if it is not there, private unless told otherwise. Only the weights,
    ``config.json`` and the model card are sent; choose a licence in the card first.

    Raises CheckpointError when the hub refuses.
    """
    path = Path(run)
    folder = path if (path / packing.WEIGHTS).is_file() else export(path).path
    packing.read(folder)
    hub = _hub()
    api = hub.HfApi(endpoint=endpoint, token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        sent = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            allow_patterns=list(FILES),
            revision=revision,
            commit_message=message,
        )
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{repo_id} was not sent ({reason}).") from None
    return sent.commit_url
