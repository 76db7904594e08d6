"""Reading CT series and writing derived ones: the only place that knows DICOM."""
