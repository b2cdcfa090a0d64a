"""
A GPT from the outside: the name to import, the sizes on paper, a trained model from its file.

    from gpt import GPT, GPTConfig, TOY, TINY, SMALL, MEDIUM, load
    model, tokenizer = load("out/python-tiny")

    python gpt.py                                       # every size: parameters, recipe, memory, time and money
    python gpt.py --size=small --vocab_size=32000       # a size of your own, and the loss to expect of it

The counts are taken from train.py's model itself, built on torch's meta device: shapes without memory.
"""
import argparse, difflib, os, sys
from dataclasses import fields, replace
from types import SimpleNamespace

import torch

import train
from train import GPT, GPTConfig, MEDIUM, SMALL, TINY, TOY, UserError  # noqa: F401 (names to import from here)

ENDOFTEXT = "<|endoftext|>"

# -----------------------------------------------------------------------------------------------------------------
# A trained model from its file.

class Tokenizer:
    """A checkpoint's own tokenizer: text to token ids and back. `endoftext` is the id that ends a document."""

    def __init__(self, spec):
        self.encoding = train.load_tokenizer(spec)
        self.endoftext = self.encoding.eot_token
        self.characters = None  # the only ones it knows, where a token is a character
        if spec["name"] == "char":
            self.characters = {token.decode("utf-8") for token in self.encoding.token_byte_values()}

    def encode(self, text):
        """list[int]; the text `<|endoftext|>` is one token. UserError: a character that a char tokenizer lacks."""
        for character in text.replace(ENDOFTEXT, "") if self.characters is not None else ():
            if character not in self.characters:  # found here, because tiktoken would panic
                raise UserError(f"the tokenizer has no token for {character!r} (U+{ord(character):04X}): "
                                f"it knows the {len(self.characters)} characters of its training text")
        return self.encoding.encode(text, allowed_special="all")

    def token_bytes(self, token):
        """A token's bytes, which may be only a part of a character; those of U+FFFD for an id that is no token."""
        try:
            return self.encoding.decode_single_token_bytes(token)
        except (KeyError, OverflowError):
            return "\ufffd".encode()

    def decode(self, ids):
        """The text of any list of ids: what is no token, or not UTF-8, becomes U+FFFD."""
        return b"".join(self.token_bytes(int(token)) for token in ids).decode("utf-8", errors="replace")


def checkpoint_file(path, best=True):
    """The .pt file that `path` stands for: itself, or a run's best.pt, else its ckpt.pt, else ckpt_prev.pt."""
    if os.path.isfile(path):
        return path
    for name in ("best.pt", "ckpt.pt", "ckpt_prev.pt")[0 if best else 1:]:
        if os.path.isfile(os.path.join(path, name)):
            return os.path.join(path, name)
    raise UserError(f"there is no checkpoint at {path}: name a run's folder or a .pt file, or make one by: "
                    f"python train.py --out_dir={path}")


def load(path, device="cpu", best=True):
    """
    (model, tokenizer) of a run's folder or a .pt file: a GPT in eval mode on `device`, and its Tokenizer.

    Of a folder the weights of the lowest validation loss are taken (best.pt) if it has them, with best=False the
    latest. The weights are of the file's dtype, float32. UserError names a file that is missing or damaged.
    """
    path = checkpoint_file(path, best)
    checkpoint = train.load_checkpoint(path)
    try:
        known = {field.name for field in fields(GPTConfig)}  # an older file lacks some, a newer one has more
        config = GPTConfig(**{name: value for name, value in checkpoint["config"].items() if name in known})
        if config.n_layers > len(checkpoint["model"]):
            raise ValueError("fewer tensors than layers")
        with torch.device("meta"):  # takes no memory: a file that claims more than it holds is found out below
            model = GPT(config)
        model.load_state_dict(checkpoint["model"], assign=True)
        if config.tie_weights:  # assign has parted them
            model.head.weight = model.tok_emb.weight
        tokenizer = Tokenizer(checkpoint["tokenizer"])
        if tokenizer.encoding.n_vocab > config.vocab_size:
            raise ValueError("more tokens than the model's vocabulary")
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise UserError(f"{path} does not hold the model or the tokenizer that it describes "
                        f"({type(error).__name__}): use another checkpoint") from None
    return model.to(device).eval(), tokenizer


# -----------------------------------------------------------------------------------------------------------------
# The sizes on paper.

MFU = {"T4": 0.30, "A100": 0.40, "H200": 0.40}    # share of a card's peak: assumed, not measured
PRICES = {"T4": 0.35, "A100": 1.80, "H200": 4.00}  # USD an hour of one card: assumed, as offers differ

PARTS = {"tok_emb": "token embeddings", "pos_emb": "position embeddings", "attn": "attention", "mlp": "MLP",
         "ln_": "LayerNorms", "head": "head"}  # by what the names of their parameters contain


def count_parameters(model):
    """Parameters by part, a dict from the names in PARTS to counts; a tied head has none of its own."""
    counts = dict.fromkeys(PARTS.values(), 0)
    for name, p in model.named_parameters():  # which names a shared weight once
        counts[next(part for key, part in PARTS.items() if key in name)] += p.numel()
    return counts


def activation_bytes(config, half):
    """
    Bytes a token that autograd keeps from the forward pass for the backward one, without dropout.

    `half`: under autocast to float16 or bfloat16. That keeps a half copy of every matrix too, once for all tokens.
    """
    d, product = config.d_model, 2 if half else 4    # bytes of a number that enters or leaves a matrix product
    layer_norm = 4 * d + 2 * 4 + product * d         # its input (float32 always), mean and 1/std, then its output
    attention = product * (3 * d + d) + 4 * config.n_heads  # q, k, v and what proj reads; a log-sum-exp a head
    mlp = 2 * product * config.mlp_ratio * d         # before GELU, for its slope, and after it, which proj reads
    blocks = config.n_layers * (2 * layer_norm + attention + mlp)
    loss = 4 * config.vocab_size                     # the head's log-probabilities: float32 always
    return blocks + layer_norm + loss + 2 * 8        # ids and targets: int64


def predict_loss(n_params, tokens):
    """Nats a token by Hoffmann et al. 2022, equation 10 (approach 3), for n_params trained on so many tokens."""
    return 1.69 + 406.4 / n_params**0.34 + 410.7 / tokens**0.28


def describe(size, config, batch_size=None, mfu=MFU, prices=PRICES, prediction=False):
    """All that follows from a size, as rows (label, text); a row without text is a heading. Builds no weights."""
    with torch.device("meta"):
        model = GPT(config)
    parts = count_parameters(model)
    n_params, T, sequences = sum(parts.values()), config.max_seq_len, train.SEQUENCES[size]
    flops = train.flops_per_token(model)                                         # a token
    lr, steps = train.recipe(config, n_params, sequences, train.lr_scale)
    tokens = 20 * n_params
    embeddings = parts["token embeddings"] + parts["position embeddings"]

    rows = [("", size), ("layers x width, heads", f"{config.n_layers} x {config.d_model}, {config.n_heads}"),
            ("vocabulary, context", f"{config.vocab_size:,}, {T:,}"), ("parameters", "")]
    rows += [(f"  {part}", f"{n:,}" if n else "0 (tied)") for part, n in parts.items()]
    rows += [("  total", f"{n_params:,}"), ("  without embeddings", f"{n_params - embeddings:,}")]

    rows += [("recipe", ""),
             ("  training FLOPs a token", f"{flops / 1e6:,.1f} M"),
             ("  Chinchilla tokens: 20 a parameter", f"{tokens / 1e6:,.1f} M"),
             ("  peak learning rate", f"{lr:.2e}"),
             ("  batch: sequences x context", f"{sequences} x {T:,}"),
             ("  tokens a step", f"{sequences * T:,}"),
             ("  steps", f"{steps:,}")]
    if prediction:
        rows += [("  validation loss, Hoffmann et al. 2022", f"{predict_loss(n_params, tokens):.2f} nats a token")]

    rows += [("memory", ""),
             ("  weights, float32", size_text(4 * n_params)),
             ("  gradients, float32", size_text(4 * n_params)),
             ("  Adam's two moments, float32", size_text(2 * 4 * n_params))]
    tables = embeddings if not config.tie_weights else parts["position embeddings"]
    for device, half in (("cpu", False), ("cuda", True)):
        # train.py's own choice of micro-batch
        asked = SimpleNamespace(batch_size=batch_size, grad_accum_steps=None, device=torch.device(device))
        micro_batch, _ = train.split_batch(asked, sequences, T)
        activations = micro_batch * T * activation_bytes(config, half)
        copies = 2 * (n_params - tables - parts["LayerNorms"]) if half else 0    # bytes of the matrices' half copies
        where = "GPU, half precision" if half else "CPU, float32"
        rows += [(f"  {where}: micro-batch", f"{micro_batch} x {T:,}"),
                 ("    activations", size_text(activations + copies)),
                 ("    with weights, gradients and moments", size_text(16 * n_params + activations + copies))]

    rows += [("time and money for the Chinchilla tokens", ""), ("  FLOPs", f"{flops * tokens:.2e}")]
    for card in MFU:
        seconds = flops * tokens / (mfu[card] * train.PEAK_FLOPS[card])
        share = f"{mfu[card]:.0%} of {train.PEAK_FLOPS[card] / 1e12:.0f} TFLOP/s"
        rows += [(f"  {card}: {share}, ${prices[card]:.2f} an hour",
                  f"{time_text(seconds)}, ${seconds / 3600 * prices[card]:,.2f}")]
    return rows


def size_text(n_bytes):
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:,.2f} GB"


def time_text(seconds):
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= 2 * length or unit == "s":
            return f"{seconds / length:,.1f} {unit}"


# -----------------------------------------------------------------------------------------------------------------
# The command line, sample.py's too: a mistake is one line.

def read_flags(parser):
    """The parser's flags as a namespace; UserError for a mistake, with the nearest flag where one is unknown."""
    def fail(message):
        raise UserError(message.removeprefix("argument "))

    parser.error = fail
    flags, unknown = parser.parse_known_args()
    for word in unknown:
        name = word.split("=")[0]
        near = difflib.get_close_matches(name, [f"--{known}" for known in vars(flags)], n=1)
        hint = f", did you mean {near[0]}?" if near else ""
        raise UserError(f"unknown flag {name}{hint} (--help lists them, each as --name=value)")
    return flags


def number(kind, lowest, highest):
    """A parser of a flag's text: a whole number (kind int) or any (float), lowest and highest included."""
    def parse(text):
        try:
            value = float(text)
            if lowest <= value <= highest and value == kind(value):
                return kind(value)
        except ValueError:
            pass
        whole = "whole " if kind is int else ""
        raise argparse.ArgumentTypeError(f"must be a {whole}number from {lowest:,} to {highest:,}, not {text!r}")
    return parse


def true_or_false(text):
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be True or False, not {text!r}")
    return text.lower() == "true"


def each_card(defaults, highest):
    """A parser of 0.5 (for every card) or T4:0.3,A100:0.5 (for those named): a dict from cards to numbers."""
    def parse(text):
        values = dict(defaults)
        for entry in text.split(","):
            card, colon, value = entry.rpartition(":")
            if colon and card not in defaults:
                raise argparse.ArgumentTypeError(f"there is no card {card!r} here, only {', '.join(defaults)}")
            values |= dict.fromkeys([card] if colon else defaults, number(float, 0.001, highest)(value))
        return values
    return parse


def main():
    parser = argparse.ArgumentParser(usage="python gpt.py [--name=value ...]", allow_abbrev=False, description=
                                     "The sizes on paper: parameters, recipe, memory, time and money.")
    parser.add_argument("--size", choices=train.SIZES, help="this size alone, with its loss predicted")
    for name, highest, meaning in (
            ("vocab_size", 10**7, "tokens, <|endoftext|> counted"), ("max_seq_len", 10**7, "context, in tokens"),
            ("d_model", 10**5, "width"), ("n_heads", 10**5, "attention heads; they divide d_model"),
            ("n_layers", 1000, "transformer blocks")):
        parser.add_argument(f"--{name}", type=number(int, 1, highest), metavar="INT", help=f"{meaning} [the size's]")
    for name, meaning in (("bias", "biases in linear layers and LayerNorms"),
                          ("tie_weights", "the head shares the token embedding's weights")):
        parser.add_argument(f"--{name}", type=true_or_false, metavar="BOOL", help=f"{meaning} [True]")
    parser.add_argument("--batch_size", type=number(int, 1, 10**6), metavar="INT",
                        help="sequences in a micro-batch [train.py's choice]")
    parser.add_argument("--mfu", type=each_card(MFU, 1), default=MFU, metavar="0.5|T4:0.3,...",
                        help=f"share of a card's peak that training reaches {MFU}")
    parser.add_argument("--price", type=each_card(PRICES, 10**6), default=PRICES, metavar="2|T4:0.5,...",
                        help=f"USD an hour of one card {PRICES}")
    flags = read_flags(parser)
    given = {name: value for name, value in vars(flags).items() if value is not None}
    own = {field.name: given[field.name] for field in fields(GPTConfig) if field.name in given}
    columns = [describe(size, replace(train.SIZES[size], **own), flags.batch_size, flags.mfu, flags.price,
                        prediction=bool(flags.size)) for size in ([flags.size] if flags.size else train.SIZES)]
    for rows in zip(*columns):
        label, texts = rows[0][0], [text for _, text in rows]
        print(f"{label:<44}{''.join(f'{text:>18}' for text in texts)}" if any(texts) else f"\n{label}")
    print("""
Activations: what autograd keeps, without dropout, not compiled. MB and GB are powers of 10. The shares of a card's
peak and the prices are assumptions (toy and tiny reach far less of it): set --mfu and --price to what you see.""")
    if flags.size:
        print("""
The loss is 1.69 + 406.4 / parameters^0.34 + 410.7 / tokens^0.28 (equation 10), fitted to models of 70M to 16B
parameters on MassiveText in a SentencePiece vocabulary of 32,000: smaller models are extrapolated, and another text
or tokenizer cannot be compared. Besiroglu et al. 2024 could not reproduce the fit and made another.""")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
