"""Settings of a simulation: patients, scanner and the two kernels."""

from dataclasses import dataclass

from ltdiff.simulation.kernels import KERNELS, Kernel, NoiseReduction
from ltdiff.simulation.phantom import Z_RANGE_MM, LungStructure
from ltdiff.simulation.scanner import Scanner


@dataclass(frozen=True)
class SimulationConfig:
    """Patients, slices and scanner. Patients take thicknesses and doses in turn.

    The defaults resemble a real pair (smooth and lung kernel, 5 mm) in noise, in the ratio of the two kernels' responses
    and in how well radiomic features agree between the two.

    Args:
        num_patients: patients, each scanned once.
        num_slices: slices of each scan.
        matrix: rows and columns of a slice.
        fov_mm: side of the reconstructed square.
        slice_thicknesses_mm: thicknesses that patients take in turn.
        slice_spacing_mm: distance of neighbouring slices; without it they are adjacent, with a whole fraction of the thickness
            they overlap, and share the raw data of what they have in common.
        doses: doses that patients take in turn; 1 is that of the scanner's `photons`.
        source_kernel: a kernel's name, built in or custom.
        target_kernel: the other kernel's name.
        custom_kernels: further kernels: a name, and the window on the ramp filter at 0, 1/4, 1/2, 3/4 and 1 times Nyquist.
        iterative: edge-preserving noise reduction, applied to the source alone.
        num_lesions: lesions of each patient.
        seed: seed of patients and noise.
        repeat: number of another scan of the same patients, who have not moved, with noise of its own.
        scanner: geometry, photons and detector.
        lung: vessels and tissue of the lungs.
    """

    num_patients: int = 4
    num_slices: int = 24
    matrix: int = 512
    fov_mm: float = 400.0
    slice_thicknesses_mm: tuple[float, ...] = (5.0,)
    slice_spacing_mm: float | None = None
    doses: tuple[float, ...] = (0.08,)
    source_kernel: str = "smooth"
    target_kernel: str = "lung"
    custom_kernels: tuple[Kernel, ...] = ()
    iterative: NoiseReduction | None = None
    num_lesions: int = 6
    seed: int = 0
    repeat: int | None = None
    scanner: Scanner = Scanner()
    lung: LungStructure = LungStructure()

    def __post_init__(self) -> None:
        for name in ("num_patients", "num_slices", "matrix"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("slice_thicknesses_mm", "doses"):
            if not getattr(self, name) or min(getattr(self, name)) <= 0:
                raise ValueError(f"{name} needs positive values, not {getattr(self, name)}")
        if not 0 < self.fov_mm <= self.scanner.scan_field_mm:
            raise ValueError(f"fov_mm must be positive and within the scan field, not {self.fov_mm}")
        if self.repeat is not None and self.repeat < 1:
            raise ValueError(f"repeat must be at least 1, not {self.repeat}")
        if not 0 <= self.num_lesions <= 255:
            raise ValueError(f"num_lesions must be 0 … 255, not {self.num_lesions}")
        self._check_spacing()
        self._check_length()
        if self.source_kernel == self.target_kernel:
            raise ValueError(f"source and target kernel must differ, both are {self.source_kernel!r}")
        self.kernels()

    def _check_spacing(self) -> None:
        if self.slice_spacing_mm is None:
            return
        if self.slice_spacing_mm <= 0:
            raise ValueError(f"slice_spacing_mm must be positive, not {self.slice_spacing_mm}")
        for thickness_mm in self.slice_thicknesses_mm:
            num_slabs = thickness_mm / self.slice_spacing_mm
            if num_slabs < 0.5 or abs(num_slabs - round(num_slabs)) > 1e-6:
                raise ValueError(
                    f"a slice thickness must be a whole multiple of slice_spacing_mm = {self.slice_spacing_mm:g}, "
                    f"not {thickness_mm:g} mm"
                )

    def _check_length(self) -> None:
        patients = range(len(self.slice_thicknesses_mm))
        length_mm = max((self.num_slices - 1 + self.num_slabs(n)) * self.spacing_mm(n) for n in patients)
        if length_mm > Z_RANGE_MM[1] - Z_RANGE_MM[0]:
            longest = Z_RANGE_MM[1] - Z_RANGE_MM[0]
            raise ValueError(f"{self.num_slices} slices cover {length_mm:g} mm, but the phantom has only {longest:g} mm")

    def kernels(self) -> tuple[Kernel, Kernel]:
        """Source and target kernel. Raises ValueError for a name that is neither built in nor custom."""
        known = KERNELS | {kernel.name: kernel for kernel in self.custom_kernels}
        for name in (self.source_kernel, self.target_kernel):
            if name not in known:
                raise ValueError(f"there is no kernel {name!r}; known are {', '.join(sorted(known))}")
        return known[self.source_kernel], known[self.target_kernel]

    def thickness_mm(self, patient: int) -> float:
        """Slice thickness of a patient's scan."""
        return self.slice_thicknesses_mm[patient % len(self.slice_thicknesses_mm)]

    def spacing_mm(self, patient: int) -> float:
        """Distance of neighbouring slices in a patient's scan."""
        return self.thickness_mm(patient) if self.slice_spacing_mm is None else self.slice_spacing_mm

    def num_slabs(self, patient: int) -> int:
        """Slabs, one spacing thick, that make up a slice: 1 where slices are adjacent."""
        return round(self.thickness_mm(patient) / self.spacing_mm(patient))

    def dose(self, patient: int) -> float:
        """Dose of a patient's scan: the next one once every thickness has had its turn."""
        return self.doses[patient // len(self.slice_thicknesses_mm) % len(self.doses)]
