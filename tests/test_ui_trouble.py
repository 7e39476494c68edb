"""What a visitor is told of errors that no visitor can have made."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
import torch

from mobilesam.ui import segment
from mobilesam.ui.trouble import DISK_FULL, OUT_OF_MEMORY, TROUBLE, trouble
from tests.ui_stubs import make_photo, make_studio, opened, upload


def test_memory_that_pytorch_cannot_get_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 50)
    assert trouble(refused.value) == OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/secret"), DISK_FULL),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), DISK_FULL),
        (OSError(errno.EACCES, "Permission denied", "/secret"), TROUBLE),
        (MemoryError(), OUT_OF_MEMORY),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), OUT_OF_MEMORY),
        (RuntimeError("std::bad_alloc"), OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory."), OUT_OF_MEMORY),
        (RuntimeError("CUDA exploded at /secret"), TROUBLE),
    ],
)
def test_each_has_its_sentence(error, text):
    assert trouble(error) == text


def test_a_full_disk_leaves_the_photo_before(tmp_path):
    studio, photo = make_studio(tmp_path), make_photo(tmp_path)
    session, picture = opened(studio, photo)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    answer = segment.open_picture(replace(studio, store=full), session, upload(photo, token=7))
    assert answer == {"notice": {"token": 7, "text": DISK_FULL}}
    assert session.snapshot().picture_id == picture["id"]
