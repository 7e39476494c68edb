"""What a training run is told: one dataclass for each stage."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from mobilesam.training.data_config import DataConfig, check_image_size

# What a resumed run may set anew: where, how long and how often, but not what it learns.
MAY_CHANGE = (
    "out",
    "data",
    "steps",
    "minutes",
    "workers",
    "in_memory",
    "log_steps",
    "checkpoint_minutes",
    "checkpoint_steps",
    "val_photos",
    "val_minutes",
    "compile",
    "device",
    "licence",
)
POSITIVE = (
    "steps",
    "minutes",
    "learning_rate",
    "backbone_learning_rate",
    "warmup_steps",
    "clip_norm",
    "checkpoint_minutes",
    "checkpoint_steps",
    "val_minutes",
    "log_steps",
)
MAX_SEED = 2**63 - 1  # that PyTorch takes
DEFAULT_STEPS = 20_000
DEFAULT_IMAGE_SIZE = 512  # px


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every stage is told.

    The schedule ends when ``steps`` or ``minutes`` are used up, whichever is sooner; the learning
    rate follows a cosine over that progress, so a run by the clock on a busy machine still ends
    well. Only a run by steps alone can be repeated to the bit.

    Attributes:
        out: Folder for state, weights, log, curves and report.
        steps: Optimiser steps at most; 20,000 where minutes are not given either.
        minutes: Training time at most, added up over resumed runs, validation left out.
        learning_rate: Of everything but the image encoder's backbone.
        backbone_learning_rate: Of the image encoder's backbone.
        weight_decay: AdamW's, for matrices and convolutions; what is looked up or added has none.
        warmup_steps: Steps over which the learning rate rises from zero; at most a tenth of the
            schedule.
        clip_norm: Longest gradient; a longer one is scaled down to it.
        ema_decay: Of the averaged weights that are saved.
        checkpoint_minutes: Training time between two saves of the state, minutes.
        checkpoint_steps: Steps between two saves of the state, besides those by the clock.
        val_photos: Validation photos of each measurement; 0 measures nothing.
        val_minutes: Training time between measurements, minutes; by default only at the end.
        log_steps: Steps between two lines of the log.
        workers: Processes that read data; 0 reads in the training process. By default 1 on the
            CPU; with a GPU this process's share of the cores less one, at most 16.
        precision: What networks compute in; bf16 is torch's autocast, and on a GPU bf16 throughout
            in the mask decoder.
        compile: Whether networks' blocks are compiled (torch.compile): slow to start, then quicker.
        seed: Of everything random.
        device: cpu or cuda; several processes take one GPU each.
        licence: Written into the weights' metadata.
    """

    stage: ClassVar[str]

    out: str
    steps: int | None = None
    minutes: float | None = None
    learning_rate: float = 5e-4
    backbone_learning_rate: float = 1.5e-4
    weight_decay: float = 0.05
    warmup_steps: int = 200
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    checkpoint_minutes: float = 5.0
    checkpoint_steps: int | None = None
    val_photos: int = 100
    val_minutes: float | None = None
    log_steps: int = 50
    workers: int | None = None
    precision: Literal["bf16", "fp32"] = "bf16"
    compile: bool = False
    seed: int = 0
    device: str = "cpu"
    licence: str = "research and demonstration"
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            object.__setattr__(self, "steps", DEFAULT_STEPS)
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive; got {value}.")
        self._refuse_negative("workers", "val_photos", "weight_decay", "seed")
        if self.seed > MAX_SEED:
            raise ValueError(f"seed must be at most {MAX_SEED}; got {self.seed}.")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1; got {self.ema_decay}.")
        image_size: int | None = getattr(self, "image_size", None)  # of most stages
        if image_size is not None:
            check_image_size(image_size)
        if self.precision not in ("bf16", "fp32"):
            raise ValueError(f"precision must be bf16 or fp32; got {self.precision!r}.")

    def _refuse_negative(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be 0 or more; got {value}.")

    def settings(self) -> dict[str, str]:
        """Return all settings as text; ``data`` is the folder."""
        settings = dataclasses.asdict(self)
        data = settings.pop("data")
        merged = {"stage": self.stage, **settings, **data, "image_size": data["image_size"]}
        return {key: str(value) for key, value in merged.items()}

    def fixed(self) -> dict[str, str]:
        """Return, as text, what a resumed run may not change."""
        return {key: value for key, value in self.settings().items() if key not in MAY_CHANGE}


@dataclass(frozen=True, kw_only=True)
class MaskConfig(RunConfig):
    """What the stages that learn from masks are told.

    Attributes:
        box_share: Share of first prompts that are boxes; the others are clicks.
        max_corrections: Correction clicks after the first prompt, at most; val measures up to 4.
        one_round_share: Share of the run, from its start, without correction clicks, from which a
            network that begins untrained learns little.
        keep_mask_share: Share of correction clicks that come with the mask before them.
        iou_weight: Weight of predicted IoU's loss; with SAM's, 1, a short training ranks masks
            badly.
        other_masks_weight: Weight of the loss of all three multimask outputs, added to that of the
            best one.
    """

    box_share: float = 0.5
    max_corrections: int = 4
    one_round_share: float = 0.2
    keep_mask_share: float = 0.7
    iou_weight: float = 4.0
    other_masks_weight: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("box_share", "one_round_share", "keep_mask_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0 to 1; got {getattr(self, name)}.")
        self._refuse_negative("max_corrections", "iou_weight", "other_masks_weight")


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(MaskConfig):
    """Train a whole model on masks.

    Attributes:
        encoder: The image encoder: deit_tiny, tiny_vit, sam_vit_b, sam_vit_l or sam_vit_h.
        image_size: Side of the input frame, pixels; a multiple of 32.
        pads_to_square: Whether the encoder sees the whole square frame; by default only where it
            must (sam_vit_b, _l, _h).
        draws_prompts: Whether the model takes prompts as a drawn mask, too.
        backbone: Classifier weights to start the backbone from (safetensors, timm's names).
    """

    stage: ClassVar[str] = "teacher"

    out: str = "runs/teacher"
    encoder: str = "deit_tiny"
    image_size: int = DEFAULT_IMAGE_SIZE
    pads_to_square: bool | None = None
    draws_prompts: bool = True
    backbone: str | None = None


@dataclass(frozen=True, kw_only=True)
class CoupledConfig(MaskConfig):
    """Train a student's encoder and decoder together from the start (MobileSAM, section 3.2).

    The baseline that decoupled distillation is compared with. The image encoder is untrained, so
    that with a teacher's decoder, too, the run begins without correction clicks.

    Attributes:
        student: The student's image encoder.
        teacher: Name or path of a model whose prompt encoder and mask decoder, input frame and
            ways with prompts the student starts with; by default they start untrained.
        image_size: Side of the input frame, pixels; by default the teacher's, or 512.
        draws_prompts: Whether the model takes prompts as a drawn mask, too; by default as the
            teacher does, or yes.
        backbone: Classifier weights to start the backbone from (safetensors, timm's names).
        freeze: What is not trained: nothing, image_encoder, or decoder (with it the prompt
            encoder).
    """

    stage: ClassVar[str] = "coupled"

    out: str = "runs/coupled"
    student: str = "tiny_vit"
    teacher: str | None = None
    image_size: int | None = None
    draws_prompts: bool | None = None
    backbone: str | None = None
    backbone_learning_rate: float = 5e-4
    freeze: Literal["nothing", "image_encoder", "decoder"] = "nothing"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_freeze(self.freeze)
        given = {"image_size": self.image_size, "draws_prompts": self.draws_prompts}
        set_too = [name for name, value in given.items() if value is not None]
        if self.teacher and set_too:
            raise ValueError(
                f"The teacher {self.teacher!r} says what {' and '.join(set_too)} must be; leave "
                f"{'it' if len(set_too) == 1 else 'them'} out, or leave out the teacher."
            )


@dataclass(frozen=True, kw_only=True)
class DistillConfig(RunConfig):
    """Teach a student's image encoder its teacher's image embeddings (MobileSAM, section 3.2).

    The mean squared error between the two embeddings is all that is learnt from; prompt encoder
    and mask decoder are the teacher's and stay as they are, so masks are not needed.

    Attributes:
        teacher: Name of a model, or path of a checkpoint.
        student: The student's image encoder.
        image_size: Side of the input frame, pixels; by default the teacher's. SAM's own encoders
            take no other.
        init: Name or path of an earlier model whose image encoder the student's starts with, as
            when a distillation goes on at another size; by default it starts untrained.
        backbone: Classifier weights to start the backbone from (safetensors, timm's names).
        cache: Folder for the teacher's embeddings, computed once and in half precision; photos
            are then taken as they are. Without it the teacher runs along, and photos are
            cropped, flipped and recoloured.
    """

    stage: ClassVar[str] = "distill"

    out: str = "runs/distill"
    teacher: str
    student: str = "tiny_vit"
    image_size: int | None = None
    init: str | None = None
    backbone: str | None = None
    cache: str | None = "runs/embeddings"
    learning_rate: float = 1e-3
    backbone_learning_rate: float = 1e-3
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init and self.backbone:
            raise ValueError(
                f"The student cannot start with both init {self.init!r} and backbone "
                f"{self.backbone!r}; leave out one."
            )

    def fixed(self) -> dict[str, str]:
        """Return what a resumed run may not change: that there is a cache, but not where."""
        return {**super().fixed(), "cache": "none" if self.cache is None else "some folder"}


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(MaskConfig):
    """Train encoder and decoder of an earlier model together on masks.

    It answers prompts already, so that correction clicks come from the start.

    Attributes:
        init: The model to start from: its name, or the path of a checkpoint, the official ones
            and those of the other stages alike.
        image_size: Side of the input frame, pixels; by default as before.
        freeze: What is not trained: nothing, image_encoder, or decoder (with it the prompt
            encoder).
    """

    stage: ClassVar[str] = "finetune"

    out: str = "runs/finetune"
    init: str
    image_size: int | None = None
    freeze: Literal["nothing", "image_encoder", "decoder"] = "nothing"
    one_round_share: float = 0.0
    learning_rate: float = 2e-4
    backbone_learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_freeze(self.freeze)


def _check_freeze(freeze: str) -> None:
    if freeze not in ("nothing", "image_encoder", "decoder"):
        raise ValueError(f"freeze must be nothing, image_encoder or decoder; got {freeze!r}.")
