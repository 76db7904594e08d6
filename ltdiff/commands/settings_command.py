"""`ltdiff settings`."""

import textwrap

from ltdiff.commands.command_line import UsageError, print_lines


def settings(section: str | None = None, /) -> int:
    """List the settings that --config and --set take: name, default, type and meaning.

    Args:
        section: Only these: model, diffusion, loss, training, inference, evaluation, catalogue, ibsi, simulation or search; or a
            part of one, as training.joint.
    """
    from ltdiff.commands.configuration import Configuration
    from ltdiff.system.settings_tree import list_settings

    listed = [
        f"{one.name} = {one.default}  ({one.type})\n" + textwrap.indent(textwrap.fill(one.meaning, width=96), " " * 4)
        for one in list_settings(Configuration())
        if section is None or f"{one.name}.".startswith(f"{section}.")
    ]
    if not listed:
        raise UsageError(f"there is no section of settings {section!r}; see `ltdiff settings --help`")
    print_lines("\n".join([*listed, ""]))
    return 0
