"""How a derived series was made, and the sentence that says so in each of its slices."""

from dataclasses import dataclass

import ltdiff
from ltdiff.dicom.header import LTDIFF_DERIVATION

MAX_OUT_OF_DOMAIN_CHARACTERS = 400
"""A DerivationDescription has 1024, and the weights must still fit behind the warning."""
_MAX_ST = 1024
"""Characters that PS3.5 6.2 allows."""


@dataclass(frozen=True)
class Derivation:
    """How a derived series was made: what an identical one would need, with the same source.

    `out_of_domain` says what of the source lies outside what the model was trained for; "" where nothing does. `source_sha256`
    stands for the bytes of the source's files.
    """

    model_name: str
    model_version: str
    weights_sha256: str
    process: str
    decode: str
    num_inference_steps: int
    seed: int
    source_kernel: str
    target_kernel: str
    out_of_domain: str = ""
    source_sha256: str = ""

    @property
    def warning(self) -> str:
        """The warning that a series bears whose source the model was not trained for; "" for all others."""
        return f"outside what the model was trained for: {self.out_of_domain}" if self.out_of_domain else ""

    @property
    def description(self) -> str:
        """One sentence for DerivationDescription (ST, at most 1024 characters)."""
        warnings = "; ".join(filter(None, ["not for diagnostic use", self.warning[:MAX_OUT_OF_DOMAIN_CHARACTERS]]))
        text = (  # the warnings first: a header may hold kernel names of any length
            f"{LTDIFF_DERIVATION} {ltdiff.__version__}, {warnings}. From kernel {self.source_kernel or 'unknown'} to kernel "
            f"{self.target_kernel or 'unknown'}: model {self.model_name} {self.model_version}, "
            f"weights sha256 {self.weights_sha256}, process {self.process}, decode {self.decode}, "
            f"{self.num_inference_steps} steps, seed {self.seed}"
        )
        return ascii_text(text)[:_MAX_ST]


def ascii_text(text: str) -> str:
    """Text that fits every SpecificCharacterSet, in one value (a backslash would begin another) and on one line."""
    return "".join(character if " " <= character <= "~" else "?" for character in text.replace("\\", " "))
