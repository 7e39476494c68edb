"""What a visitor is told of an error that no visitor can have made."""

from __future__ import annotations

from mobilesam.checkpoints import CheckpointError
from mobilesam.errors import is_disk_full, is_out_of_memory

TROUBLE = "Something went wrong on the server; please try again."
UNUSABLE_WEIGHTS = "This model's weights cannot be used on this server; choose another model."
DISK_FULL = "The server's disk is full; please try again later."
OUT_OF_MEMORY = (
    "The server has too little memory for this now; please try again in a moment, or with a "
    "smaller photo."
)


def trouble(error: BaseException) -> str:
    """Return one sentence about an error, with nothing of how this program is made."""
    if is_disk_full(error):
        return DISK_FULL
    if isinstance(error, CheckpointError):  # its text is for those who have a shell here
        return UNUSABLE_WEIGHTS
    return OUT_OF_MEMORY if is_out_of_memory(error) else TROUBLE
