"""
A GPT from the outside: the name to import, the sizes on paper, a trained model from its file.

    from gpt import GPT, GPTConfig, TOY, TINY, SMALL, MEDIUM, load
    model, tokenizer = load("out/python-tiny")

    python gpt.py                                       # every size: parameters, recipe, memory, time and money
    python gpt.py --size=small --vocab_size=32000       # a size of your own

The counts are taken from train.py's model itself, built on torch's meta device: shapes without memory.
"""
import argparse, difflib, glob, os, signal, sys
from dataclasses import replace
from types import SimpleNamespace

if __name__ == "__main__":  # Ctrl-C leaves without a traceback, also in the seconds that importing torch takes
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import torch

import train
from train import GPT, GPTConfig, MEDIUM, SMALL, TINY, TOY, UserError  # noqa: F401 (names to import from here)

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
        if self.characters is not None:
            for character in sorted(set(text.replace("<|endoftext|>", "")) - self.characters):  # tiktoken would panic
                raise UserError(f"the tokenizer has no token for {character!r} (U+{ord(character):04X}): "
                                f"it knows the {len(self.characters)} characters of its training text")
        return self.encoding.encode(text, allowed_special="all")

    def token_bytes(self, token):
        """A token's bytes, which may be only a part of a character; those of U+FFFD for an id that is no token."""
        known = 0 <= token < self.encoding.n_vocab
        return self.encoding.decode_single_token_bytes(token) if known else "\ufffd".encode()

    def decode(self, ids):
        """The text of any list of ids: what is no token, or not UTF-8, becomes U+FFFD."""
        return b"".join(self.token_bytes(int(token)) for token in ids).decode("utf-8", errors="replace")


def checkpoint_file(path):
    """The .pt file that `path` stands for: itself, or the best, else the latest, of a run or a folder's newest run."""
    if os.path.isfile(path):
        return path
    for depth in ("", "*/"):
        files = [os.path.join(path, file) for name in ("best.pt", "ckpt.pt", "ckpt_prev.pt")
                 for file in glob.glob(depth + name, root_dir=path)]
        if files:
            newest = os.path.dirname(max(files, key=os.path.getmtime))
            return next(file for file in files if os.path.dirname(file) == newest)
    raise UserError(f"there is no checkpoint in {path}: python prepare.py, then python train.py make one")


def load(path, device="cpu"):
    """
    (model, tokenizer) of a run's folder or a .pt file: a GPT in eval mode on `device`, float32, and its Tokenizer.
    Of a folder the weights of the lowest validation loss. UserError names a file that is missing or damaged.
    """
    path = checkpoint_file(path)
    checkpoint = train.load_checkpoint(path)
    try:
        shape = {name: value for name, value in checkpoint["config"].items() if hasattr(TINY, name)}
        config = GPTConfig(**shape)  # an older file lacks fields, a newer one has more
        tokenizer = Tokenizer(checkpoint["tokenizer"])
        if config.n_layers > len(checkpoint["model"]) or tokenizer.encoding.n_vocab > config.vocab_size:
            raise ValueError("more layers or tokens than weights")
        if not all(p.is_contiguous() for p in checkpoint["model"].values()):
            raise ValueError("a few numbers stretched to a large tensor")
        with torch.device("meta"):  # takes no memory: a file that claims more than it holds is found out below
            model = GPT(config)
        model.load_state_dict(checkpoint["model"], assign=True)
        if config.tie_weights:  # assign has parted them
            model.head.weight = model.tok_emb.weight
    except Exception as error:  # a dozen kinds, as any field may be wrong
        raise UserError(f"{path} does not hold the model or the tokenizer that it describes "
                        f"({type(error).__name__}): use another checkpoint") from None
    return model.to(device).eval(), tokenizer


# -----------------------------------------------------------------------------------------------------------------
# The sizes on paper.

PRICES = {"T4": 0.35, "A100": 1.80, "H200": 4.00}  # USD an hour of one card: assumed, as offers differ

PARTS = {"tok_emb": "token embeddings", "pos_emb": "position embeddings", "attn": "attention", "mlp": "MLP",
         "ln_": "LayerNorms", "head": "head"}  # by what the names of their parameters contain


def activation_bytes(config):
    """Bytes a token that autograd keeps for the backward pass under autocast to half precision, without dropout."""
    d = config.d_model
    layer_norm = 4 * d + 2 * 4 + 2 * d                # its input (float32), mean and 1/std, then its output (half)
    attention = 2 * (3 * d + d) + 4 * config.n_heads  # q, k, v and what proj reads (half); a log-sum-exp a head
    mlp = 2 * 2 * config.mlp_ratio * d                # before GELU, for its slope, and after it, for mlp.2
    loss = 4 * config.vocab_size                      # the head's log-probabilities: float32
    ids = 2 * 8                                       # inputs and targets: int64
    return config.n_layers * (2 * layer_norm + attention + mlp) + layer_norm + loss + ids


def predict_loss(n_params, tokens):
    """Nats a token by Hoffmann et al. 2022, equation 10 (approach 3), for n_params trained on so many tokens."""
    return 1.69 + 406.4 / n_params**0.34 + 410.7 / tokens**0.28


def time_text(hours):
    return f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:,.1f} min"


def describe(size, config, mfu=0.4, optimizer="muon"):
    """What follows from a size: a dict from labels to text, which is "" beside a heading. Builds no weights."""
    with torch.device("meta"):
        model = GPT(config)
    parts = {part: sum(p.numel() for name, p in model.named_parameters() if key in name) for key, part in PARTS.items()}
    n_params, T, sequences = sum(parts.values()), config.max_seq_len, train.SEQUENCES[size]
    lr, steps = train.recipe(config, n_params, sequences, train.LR_SCALES[optimizer])
    one_moment = sum(p.numel() for p in model.blocks.parameters() if p.dim() == 2) if optimizer == "muon" else 0
    tokens = 20 * n_params
    flops = train.flops_per_token(model)
    gpu = SimpleNamespace(device=torch.device("cuda"), batch_size=None, grad_accum_steps=None)
    micro_batch, _ = train.split_batch(gpu, sequences, T)
    activations = micro_batch * T * activation_bytes(config)
    table = {
        "": size,
        "layers x width, heads": f"{config.n_layers} x {config.d_model}, {config.n_heads}",
        "vocabulary, context": f"{config.vocab_size:,}, {T:,}",
        "parameters": "",
        **{f"  {part}": f"{n:,}" if n else "0 (tied)" for part, n in parts.items()},
        "  total": f"{n_params:,}",
        "  without embeddings": f"{n_params - parts['token embeddings'] - parts['position embeddings']:,}",
        "recipe": "",
        "  training FLOPs a token": f"{flops / 1e6:,.1f} M",
        "  Chinchilla tokens: 20 a parameter": f"{tokens / 1e6:,.1f} M",
        "  loss to expect, nats a token": f"{predict_loss(n_params, tokens):.2f}" if n_params >= 44e6 else "unknown",
        f"  peak learning rate of {optimizer}": f"{lr:.2e}",
        "  batch: sequences x context": f"{sequences} x {T:,}",
        "  tokens a step": f"{sequences * T:,}",
        "  steps": f"{steps:,}",
        "  micro-batch on a GPU": f"{micro_batch} x {T:,}",
        "memory on a GPU, MB": "",
        "  weights, float32": f"{4 * n_params / 1e6:,.1f}",
        "  their copies in half precision": f"{2 * n_params / 1e6:,.1f}",
        "  gradients, float32": f"{4 * n_params / 1e6:,.1f}",
        "  the optimizer's moments, float32": f"{(8 * n_params - 4 * one_moment) / 1e6:,.1f}",
        "  a micro-batch's activations": f"{activations / 1e6:,.1f}",
        "  all of these": f"{(18 * n_params - 4 * one_moment + activations) / 1e6:,.1f}",
        f"time and money at {mfu:.0%} of a card's peak": ""}
    for card, price in PRICES.items():
        peak = train.PEAK_FLOPS[card]
        hours = flops * tokens / (mfu * peak) / 3600
        label = f"  {card}: {peak / 1e12:.0f} TFLOP/s, ${price:.2f} an hour"
        table[label] = f"{time_text(hours)}, ${price * hours:,.2f}"
    return table


# -----------------------------------------------------------------------------------------------------------------
# The command line, sample.py's too.

def number(kind, lowest, highest):
    """A parser of a flag's text: a whole number (kind int) or any (float), lowest and highest included."""
    def parse(text):
        value = float(text)  # 1e4 is a whole number too
        if not lowest <= value <= highest or value != kind(value):
            raise ValueError
        return kind(value)
    parse.__name__ = f"{kind.__name__} ({lowest:,} to {highest:,})"  # argparse says "invalid int (1 to 9) value: 'x'"
    return parse


def true_or_false(text):
    """The same for True or False."""
    return bool(("false", "true").index(text.lower()))  # argparse says "invalid true_or_false value: 'x'"


def read_flags(parser, flags):
    """The command line as a namespace; `flags` are (name, parser of its text, default, meaning)."""
    for name, kind, default, meaning in flags:
        parser.add_argument(f"--{name}", type=kind, default=default, metavar="X", help=f"{meaning} [{default}]")

    def fail(message):
        raise UserError(message.removeprefix("argument "))

    parser.error = fail
    found, unknown = parser.parse_known_intermixed_args()
    for word in unknown:
        name = word.split("=")[0]
        known = [f"--{known}" for known in vars(found)]
        near = "".join(f", did you mean {flag}?" for flag in difflib.get_close_matches(name, known, n=1))
        raise UserError(f"unknown flag {name}{near} (--help lists them, each as --name=value)")
    return found


def main():
    parser = argparse.ArgumentParser(usage="python gpt.py [--name=value ...]", allow_abbrev=False, description=
                                     "The sizes on paper, as they are or with a shape of your own. None: the size's.")
    parser.add_argument("--size", choices=train.SIZES, help="this size alone")
    parser.add_argument("--optimizer", choices=train.LR_SCALES, default="muon",
                        help="muon keeps one moment of each weight in the blocks' matrices, adamw two of each [muon]")
    flags = read_flags(parser, [
        ("vocab_size", number(int, 1, 10**7), 4096, "tokens, <|endoftext|> counted"),
        ("max_seq_len", number(int, 1, 10**7), None, "context, in tokens"),
        ("d_model", number(int, 1, 10**5), None, "width"),
        ("n_heads", number(int, 1, 10**5), None, "attention heads; they divide d_model"),
        ("n_layers", number(int, 1, 1000), None, "transformer blocks"),
        ("bias", true_or_false, True, "biases in linear layers and LayerNorms"),
        ("tie_weights", true_or_false, True, "the head shares the token embedding's weights"),
        ("mfu", number(float, 0.001, 1), 0.4, "share of a card's peak FLOP/s that training reaches")])
    shape = {name: value for name, value in vars(flags).items() if value is not None and hasattr(TINY, name)}
    sizes = [flags.size] if flags.size else train.SIZES
    tables = [describe(size, replace(train.SIZES[size], **shape), flags.mfu, flags.optimizer) for size in sizes]
    for label in tables[0]:
        texts = [table[label] for table in tables]
        print(f"{label:<44}{''.join(f'{text:>18}' for text in texts)}" if any(texts) else f"\n{label}")
    print("""
Activations: what autograd keeps, without dropout, not compiled. 1 MB is 1e6 bytes. Prices and the share of the peak
are assumptions; toy and tiny reach far less. The loss is 1.69 + 406.4 / parameters^0.34 + 410.7 / tokens^0.28
(Hoffmann et al. 2022, equation 10), fitted to 44M to 16B parameters on MassiveText in a vocabulary of 32,000: another
text or tokenizer cannot be compared. Besiroglu et al. 2024 made another fit.""")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
