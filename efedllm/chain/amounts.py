"""Amounts of the payment token: base units inside, whole tokens on the command line."""

import re

from efedllm.chain.errors import AmountError

MAX_AMOUNT = (1 << 96) - 1  # amounts on chain are uint96
_DECIMAL = re.compile(r"(\d+)(?:\.(\d+))?", re.ASCII)


def parse_amount(text: str, decimals: int, maximum: int = MAX_AMOUNT) -> int:
    """Base units of a decimal number of whole tokens such as "1000" or "0.25".

    Raises AmountError for anything that is not exactly representable, zero included: no command moves nothing.
    """
    match = _DECIMAL.fullmatch(text.strip())
    if match is None:
        raise AmountError(f"amount {text!r} is not a positive decimal number such as 100 or 0.25")
    whole, fraction = match[1], match[2] or ""
    if len(fraction.rstrip("0")) > decimals:
        raise AmountError(f"amount {text} is too precise: the token has {decimals} decimals")
    if len(whole) > 80:
        raise AmountError(f"amount {text[:20]}... is too large")
    amount = int(whole + fraction[:decimals].ljust(decimals, "0"))
    if amount == 0:
        raise AmountError(f"amount {text} is zero: give a positive one")
    if amount > maximum:
        raise AmountError(f"amount {text} is too large: the most is {format_amount(maximum, decimals)}")
    return amount


def format_amount(amount: int, decimals: int) -> str:
    """Whole tokens as an exact decimal string without trailing zeros: 1250000 at 6 decimals is "1.25"."""
    sign = "-" if amount < 0 else ""
    whole, fraction = divmod(abs(amount), 10**decimals)
    digits = str(fraction).rjust(decimals, "0").rstrip("0") if fraction else ""
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"
