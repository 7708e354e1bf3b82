"""Every reason a result can carry: a stable code for machines and one sentence for people.

A sentence names a value, its bound and a remedy, and never a file name, a key or a DICOM
tag's text. Numbers are the only thing that may be filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

UNREADABLE: Mapping[str, str] = MappingProxyType(
    {
        "empty_file": "The file has no bytes; upload it again.",
        "file_too_large": "The file has {bytes} bytes, the limit is {limit}; export it at a lower resolution.",
        "unsupported_format": "The file is not a JPEG, PNG or DICOM image that viewers read, whatever its name; "
        "export it as one.",
        "damaged": "The image data are damaged or cut off; send the original file again.",
        "too_many_pixels": "{width}x{height} px exceeds the limit of {limit} pixels; export it at a lower resolution.",
        "too_complex": "The file takes {count} steps to read, the limit is {limit}; export it again, uncompressed.",
        "multi_frame": "The file holds more than one frame; send the single film to be read.",
        "too_small": "{width}x{height} px is below the minimum of {limit} px; send the original, not a thumbnail.",
        "bad_aspect": "{width}x{height} px is longer than {limit}:1, which no chest film is; send the whole film.",
        "constant_image": "The grey levels span {span}, at least {limit} are needed; the film is blank.",
        "dicom_damaged": "The DICOM file is damaged or cut off; send the original object again.",
        "dicom_modality": "The DICOM modality is not CR or DX, so this is no plain radiograph; send the chest film.",
        "dicom_body_part": "The DICOM header names a body part other than the chest; send the chest film.",
        "dicom_burned_in": "The DICOM header says that annotations are burned into the pixels; send a clean image.",
        "dicom_for_processing": "The DICOM object holds raw detector data; send the image made for presentation.",
        "dicom_photometric": "The DICOM pixels are not MONOCHROME1 or MONOCHROME2 greyscale; send the original film.",
        "dicom_polarity": "The DICOM header says both that low values are black and that they are white; export "
        "the film as it is displayed.",
        "dicom_window": "The window, LUT or rescale of the DICOM header leaves {span} grey levels, the minimum is "
        "{limit}; set the window and send the film again.",
        "dicom_no_pixels": "The DICOM object holds no usable pixel data; send the whole image object.",
        "dicom_encoding": "The DICOM pixels are in an encoding that is not supported; export it uncompressed.",
    }
)

JUDGED: Mapping[str, str] = MappingProxyType(
    {
        "not_grayscale": "Colour is {saturation:.3f}, the limit for a film is {limit:.3f}: this looks like a "
        "photograph, so the score must not be used.",
        "ood_distance": "The image is {distance:.1f} away from the films the model learned from, the limit is "
        "{limit:.1f}, so the score must not be used.",
        "conformal_both": "At the chosen error rate of {alpha:.0%} per class neither NORMAL nor PNEUMONIA can be "
        "excluded; a person must read the film.",
        "conformal_none": "At the chosen error rate of {alpha:.0%} per class neither label is plausible; "
        "a person must read the film.",
        "conformal_conflict": "The decision threshold and the conformal set differ; a person must read the film.",
        "low_confidence": "The confidence of {confidence:.1%} is below {limit:.0%}; a person must read the film.",
        "model_output": "The model returned no finite number for this film; a person must read it.",
    }
)

SENTENCES: Mapping[str, str] = MappingProxyType({**UNREADABLE, **JUDGED})


@dataclass(frozen=True)
class Reason:
    """One reason; its JSON form is {"code": "...", "sentence": "..."}."""

    code: str
    sentence: str

    def as_json(self) -> dict[str, str]:
        return {"code": self.code, "sentence": self.sentence}


def reason(code: str, **numbers: float) -> Reason:
    """The reason named `code` with its numbers filled in. KeyError for an unknown code or a missing number."""
    return Reason(code, SENTENCES[code].format(**numbers))
