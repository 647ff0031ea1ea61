"""EIP-712: type strings, digests, signatures. One domain per deployment: chain id and the address of `Channels`."""

from dataclasses import dataclass, fields
from typing import Any, Protocol

from eth_abi.abi import encode
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from efedllm.protocol import objects
from efedllm.protocol.errors import ProtocolError
from efedllm.protocol.values import Struct

_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


class Signer(Protocol):
    """A key that can sign a digest: eth_account's LocalAccount is one."""

    @property
    def address(self) -> Any: ...

    def unsafe_sign_hash(self, message_hash: Any) -> Any: ...


@dataclass(frozen=True)
class Domain:
    """What ties a signature to one deployment on one chain."""

    chain_id: int
    verifying_contract: str

    def separator(self) -> bytes:
        return keccak(
            encode(
                ["bytes32", "bytes32", "bytes32", "uint256", "address"],
                [
                    keccak(_DOMAIN_TYPE),
                    keccak(b"eFedLLM"),
                    keccak(b"1"),
                    self.chain_id,
                    self.verifying_contract,
                ],
            )
        )


def type_string(kind: type[Struct]) -> str:
    """`Name(type field,...)` followed by the nested structs in alphabetical order."""
    nested: dict[str, type[Struct]] = {}
    _collect(kind, nested)
    nested.pop(kind.__name__, None)
    return _own(kind) + "".join(_own(nested[name]) for name in sorted(nested))


def struct_hash(value: Struct) -> bytes:
    words = (_word(item.metadata["abi"], getattr(value, item.name)) for item in fields(value))
    return keccak(_type_hash(type(value)) + b"".join(words))


def digest(domain: Domain, value: Struct) -> bytes:
    """The 32 bytes that are signed; for a Request this is the request id."""
    return keccak(b"\x19\x01" + _separator(domain) + struct_hash(value))


def sign(domain: Domain, value: Struct, signer: Signer) -> bytes:
    """65 bytes `r || s || v`, v 27 or 28."""
    return bytes(signer.unsafe_sign_hash(digest(domain, value)).signature)


def recover(domain: Domain, value: Struct, signature: bytes) -> str:
    """Checksummed address that signed `value`. Raises ProtocolError for anything but a canonical (low-s) signature."""
    return recover_digest(digest(domain, value), signature)


def recover_digest(message: bytes, signature: bytes) -> str:
    if not isinstance(signature, bytes) or len(signature) != 65 or signature[64] not in (27, 28):
        raise ProtocolError("signature: expected 65 bytes ending in 27 or 28")
    if int.from_bytes(signature[32:64]) > _HALF_ORDER:
        raise ProtocolError("signature: s is in the upper half, which would allow a second form of it")
    try:
        parsed = Signature(signature[:64] + bytes([signature[64] - 27]))
        return parsed.recover_public_key_from_msg_hash(message).to_checksum_address()
    except (BadSignature, ValidationError) as error:
        raise ProtocolError(f"signature: {error}") from error


def compact(signature: bytes) -> tuple[bytes, bytes]:
    """EIP-2098 form `(r, vs)` of a 65-byte signature."""
    parity = signature[64] - 27
    high = signature[32] | (parity << 7)
    return signature[:32], bytes([high]) + signature[33:64]


_STRUCTS: dict[str, type[Struct]] = {
    kind.__name__: kind
    for kind in (
        objects.Hop,
        objects.Sampling,
        objects.Request,
        objects.Receipt,
        objects.Voucher,
        objects.Link,
        objects.Fetch,
    )
}
_TYPE_HASHES: dict[type[Struct], bytes] = {}
_SEPARATORS: dict[Domain, bytes] = {}


def _separator(domain: Domain) -> bytes:
    if domain not in _SEPARATORS:
        _SEPARATORS[domain] = domain.separator()
    return _SEPARATORS[domain]


def _type_hash(kind: type[Struct]) -> bytes:
    if kind not in _TYPE_HASHES:
        _TYPE_HASHES[kind] = keccak(type_string(kind).encode())
    return _TYPE_HASHES[kind]


def _own(kind: type[Struct]) -> str:
    inner = ",".join(f"{item.metadata['abi']} {item.name}" for item in fields(kind))
    return f"{kind.__name__}({inner})"


def _collect(kind: type[Struct], into: dict[str, type[Struct]]) -> None:
    into[kind.__name__] = kind
    for item in fields(kind):
        name = item.metadata["abi"].removesuffix("[]")
        if name in _STRUCTS and name not in into:
            _collect(_STRUCTS[name], into)


def _word(kind: str, value: Any) -> bytes:
    """The 32 bytes that stand for a field; structs are valid, so every value fits its type."""
    if kind.endswith("[]"):
        return keccak(b"".join(_word(kind[:-2], item) for item in value))
    if kind.startswith("uint"):
        return int(value).to_bytes(32)
    if kind == "address":
        return bytes.fromhex(value[2:]).rjust(32, b"\0")
    return struct_hash(value) if kind in _STRUCTS else bytes(value)
