"""What the endpoints for programs take and return; Gradio turns these types into JSON schemas."""

from __future__ import annotations

from typing import Literal, TypedDict

ExportKind = Literal[
    "mask", "indexed", "cutout", "overlay", "coco", "labelme", "yolo", "svg", "zip"
]
EverythingKind = Literal["indexed", "coco", "zip"]
CompareKind = Literal["figure"]


class RunLengths(TypedDict):
    """A mask as COCO's compressed run lengths, which pycocotools reads.

    Attributes:
        size: Height and width in pixels.
        counts: COCO's text.
    """

    size: list[int]
    counts: str


class Candidate(TypedDict):
    """One mask the model offered.

    Attributes:
        predicted_iou: The model's own estimate, about 0 to 1.
        stability: How little the mask depends on the threshold, 0 to 1.
        area: About so many pixels of the photo, before any refinement.
    """

    predicted_iou: float
    stability: float
    area: int


class SegmentResult(TypedDict):
    """The mask of one object.

    Attributes:
        model: The model that answered.
        size: The photo's height and width in pixels, upright.
        box: x0, y0, x1, y1 of the mask; x1 and y1 lie behind its last column and row.
        area: Its pixels.
        predicted_iou: The model's own estimate, about 0 to 1.
        stability: How little the mask depends on the threshold, 0 to 1.
        rle: The mask.
        choice: Which of the candidates it is, from 0.
        candidates: All masks the model offered in the last step.
        encode_ms: How long the picture's encoding took; 0 if it was known from a call before.
        decode_ms: How long the decoding of the last step took.
    """

    model: str
    size: list[int]
    box: list[float]
    area: int
    predicted_iou: float
    stability: float
    rle: RunLengths
    choice: int
    candidates: list[Candidate]
    encode_ms: float
    decode_ms: float


class FoundMask(TypedDict):
    """One mask that everything mode found; names are those of SAM's records.

    Attributes:
        rle: The mask.
        area: Its pixels.
        bbox: x, y, width and height; the width is the distance from its first to its last column.
        predicted_iou: The model's own estimate, about 0 to 1.
        stability_score: How little the mask depends on the threshold, 0 to 1.
        point_coords: x, y of the point that was asked about.
    """

    rle: RunLengths
    area: int
    bbox: list[int]
    predicted_iou: float
    stability_score: float
    point_coords: list[float]


class EverythingResult(TypedDict):
    """All masks of a picture.

    Attributes:
        model: The model that answered.
        size: The photo's height and width in pixels, upright.
        masks: What was found, in the order of SAM's mask generator.
        encode_ms: How long the picture's encoding took; 0 if it was known from a call before.
        search_ms: How long the search took.
    """

    model: str
    size: list[int]
    masks: list[FoundMask]
    encode_ms: float
    search_ms: float


class ComparedModel(TypedDict):
    """What one model made of the prompts, and what that took on the server, in this call.

    Attributes:
        model: Its name.
        title: What people call it.
        box: x0, y0, x1, y1 of its mask.
        area: Pixels of its mask.
        predicted_iou: Its own estimate, about 0 to 1.
        rle: Its mask.
        parameters: How many values it computes with.
        file_bytes: Size of its checkpoint.
        load_ms: To read the checkpoint and build the network.
        encode_ms: To encode the photo.
        decode_ms: To decode the prompts' last step.
        peak_bytes: The most memory its process had; null where the system does not tell.
    """

    model: str
    title: str
    box: list[float]
    area: int
    predicted_iou: float
    rle: RunLengths
    parameters: int
    file_bytes: int
    load_ms: float
    encode_ms: float
    decode_ms: float
    peak_bytes: int | None


class CompareResult(TypedDict):
    """Two models' answers to the same prompts.

    Attributes:
        size: The photo's height and width in pixels, upright.
        iou: Intersection over union of the two masks, 0 to 1.
        first: One model.
        second: The other one.
        measured: The measured numbers as a table for people: rows of cells, its head first.
        note: On what they were measured.
    """

    size: list[int]
    iou: float
    first: ComparedModel
    second: ComparedModel
    measured: list[list[str]]
    note: str


class ModelInfo(TypedDict):
    """A model that can be named in a call.

    Attributes:
        name: What to call it in a call.
        title: What people call it.
        parameters: How many values it computes with.
        available: Whether its weights are on the server: it can be compared.
        loaded: Whether it answers /segment and /everything.
        standard: Whether it answers where no model is named.
    """

    name: str
    title: str
    parameters: int
    available: bool
    loaded: bool
    standard: bool
