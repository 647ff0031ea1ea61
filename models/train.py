"""Train the shipped tiny Llama on a plain text of plays.

    python models/train.py --text FILE --out models/shakespeare/checkpoint [--minutes 18] [--seed 0]

Writes a Hugging Face checkpoint folder (bf16 weights, byte-level BPE tokenizer) to OUT and `heldout.txt`, the end of
the corpus that nothing was trained on, beside it. The learning rate follows the fraction of `--minutes` that has
passed, so that a slow or busy machine takes fewer steps but always finishes its schedule; for the same reason two
runs do not give the same weights.
"""

import argparse
import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HELDOUT_BYTES = 64 * 1024
VALIDATION_BYTES = 32 * 1024
VOCABULARY = 1024
CONTEXT = 512
END_OF_TEXT = "<|endoftext|>"
END_ID = 0

TOKENS_PER_STEP = 4096
LENGTHS = (256, 256, 512)  # taken in turn: short chunks for variety, long ones so that every position is trained
START_SHARE = 0.25  # chunks that begin with END_ID at the start of a speech, as a prompt does
PEAK_RATE = 2.5e-3
WARM_UP = 0.04  # fraction of the time
WEIGHT_DECAY = 0.1
DROPOUT = 0.1
CLIP = 1.0
VALIDATIONS = 24  # over the whole run


@dataclass(frozen=True)
class Corpus:
    """The text in order: training part, validation part, held-out part; each begins at the start of a speech."""

    train: str
    validation: str
    heldout: str


def split(text: str) -> Corpus:
    """Cut the last `HELDOUT_BYTES` and the `VALIDATION_BYTES` before them off, each rounded down to whole speeches.

    Raises ValueError where the text is too short to leave a training part.
    """
    if len(text.encode()) < 4 * (HELDOUT_BYTES + VALIDATION_BYTES):
        raise ValueError("the text is too short: give one of at least 400 kB")
    rest, heldout = _cut_tail(text, HELDOUT_BYTES)
    train, validation = _cut_tail(rest, VALIDATION_BYTES)
    return Corpus(train, validation, heldout)


def _cut_tail(text: str, size_bytes: int) -> tuple[str, str]:
    tail = text.encode()[-size_bytes:].decode(errors="ignore")
    tail = tail[tail.index("\n\n") + 2 :]
    return text[: len(text) - len(tail)], tail


def train_tokenizer(text: str) -> Tokenizer:
    """Byte-level BPE of `VOCABULARY` entries, `END_OF_TEXT` first; adds no token of its own when it encodes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    if tokenizer.get_vocab_size() != VOCABULARY or tokenizer.token_to_id(END_OF_TEXT) != END_ID:
        raise ValueError("the text is too uniform for the vocabulary: give a larger one")
    return tokenizer


def new_model() -> LlamaForCausalLM:
    """An untrained model in float32; outputs that add to the residual start smaller, by the number of additions."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=384,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=END_ID,
        eos_token_id=END_ID,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            for output in (layer.self_attn.o_proj, layer.mlp.down_proj):
                output.weight.mul_((2 * config.num_hidden_layers) ** -0.5)
    return model


def add_dropout(model: LlamaForCausalLM) -> None:
    """Drop parts of the embeddings and of every addition to the residual while the model is in training mode."""

    def drop(module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(output, DROPOUT, module.training)

    model.model.embed_tokens.register_forward_hook(drop)
    for layer in model.model.layers:
        layer.self_attn.o_proj.register_forward_hook(drop)
        layer.mlp.down_proj.register_forward_hook(drop)


def speech_starts(tokenizer: Tokenizer, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids int64 [tokens] of the text, int64 [speeches] positions in ids at which a speech begins)."""
    encoding = tokenizer.encode(text)
    starts = [i for i, (begin, _) in enumerate(encoding.offsets) if begin == 0 or text[begin - 2 : begin] == "\n\n"]
    return torch.tensor(encoding.ids), torch.tensor(starts)


def batches(ids: torch.Tensor, starts: torch.Tensor, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Endless chunks, int64 [rows, length + 1], `TOKENS_PER_STEP` predictions each."""
    while True:
        for length in LENGTHS:
            rows = TOKENS_PER_STEP // length
            begins = torch.randint(len(ids) - length, (rows,), generator=generator)
            usable = starts[starts <= len(ids) - length]
            speeches = usable[torch.randint(len(usable), (rows,), generator=generator)]
            fresh = torch.rand(rows, generator=generator) < START_SHARE
            begins = torch.where(fresh, speeches - 1, begins)
            chunk = ids[(begins[:, None] + torch.arange(length + 1)).clamp(min=0)]
            chunk[fresh, 0] = END_ID
            yield chunk


def learning_rate(fraction: float) -> float:
    """Linear warm-up, then half a cosine down to 1 % of the peak; `fraction` of the time in [0, 1]."""
    if fraction < WARM_UP:
        return PEAK_RATE * max(fraction / WARM_UP, 0.01)
    passed = min((fraction - WARM_UP) / (1 - WARM_UP), 1.0)
    return PEAK_RATE * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * passed)))


def loss_of(model: LlamaForCausalLM, chunk: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats over the predictions in chunk, int64 [rows, length + 1]."""
    logits = model(chunk[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), chunk[:, 1:].flatten())


@torch.no_grad()
def text_loss(model: LlamaForCausalLM, ids: torch.Tensor) -> float:
    """Mean nats per token of a text, ids int64 [tokens], in float32.

    `END_ID` goes first; windows of `CONTEXT` advance by half of it, so that each token is scored once, with at least
    half a window before it (but for the first window).
    """
    model.eval()
    stream = torch.cat([torch.tensor([END_ID]), ids])
    total, scored = 0.0, 0
    while scored < len(ids):
        end = min(CONTEXT if scored == 0 else scored + CONTEXT // 2, len(ids))
        window = stream[max(0, end - CONTEXT) : end + 1]
        logits = model(window[None, :-1], use_cache=False).logits[0, -(end - scored) :]
        total += torch.nn.functional.cross_entropy(logits.float(), window[-(end - scored) :], reduction="sum").item()
        scored = end
    model.train()
    return total / len(ids)


def optimizer_of(model: LlamaForCausalLM) -> torch.optim.AdamW:
    """AdamW that decays matrices only: norm gains have no reason to shrink."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=True)


def fit(
    model: LlamaForCausalLM,
    chunks: Iterator[torch.Tensor],
    validation: torch.Tensor,
    elapsed_fraction: Callable[[], float],
) -> None:
    """Train until `elapsed_fraction()` reaches 1 and leave the weights with the lowest validation loss in `model`."""
    optimizer = optimizer_of(model)
    best_loss, best = math.inf, copy.deepcopy(model.state_dict())
    step, next_validation, running = 0, 0.0, math.nan
    while True:
        fraction = elapsed_fraction()
        if fraction >= next_validation:
            loss = text_loss(model, validation)
            print(f"{fraction:6.1%} step {step} train {running:.4f} validation {loss:.4f}", flush=True)
            if loss < best_loss:
                best_loss, best = loss, copy.deepcopy(model.state_dict())
            next_validation = min(next_validation + 1 / VALIDATIONS, 1.0)
        if fraction >= 1.0:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(fraction)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss_tensor = loss_of(model, next(chunks))
        loss_tensor.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = loss_tensor.item()
        running = value if step == 0 else 0.95 * running + 0.05 * value
        step += 1
    model.load_state_dict(best)


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, out: Path) -> None:
    """Write the checkpoint folder, the weights rounded to bf16."""
    model.to(torch.bfloat16).save_pretrained(out)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, model_max_length=CONTEXT
    )
    wrapped.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the shipped tiny Llama on a plain text of plays.")
    parser.add_argument("--text", type=Path, required=True, help="UTF-8 text, speeches parted by empty lines")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder; heldout.txt goes beside it")
    parser.add_argument("--minutes", type=float, default=18.0, help="time for the whole schedule")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    started = time.monotonic()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    corpus = split(options.text.read_text(encoding="utf-8"))
    tokenizer = train_tokenizer(corpus.train)
    ids, starts = speech_starts(tokenizer, corpus.train)
    model = new_model()
    add_dropout(model)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(ids)} training tokens", flush=True)

    chunks = batches(ids, starts, torch.Generator().manual_seed(options.seed))
    validation = torch.tensor(tokenizer.encode(corpus.validation).ids)
    fit(model, chunks, validation, lambda: (time.monotonic() - started) / (60 * options.minutes))

    options.out.mkdir(parents=True, exist_ok=True)
    (options.out.parent / "heldout.txt").write_text(corpus.heldout, encoding="utf-8")
    save(model, tokenizer, options.out)
    saved = LlamaForCausalLM.from_pretrained(options.out, dtype=torch.float32)
    heldout = torch.tensor(tokenizer.encode(corpus.heldout).ids)
    loss = text_loss(saved, heldout)
    bits = loss * len(heldout) / math.log(2) / len(corpus.heldout.encode())
    print(f"held out: {len(heldout)} tokens, perplexity {math.exp(loss):.3f}, {bits:.4f} bits per byte", flush=True)


if __name__ == "__main__":
    main()
