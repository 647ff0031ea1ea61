"""The tokenizer files of a checkpoint and of a built model, as bytes: carried along and hashed, not interpreted."""

from pathlib import Path

from efedllm.model.errors import ModelError
from efedllm.protocol.tokenizer_hash import TOKENIZER_FILES
from efedllm.strict_json import parse_json

MAX_FILE_BYTES = 64 << 20
TOKENIZER, CONFIG, TEMPLATE = TOKENIZER_FILES


def read_tokenizer_files(folder: Path) -> dict[str, bytes]:
    """Content by name of the tokenizer files in a folder. Raises ModelError without tokenizer.json."""
    files = {}
    for name in TOKENIZER_FILES:
        path = folder / name
        if not path.is_file():
            continue
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ModelError(f"{path}: is larger than {MAX_FILE_BYTES} bytes")
        files[name] = path.read_bytes()
    if TOKENIZER not in files:
        raise ModelError(f"{folder}: has no {TOKENIZER}; save the tokenizer in its fast form")
    return files


def source_tokenizer_files(folder: Path) -> dict[str, bytes]:
    """The tokenizer files of a checkpoint. A chat template inside tokenizer_config.json becomes a file of its own."""
    files = read_tokenizer_files(folder)
    if CONFIG in files and TEMPLATE not in files:
        try:
            config = parse_json(files[CONFIG])
        except ValueError as error:
            raise ModelError(f"{folder / CONFIG}: is not JSON ({error})") from error
        template = config.get("chat_template") if isinstance(config, dict) else None
        if isinstance(template, str):
            files[TEMPLATE] = template.encode("utf-8")
    return files
