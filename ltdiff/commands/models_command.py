"""`ltdiff models`: the registered models, and which of them are the champions; and models that are passed on as files."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ltdiff.commands.command_line import IN_PLACE

TrackingUri = Annotated[str | None, Parameter(help="MLflow server or SQLite file; without it MLFLOW_TRACKING_URI.")]


def list_models(*, tracking_uri: TrackingUri = None) -> int:
    """List the registered versions with kernels, score, data and code, the newest first."""
    from ltdiff.registry.describe import list_text

    print(list_text(tracking_uri))
    return 0


def show(model: str, /, *, tracking_uri: TrackingUri = None) -> int:
    """Show all that is known of a version: score, data, code, parts, promotions, figures and settings of its run.

    Args:
        model: Number of the version, or an alias: candidate, champion.
    """
    from ltdiff.registry.describe import show_text

    print(show_text(model, tracking_uri=tracking_uri))
    return 0


def promote(model: str, /, *, pairs: Path | None = None, force: bool = False, tracking_uri: TrackingUri = None) -> int:
    """Make a version the champion for its kernels, unless it is worse than the present one on the same validation pairs.

    Args:
        model: Number of the version, or an alias: candidate.
        pairs: Manifest on whose validation pairs both are scored; without it the figures of their calibrations are compared,
            where these are of the same pairs.
        force: Promote it also where it is worse, or cannot be compared; the version keeps a record of it.
    """
    from ltdiff.registry.promotion import promote as promote_model

    print(promote_model(model, pairs=pairs, force=force, tracking_uri=tracking_uri))
    return 0


def rollback(champion: str | None = None, /, *, tracking_uri: TrackingUri = None) -> int:
    """Make the version champion again that the present one replaced.

    Args:
        champion: The champion that is rolled back, by alias or number, where there are several: champion-Br40_to_Bl64.
    """
    from ltdiff.registry.promotion import roll_back

    print(roll_back(champion, tracking_uri=tracking_uri))
    return 0


def delete(model: str, /, *, tracking_uri: TrackingUri = None) -> int:
    """Delete a version that is not a champion, with its parts; its run and files stay in MLflow.

    Args:
        model: Number of the version, or an alias: candidate.
    """
    from ltdiff.registry.removal import delete_version

    print(f"version {delete_version(model, tracking_uri=tracking_uri).number} is deleted")
    return 0


def register(model: Path, /, *, tracking_uri: TrackingUri = None) -> int:
    """Register a trained model folder, such as one that was exported from another registry.

    Args:
        model: Folder of a trained model.
    """
    from ltdiff.registry.adoption import register_folder

    number, is_new = register_folder(model, tracking_uri=tracking_uri)
    print(f"{model}: version {number}{'' if is_new else ', registered already'}")
    return 0


def export(model: str, /, *, out: Path, tracking_uri: TrackingUri = None) -> int:
    """Copy a version, verified, into a model folder that needs no registry.

    Args:
        model: Number of the version, or an alias: candidate, champion.
        out: Folder for it; must not hold anything yet.
    """
    from ltdiff.registry.versions import export_model

    version = export_model(model, out=out, tracking_uri=tracking_uri)
    print(f"{out}: version {version.number}; `ltdiff standardize --model {out}` needs no registry")
    return 0


def assemble(
    *, out: Path, encoder: str = "champion", ddpm: str = "champion", decoder: str = "champion", tracking_uri: TrackingUri = None
) -> int:
    """Put the registered parts of a model together again, verified, into a model folder that needs no registry.

    Args:
        out: Folder for it; must not hold anything yet.
        encoder: Number of the version of ltdiff-encoder, or its alias.
        ddpm: The same of ltdiff-ddpm.
        decoder: The same of ltdiff-decoder.
    """
    from ltdiff.registry.assembly import assemble_model

    version = assemble_model(encoder=encoder, ddpm=ddpm, decoder=decoder, out=out, tracking_uri=tracking_uri)
    print(f"{out}: the parts are those of version {version.number}, and the model is equal to it")
    return 0


def pack(model: Path, /, *, out: Path, notes: Path | None = None) -> int:
    """Pack a trained model and its card into one file, for `ltdiff models install` elsewhere.

    Args:
        model: Folder of a trained model.
        out: The file, NAME.zip.
        notes: Text (Markdown) that ends the card: licence and citation of the data that trained it, a contact.
    """
    from ltdiff.registry.ready_model import pack_model

    print(f"{out}: {pack_model(model, out=out, notes=notes)}")
    return 0


def install(model: Path, /, *, into: Annotated[Path | None, IN_PLACE] = None) -> int:
    """Add a packed model, or a model folder, to a folder of models: verified, whole or not at all, and without a network.

    Args:
        model: File that `ltdiff models pack` made, or a model folder.
        into: Folder of models, for `--model` of `ltdiff standardize`; ~/.local/share/ltdiff/models without it.
    """
    from ltdiff.commands.command_line import model_store
    from ltdiff.registry.ready_model import install_model

    models = model_store() if into is None else into
    folder = install_model(model, into=models)
    print(f"{folder}: installed; `ltdiff standardize --model {models}` chooses among the models there")
    return 0


app = App(name="models", help="Registered models, and which of them are the champions; pack and install models as files.")
app.command(list_models, name="list")
for command in (show, promote, rollback, delete, register, export, assemble, pack, install):
    app.command(command)
