"""Addresses as people type them."""

from eth_utils.address import is_checksum_address, is_checksum_formatted_address, is_hex_address, to_checksum_address

from efedllm.chain.errors import ChainError


def parse_address(text: str) -> str:
    """`text` with checksum. In mixed case its own checksum must be right: money sent to a typing error is gone.

    Raises ChainError.
    """
    if not text.startswith("0x") or not is_hex_address(text):
        raise ChainError(f"{text!r} is not an address: 0x and 40 hexadecimal digits")
    if is_checksum_formatted_address(text) and not is_checksum_address(text):
        raise ChainError(f"{text} is mistyped: its upper and lower case letters do not fit the rest")
    return to_checksum_address(text)
