"""Exceptions of the protocol package.

EfedllmError
└── ProtocolError            anything a stranger sent that does not fit the protocol
    ├── FrameError           bytes that are not a frame, or exceed a limit
    ├── RequestError         a request that must not be served
    ├── ReceiptError         a receipt that is wrong, unlinked or unsigned
    └── VoucherError         a voucher that must not be credited
"""

from efedllm.errors import EfedllmError, on_one_line

_SHOWN = 40


def shown(name: object) -> str:
    """A stranger's name for something, as an error may repeat it."""
    text = on_one_line(str(name)[:_SHOWN])
    return text if len(str(name)) <= _SHOWN else f"{text}..."


class ProtocolError(EfedllmError):
    """Base: the message says which field is wrong and what was expected."""


class FrameError(ProtocolError):
    """Malformed, truncated, oversized or unexpected frame."""


class RequestError(ProtocolError):
    """A request that is malformed, expired, altered, or not payable."""


class ReceiptError(ProtocolError):
    """A receipt whose signature, link, root, count or fee is wrong."""


class VoucherError(ProtocolError):
    """A voucher that goes backwards, is signed by a stranger, or pays for something not receipted."""
