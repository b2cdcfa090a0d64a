"""
Train a GPT of 1M, 10M or 100M parameters: the whole model and the whole loop, to be read from top to bottom.

    python prepare.py                        # text -> tokens: the standard library's source, in data/python
    python train.py --minutes=3              # the tiny model, its whole schedule fitted into three minutes
    python train.py --size=small --lr=1e-3   # every setting below is a flag; --help lists them
    python sample.py                         # text from the newest run

Or paste this file into a notebook cell, edit the settings at its top and run it. After any interruption run the same
command (or cell) again: training goes on from the last checkpoint. The model is GPT-2 (Radford et al. 2019); the
recipe is GPT-3's (Brown et al. 2020, appendix B) on as many tokens as Chinchilla's (Hoffmann et al. 2022).
"""
import argparse, base64, contextlib, csv, difflib, functools, itertools, json, math, os, re, signal, sys, time, zipfile
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import tiktoken
import torch
import torch.nn as nn
import torch.nn.functional as F

# -----------------------------------------------------------------------------------------------------------------
# Settings. None takes the value of the size's recipe or what suits the machine; the run prints what it took.

size = "tiny"            # model and recipe: toy, tiny, small or medium
dataset = "python"       # the folder in data_dir that prepare.py wrote
data_dir = "data"        # where the datasets are
out_dir = None           # where the run is kept; None: out/<dataset>-<size>
overwrite = False        # start anew where out_dir already holds a run
init_from = None         # a checkpoint (.pt) whose weights start this run: finetuning

d_model = None           # width of the residual stream
n_heads = None           # attention heads; they divide d_model
n_layers = None          # transformer blocks
max_seq_len = None       # context, in tokens
dropout = 0.0            # 0 for one pass over much text, 0.1 to 0.2 for many passes over little
bias = True              # biases in linear layers and LayerNorms, as in GPT-2
tie_weights = True       # the head shares the token embedding's weights, as in GPT-2

lr = None                # peak learning rate; None: lr_scale / sqrt(d_model)
lr_scale = 0.0166        # GPT-3's 6e-4 at d_model 768, carried over to other widths
batch_size = None        # sequences that the device holds at once
grad_accum_steps = None  # micro-batches of batch_size sequences in a step
max_steps = None         # optimizer steps; None: 20 tokens a parameter
minutes = None           # instead of max_steps: fit the whole run, schedule included, into this time
warmup_steps = None      # linear warm-up; None: 500, never more than a tenth of the run
weight_decay = 0.1       # on matrices only
grad_clip = 1.0          # largest norm of a step's gradient; 0: no limit
seed = 1337              # of the first weights, the order of the data, dropout and samples

eval_interval = None     # steps between evals, each with a sample and a checkpoint; None: by the run's length
eval_tokens = 262_144    # tokens of val in an eval, the same each time; 0: all of them
log_interval = 10        # steps between printed lines
stop_after = None        # minutes after which to save and leave: a session's time-out

device = None            # cpu, cuda, cuda:1, mps; None: the best there is
dtype = None             # float32, bfloat16 or float16; None: the device's fastest
compile = None           # torch.compile; None: on CUDA only


def whole(value):
    if float(value) != int(float(value)):  # "8", "1e4", 8 and 8.0 are whole numbers
        raise ValueError
    return int(float(value))


SETTINGS = {name: rule for names, *rule in (  # what each must be: in words, its parser, its test
    ("dataset data_dir out_dir init_from device", "a text", os.fspath, lambda v: v),
    ("size", "toy, tiny, small or medium", str, lambda v: v in SIZES),
    ("dtype", "float32, bfloat16 or float16", str, lambda v: v in ("float32", "bfloat16", "float16")),
    ("overwrite bias tie_weights compile", "True or False", lambda v: str(v).lower(), lambda v: v in ("true", "false")),
    ("d_model n_heads n_layers max_seq_len batch_size grad_accum_steps max_steps eval_interval log_interval",
     "a whole number above 0", whole, lambda v: v > 0),
    ("warmup_steps eval_tokens", "a whole number from 0", whole, lambda v: v >= 0),
    ("seed", "a whole number from 0 to 4294967295", whole, lambda v: 0 <= v < 2**32),
    ("lr lr_scale minutes stop_after", "a number above 0", float, lambda v: 0 < v < math.inf),
    ("weight_decay grad_clip", "a number from 0", float, lambda v: 0 <= v < math.inf),
    ("dropout", "a number from 0 to below 1", float, lambda v: 0 <= v < 1)) for name in names.split()}
MAY_DIFFER = """size dataset data_dir out_dir overwrite lr_scale batch_size grad_accum_steps device dtype compile
    eval_interval log_interval stop_after""".split()  # between a run and its resumption

say = functools.partial(print, flush=True)  # at once, also into a file or a pipe


class UserError(ValueError):
    """A user's mistake, told in one line: what is wrong and what to do. A bug keeps its traceback."""


def parse_setting(name, value):
    """A setting's value in its own type, from a flag's text or from Python; UserError where it cannot be."""
    if name not in SETTINGS:
        near = "".join(f", did you mean {word}?" for word in difflib.get_close_matches(name, SETTINGS, n=1))
        raise UserError(f"unknown setting {name}{near} (python train.py --help lists them)")
    if globals()[name] is None and value in (None, "None"):
        return None
    expected, parse, valid = SETTINGS[name]
    try:
        parsed = parse(value)
        if valid(parsed) and (value is not True or parsed == "true"):
            return parsed == "true" if expected == "True or False" else parsed
    except (ValueError, TypeError, OverflowError):
        pass
    raise UserError(f"{name} must be {expected}, not {value!r}")


def command_line():
    """The settings given as --name=value. --help is made of the comments beside the settings above."""
    parser = argparse.ArgumentParser(usage="python train.py [--name=value ...]", allow_abbrev=False)
    with open(__file__, encoding="utf-8") as source:
        comments = dict(re.findall(r"^(\w+) = .*?  # (.*)$", source.read(), re.M))
    for name, comment in comments.items():  # a bare --overwrite is --overwrite=True
        parser.add_argument(f"--{name}", default=argparse.SUPPRESS, nargs="?", const=True, metavar="",
                            help=f"{comment} [{globals()[name]}]")
    given, unknown = parser.parse_known_args()
    for flag in unknown:
        parse_setting(flag.split("=")[0].lstrip("-"), None)
        raise UserError(f"cannot read {flag}: a setting is --name=value")
    return vars(given)


# -----------------------------------------------------------------------------------------------------------------
# Sizes: one architecture, four widths and depths.

@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT. vocab_size counts <|endoftext|>, the last id."""
    vocab_size: int = 4096
    max_seq_len: int = 256
    d_model: int = 192
    n_heads: int = 6
    n_layers: int = 6
    mlp_ratio: int = 4
    dropout: float = 0.0
    bias: bool = True
    tie_weights: bool = True


TOY = GPTConfig(d_model=128, n_heads=4, n_layers=2)
TINY = GPTConfig()
SMALL = GPTConfig(d_model=384, n_heads=6, n_layers=8, max_seq_len=512)
MEDIUM = GPTConfig(d_model=768, n_heads=12, n_layers=12, max_seq_len=1024)
SIZES = {"toy": TOY, "tiny": TINY, "small": SMALL, "medium": MEDIUM}
SEQUENCES = {"toy": 32, "tiny": 32, "small": 64, "medium": 128}  # the recipe's batch: sequences a step

# -----------------------------------------------------------------------------------------------------------------
# The model. B sequences of T tokens; a shape stands beside the line that makes it.

class Attention(nn.Module):
    """Multi-head causal self-attention (Vaswani et al. 2017)."""

    def __init__(self, config):
        super().__init__()
        self.n_heads, self.dropout = config.n_heads, config.dropout
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=config.bias)
        self.proj = nn.Linear(config.d_model, config.d_model, bias=config.bias)

    def forward(self, x, cache=None, start=0):
        B, T, d_model = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.n_heads, d_model // self.n_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)                      # each (B, n_heads, T, head_dim)
        if cache is not None:                                     # (2, B, n_heads, max_seq_len, head_dim)
            cache[:, :, :, start:start + T] = torch.stack((k, v))
            k, v = cache[:, :, :, :start + T].to(q.dtype)
        # With a cache either start is 0 (a prompt: causal) or T is 1 (a new token, which sees all before it).
        y = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1, dropout_p=self.dropout if self.training else 0.0)
        return self.proj(y.transpose(1, 2).reshape(B, T, d_model))


class Block(nn.Module):
    """x + attention(x), then x + MLP(x), each reading x through a LayerNorm of its own (pre-LayerNorm)."""

    def __init__(self, config):
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(config.d_model, bias=config.bias), Attention(config)
        self.ln_2, self.mlp = nn.LayerNorm(config.d_model, bias=config.bias), nn.Sequential(
            nn.Linear(config.d_model, config.mlp_ratio * config.d_model, bias=config.bias),
            nn.GELU(approximate="tanh"),  # as GPT-2 has it
            nn.Linear(config.mlp_ratio * config.d_model, config.d_model, bias=config.bias))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x, cache=None, start=0):
        x = x + self.drop(self.attn(self.ln_1(x), cache, start))
        return x + self.drop(self.mlp(self.ln_2(x)))


class GPT(nn.Module):
    """GPT-2 in the shape of `config`: model(ids) gives logits, model(ids, targets) a loss."""

    def __init__(self, config):
        super().__init__()
        if config.d_model % config.n_heads:
            raise UserError(f"d_model={config.d_model} is not divisible by n_heads={config.n_heads}")
        self.config = config
        self.tok_emb = nn.Embedding(config.vocab_size, config.d_model)
        self.pos_emb = nn.Embedding(config.max_seq_len, config.d_model)
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.ln_f = nn.LayerNorm(config.d_model, bias=config.bias)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_weights:
            self.head.weight = self.tok_emb.weight
        for name, p in self.named_parameters():
            if p.dim() == 2:  # 2 * n_layers projections add up in the residual stream (GPT-2, section 2.3)
                into_residual = name.endswith(("attn.proj.weight", "mlp.2.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * config.n_layers) if into_residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def hidden(self, ids, cache=None, start=0):
        """The last block's output, normalised: ids (B, T) at positions start, start + 1, ... -> (B, T, d_model)."""
        positions = torch.arange(start, start + ids.size(1), device=ids.device)
        x = self.drop(self.tok_emb(ids) + self.pos_emb(positions))
        for i, block in enumerate(self.blocks):
            x = block(x, None if cache is None else cache[i], start)
        return self.ln_f(x)

    def forward(self, ids, targets=None):
        """ids (B, T) int64 -> logits (B, T, vocab_size); with targets (B, T) the mean loss in nats a token."""
        logits = self.head(self.hidden(ids))
        if targets is None:
            return logits
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))

    @torch.no_grad()
    def generate(self, ids, max_new_tokens, temperature=0.8, top_k=None, top_p=None, seed=None):
        """
        Continue ids (B, T) int64, T >= 1: yields (B,) int64 a step, max_new_tokens times.

        Temperature 0 takes the likeliest token; top_k keeps the k likeliest, top_p the fewest that together hold
        this much probability (Holtzman et al. 2020). Keys and values are cached, so that a step costs one
        position. When the context is full, its last half is read again and the rest forgotten.
        """
        if ids.size(1) == 0 or not temperature >= 0 or (1 if top_k is None else top_k) < 1 or not 0 < (1 if top_p is None else top_p) <= 1:
            raise UserError("generate needs ids to start from, temperature >= 0, top_k >= 1 and top_p from 0 to 1")
        generator = None if seed is None else torch.Generator(ids.device).manual_seed(seed)
        c, training = self.config, self.training
        cache = torch.empty(c.n_layers, 2, ids.size(0), c.n_heads, c.max_seq_len, c.d_model // c.n_heads,
                            device=ids.device, dtype=self.head.weight.dtype)
        window, cached = ids[:, -c.max_seq_len:], 0  # the tokens that the model sees, and how many are cached
        self.eval()
        try:
            for _ in range(max_new_tokens):
                if window.size(1) > c.max_seq_len:
                    window, cached = window[:, -max(1, c.max_seq_len // 2):], 0
                logits = self.head(self.hidden(window[:, cached:], cache, cached)[:, -1])  # (B, vocab_size)
                cached = window.size(1)
                token = choose(logits, temperature, top_k, top_p, generator)               # (B,)
                yield token
                window = torch.cat((window, token[:, None]), dim=1)
        finally:
            self.train(training)


def choose(logits, temperature, top_k, top_p, generator):
    """One token a row: logits (B, vocab_size) -> (B,) int64."""
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / temperature
    if top_k is not None:
        logits[logits < logits.topk(min(top_k, logits.size(-1))).values[:, -1:]] = -math.inf
    if top_p is not None:
        probs, order = logits.softmax(-1).sort(descending=True)
        beyond = probs.cumsum(-1) - probs >= top_p  # the likelier tokens alone hold top_p
        logits[torch.zeros_like(beyond).scatter(-1, order, beyond)] = -math.inf
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]


def flops_per_token(model):
    """Training FLOPs a token: 6 a weight, the head's included, and attention's (PaLM, Chowdhery et al. 2022, B)."""
    c = model.config
    weights = sum(p.numel() for p in model.blocks.parameters()) + sum(p.numel() for p in model.ln_f.parameters())
    return 6 * (weights + model.head.weight.numel()) + 12 * c.n_layers * c.d_model * c.max_seq_len


# -----------------------------------------------------------------------------------------------------------------
# The recipe: what the size decides.

def recipe(config, n_params, sequences, lr_scale):
    """(peak LR, steps) for a model of n_params parameters and a batch of so many sequences a step."""
    tokens = 20 * n_params  # Hoffmann et al. 2022, table 3
    return lr_scale / math.sqrt(config.d_model), math.ceil(tokens / (sequences * config.max_seq_len))


def lr_at(step, s):
    """The LR of step 0, 1, ...: linear warm-up, then a cosine to a tenth. A function of the step: nothing to save."""
    if step < s.warmup_steps:
        return s.lr * (step + 1) / s.warmup_steps
    progress = (step - s.warmup_steps) / max(1, s.max_steps - s.warmup_steps)
    return s.lr * (0.55 + 0.45 * math.cos(math.pi * progress))


def make_optimizer(model, s):
    """AdamW with GPT-3's betas; weight decay on matrices, not on biases and LayerNorms."""
    groups = [{"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": s.weight_decay},
              {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=s.lr, betas=(0.9, 0.95), fused=True)


def split_batch(s, sequences, T):
    """(batch_size, grad_accum_steps): as set, or one from the other and the recipe's batch, or what suits the device."""
    if s.batch_size and s.grad_accum_steps:
        return s.batch_size, s.grad_accum_steps
    divisors = [n for n in range(1, sequences + 1) if sequences % n == 0]
    room = 2048 if s.device.type == "cpu" else 16384  # tokens: logits that stay in a CPU's cache, or fit a 16 GB GPU
    given = s.batch_size or s.grad_accum_steps or max(n for n in divisors if n == 1 or n * T <= room)
    if given not in divisors:
        near = min(divisors, key=lambda n: abs(n - given))
        raise UserError(f"{'batch_size' if s.batch_size else 'grad_accum_steps'}={given} does not divide the recipe's "
                        f"{sequences} sequences a step: take {near}, or set both batch_size and grad_accum_steps")
    return (sequences // given, given) if s.grad_accum_steps else (given, sequences // given)


# -----------------------------------------------------------------------------------------------------------------
# Data: token ids as prepare.py wrote them.

def load_data(s):
    """(meta, train, val): the dict of a dataset's meta.json, and its splits as memory-mapped arrays of token ids."""
    folder = os.path.join(s.data_dir, s.dataset)
    command = f"python prepare.py --dataset={s.dataset}"
    if s.dataset not in ("python", "tinystories", "shakespeare"):
        command += " --input=YOUR_TEXT"
    try:
        with open(os.path.join(folder, "meta.json"), encoding="utf-8") as file:
            meta = json.load(file)
        ids = {"uint16": "<u2", "uint32": "<u4"}[meta["dtype"]]
        splits = [np.memmap(os.path.join(folder, f"{name}.bin"), ids, mode="r") for name in ("train", "val")]
        if [len(split) for split in splits] != [meta["splits"][name]["tokens"] for name in ("train", "val")]:
            raise ValueError("train.bin and val.bin are not as long as meta.json says")
    except FileNotFoundError as error:
        raise UserError(f"dataset={s.dataset}: there is no {error.filename}; make it by: {command}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"dataset={s.dataset}: {folder} is damaged ({error}); make it by: {command} --overwrite") from None
    return meta, *splits


def load_tokenizer(spec):
    """The tiktoken encoding in a meta.json's or a checkpoint's "tokenizer"."""
    tokens = [base64.b64decode(token) for token in spec["tokens"]]
    return tiktoken.Encoding(spec["name"], pat_str=spec["pattern"], special_tokens={"<|endoftext|>": len(tokens)},
                             mergeable_ranks={token: rank for rank, token in enumerate(tokens)})


@functools.lru_cache(maxsize=2)
def epoch_order(n_tokens, T, seed, epoch):
    """(offset into the ring of tokens, order of the windows) of an epoch; costs 8 bytes a window."""
    rng = np.random.RandomState([seed, epoch])  # its stream is frozen: the same order under any numpy
    return int(rng.randint(n_tokens, dtype=np.int64)), rng.permutation(n_tokens // T)


def window_starts(n_tokens, T, seed, first, count):
    """
    Where windows first .. first + count - 1 of the endless sequence of epochs start: (count,) int64.

    An epoch tiles the tokens, read as a ring, with n_tokens // T windows from an offset of its own: no token is a
    target twice in it, and fewer than T are left out. A pure function: a resumed run, and any split of a step into
    micro-batches, read the same data.
    """
    starts = []
    for i in range(first, first + count):
        epoch, k = divmod(i, n_tokens // T)
        offset, order = epoch_order(n_tokens, T, seed, epoch)
        starts.append(offset + int(order[k]) * T)
    return np.array(starts)


def read_windows(tokens, starts, config, device):
    """Windows of T + 1 tokens, the inputs and the targets one further on: (len(starts), T + 1) int64 on the device."""
    windows = tokens[(starts[:, None] + np.arange(config.max_seq_len + 1)) % len(tokens)].astype(np.int64)
    if windows.max() >= config.vocab_size:  # on a GPU an embedding would only say "device-side assert"
        raise UserError(f"the data holds token id {windows.max()}, the vocabulary ends at {config.vocab_size - 1}: "
                        f"prepare it anew")
    return torch.from_numpy(windows).to(device)


@torch.no_grad()
def evaluate(model, val, n_windows, s, token_bytes, stopping):
    """
    val_loss (nats a token) and bpb (bits per byte) over the first n_windows windows of val, the same at every eval.

    bpb counts the bytes of just those targets, so that another tokenizer can be compared. None if cut short.
    """
    T, losses, n_bytes = model.config.max_seq_len, [], []
    model.eval()
    for first in range(0, n_windows, s.batch_size):
        if stopping:
            break
        batch = read_windows(val, T * np.arange(first, min(first + s.batch_size, n_windows)), model.config, s.device)
        with s.autocast():
            losses.append(model(batch[:, :-1], batch[:, 1:]).float() * len(batch))
        n_bytes.append(token_bytes[batch[:, 1:]].sum())
    model.train()
    if not stopping:
        loss = math.fsum(torch.stack(losses).tolist()) / n_windows
        n_bytes = max(1, sum(torch.stack(n_bytes).tolist()))
        return {"val_loss": loss, "bpb": loss / math.log(2) * n_windows * T / n_bytes}


# -----------------------------------------------------------------------------------------------------------------
# Checkpoints: ckpt.pt to go on from, ckpt_prev.pt the one before it, best.pt the weights of the lowest val loss.

def save_checkpoint(folder, name, checkpoint):
    """Write a temporary file, flush it to the disk, rename it: whatever is killed, a whole file stays in place."""
    path = os.path.join(folder, name)
    try:
        with open(path + ".tmp", "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        if name == "ckpt.pt" and os.path.exists(path):
            os.replace(path, os.path.join(folder, "ckpt_prev.pt"))
        os.replace(path + ".tmp", path)
    except (OSError, RuntimeError) as error:  # a full disk, a drive that went away: the last good one stays
        say(f"warning: {path} could not be saved ({error}); the next save tries again")


def load_checkpoint(path):
    """A checkpoint's dict, on the CPU; UserError where the file is missing, damaged or not one of ours."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not notice a flipped byte in a tensor
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if damaged or checkpoint["format"] != 1:
            raise ValueError(damaged)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    except Exception as error:  # a broken file makes torch and zipfile raise a dozen kinds
        raise UserError(f"{path} is damaged or not a checkpoint of train.py ({type(error).__name__})") from None
    return checkpoint


def newest_checkpoint(out_dir):
    """The newest checkpoint in out_dir that can be read, or None; a damaged one is named and set aside."""
    for path in (os.path.join(out_dir, name) for name in ("ckpt.pt", "ckpt_prev.pt")):
        try:
            if os.path.exists(path):
                return load_checkpoint(path)
        except UserError as error:
            say(f"warning: {error}; kept as {path}.damaged")
            os.replace(path, path + ".damaged")


COLUMNS = ("step", "tokens", "loss", "val_loss", "bpb", "lr", "tokens_per_s", "mfu", "memory", "seconds")


def open_log(path, step):
    """(log.csv, open for more rows and without those past `step`; its last row or None)."""
    rows = []
    if os.path.exists(path):
        with open(path, newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("seconds") and int(row["step"]) <= step]
    with open(path + ".tmp", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(path + ".tmp", path)
    return open(path, "a", newline=""), rows[-1] if rows else None


# -----------------------------------------------------------------------------------------------------------------
# The machine.

PEAK_FLOPS = {  # dense half-precision FLOP/s by a part of the card's name: the makers' data sheets
    "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "A10": 125e12, "L4": 121e12,
    "T4": 65e12, "V100": 125e12, "RTX 4090": 165e12, "RTX 3090": 71e12}


def choose_device(s):
    """Set s.device, s.dtype, s.compile, s.autocast and s.peak_flops; returns what was chosen and why, in words."""
    name = s.device or ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        s.device = torch.empty(1, device=name).device
    except (RuntimeError, AssertionError):
        raise UserError(f"device={name} is not to be had here; without it the best device is taken") from None
    kind, card, best, why = s.device.type, f"{torch.get_num_threads()} threads", "float32", "half gains little here"
    if kind == "cuda":
        card = torch.cuda.get_device_name(s.device)
        best, why = "bfloat16", "the range of float32 in half its bytes"
        if torch.cuda.get_device_capability(s.device) < (8, 0):
            best, why = "float16", "no bfloat16 on this card; a scaler keeps small gradients from vanishing"
    s.dtype, why = s.dtype or best, why if s.dtype in (None, best) else "as set"
    s.compile = kind == "cuda" if s.compile is None else s.compile
    s.autocast = lambda: torch.autocast(kind, getattr(torch, s.dtype), enabled=s.dtype != "float32")
    s.peak_flops = next((PEAK_FLOPS[part] for part in PEAK_FLOPS if part in card and s.dtype != "float32"), None)
    torch.set_float32_matmul_precision("high")  # TF32 for the float32 products that remain on a GPU
    return f"{s.device} ({card}), {s.dtype} ({why}), torch.compile {'on' if s.compile else 'off'}"


def peak_memory(device):
    """GB: the most that tensors took on a GPU so far, or this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def printable(text):
    """The text without control characters, by which it could steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


@contextlib.contextmanager
def signals_into(stopping):
    """Ctrl-C, a notebook's stop button and SIGTERM append to the list `stopping`; a second Ctrl-C interrupts."""
    def handle(number, frame):
        stopping.append(signal.Signals(number).name)
        signal.signal(number, before[number])

    before = {}
    with contextlib.suppress(ValueError):  # not on the main thread: Python takes signals nowhere else
        before |= {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# -----------------------------------------------------------------------------------------------------------------
# The loop.

def micro_step(model, batch, s, scaler, *where):
    """Forward and backward of one micro-batch (b, T + 1); its part of the step's loss, still on the device."""
    if s.dropout:  # drawn anew from (seed, step, micro-batch), so that no generator's state need be saved
        torch.manual_seed(int(np.random.SeedSequence([s.seed, *where]).generate_state(1, np.uint64)[0]))
    with s.autocast():
        loss = model(batch[:, :-1], batch[:, 1:]) / s.grad_accum_steps
    scaler.scale(loss).backward()
    return loss.detach()


def fit_steps(model, batch, s, scaler, seconds, eval_batches, interval):
    """The steps that fit into `seconds`, evals included, by the clock. Changes nothing that lasts."""
    times = []
    while len(times) < 4 or sum(times[1:]) < min(5, 0.02 * seconds):  # the first warms up, and may compile
        start = time.perf_counter()
        micro_step(model, batch, s, scaler, 0, 0).item()
        times.append(time.perf_counter() - start)
    model.zero_grad()
    micro = sorted(times[1:])[len(times) // 2]
    one_eval = eval_batches * micro / 3  # a forward pass is a third of a step
    one_step = 1.03 * s.grad_accum_steps * micro + one_eval / interval
    return max(1, int((seconds - sum(times) - 2 * one_eval) / one_step))


def train(**overrides):
    """
    Train as the settings above say, overridden by keyword: train(size="small", max_steps=10_000).

    Goes on where out_dir holds this run's checkpoint. Returns the last step, tokens, loss and val_loss (nats a
    token) and bpb (bits per byte) as a dict. UserError, a ValueError, names a setting or a file that cannot be.
    """
    started = time.monotonic()
    s = SimpleNamespace(**{name: parse_setting(name, value) for name, value in
                           ({name: globals()[name] for name in SETTINGS} | overrides).items()})
    if s.minutes and s.max_steps:
        raise UserError("minutes and max_steps both say how long to train: give one of them")
    s.out_dir = s.out_dir or os.path.join("out", f"{s.dataset}-{s.size}")
    machine = choose_device(s)
    meta, train_data, val_data = load_data(s)
    shape = {name: getattr(s, name) for name in ("d_model", "n_heads", "n_layers", "max_seq_len") if getattr(s, name)}
    config = replace(SIZES[s.size], vocab_size=meta["vocab_size"], dropout=s.dropout, bias=s.bias,
                     tie_weights=s.tie_weights, **shape)
    T = config.max_seq_len
    if min(len(train_data), len(val_data)) <= T:
        raise UserError(f"dataset={s.dataset} has {len(train_data):,} train and {len(val_data):,} val tokens, a window "
                        f"takes {T + 1:,}: prepare more text, or set a smaller max_seq_len")
    torch.manual_seed(s.seed)
    model = GPT(config).to(s.device)  # made on the CPU: the same weights on every device
    step_model = torch.compile(model) if s.compile else model  # evals and samples, of other shapes, stay eager
    scaler = torch.amp.GradScaler(s.device.type, enabled=s.dtype == "float16")
    checkpoint = None if s.overwrite else newest_checkpoint(s.out_dir)

    # What is None takes the recipe's value.
    n_params = sum(p.numel() for p in model.parameters())
    s.batch_size, s.grad_accum_steps = split_batch(s, SEQUENCES[s.size], T)
    sequences = s.batch_size * s.grad_accum_steps  # a step
    tokens = sequences * T                         # a step
    eval_windows = max(1, (min(s.eval_tokens or len(val_data), len(val_data)) - 1) // T)
    eval_batches = math.ceil(eval_windows / s.batch_size)
    least_interval = math.ceil(10 / 3 * eval_batches / s.grad_accum_steps)  # steps: evals take a tenth of the time
    recipe_lr, recipe_steps = recipe(config, n_params, sequences, s.lr_scale)
    s.lr = s.lr or recipe_lr
    if s.minutes and checkpoint:
        s.max_steps = checkpoint["settings"]["max_steps"]
    elif s.minutes:
        batch = read_windows(train_data, window_starts(len(train_data), T, s.seed, 0, s.batch_size), config, s.device)
        left = 60 * s.minutes - (time.monotonic() - started)
        s.max_steps = fit_steps(step_model, batch, s, scaler, left, eval_batches, s.eval_interval or least_interval)
    s.max_steps = s.max_steps or recipe_steps
    s.warmup_steps = min(500, s.max_steps // 10) if s.warmup_steps is None else s.warmup_steps
    s.eval_interval = s.eval_interval or max(min(250, s.max_steps // 10), least_interval)

    # Go on with the run in out_dir if it is this one; or start with another's weights, or anew.
    settings = {name: getattr(s, name) for name in SETTINGS} | asdict(config) | {
        "device": str(s.device), "batch": sequences, "data": [meta["splits"][name]["crc32"] for name in ("train", "val")]}
    optimizer = make_optimizer(model, s)
    step, best_val_loss, result = 0, math.inf, {"loss": math.nan, "val_loss": math.nan, "bpb": math.nan}
    if checkpoint:
        differ = [f"{name} was {checkpoint['settings'][name]} and is now {value}" for name, value in settings.items()
                  if name not in MAY_DIFFER and checkpoint["settings"].get(name, value) != value]
        if differ:
            raise UserError(f"{s.out_dir} holds another run: {'; '.join(differ)}. Use its settings to go on with it, "
                            f"--out_dir to train beside it, or --overwrite=True to train anew")
        optimizer.load_state_dict(checkpoint["optimizer"])
        if scaler.is_enabled() and checkpoint.get("scaler"):
            scaler.load_state_dict(checkpoint["scaler"])
        step, best_val_loss, result = checkpoint["step"], checkpoint["best_val_loss"], checkpoint["result"]
    source = checkpoint or (load_checkpoint(s.init_from) if s.init_from else None)
    if source:
        differ = [name for name, value in asdict(config).items() if name != "dropout" and source["config"][name] != value]
        if differ or source["tokenizer"] != meta["tokenizer"]:
            raise UserError(f"init_from={s.init_from} has another {' and '.join(differ) or 'tokenizer'}: set its size, and "
                            f"prepare the text with --tokenizer=data/<its dataset>")
        model.load_state_dict(source["model"])
    try:
        os.makedirs(s.out_dir, exist_ok=True)
        for name in ("ckpt.pt", "ckpt_prev.pt", "best.pt") if s.overwrite else ():
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(s.out_dir, name))
        log, last_row = open_log(os.path.join(s.out_dir, "log.csv"), step if checkpoint else -1)
    except OSError as error:
        raise UserError(f"out_dir={s.out_dir} cannot be written: {error.strerror}") from None
    logged, seconds_before = (int(last_row["step"]), float(last_row["seconds"])) if last_row else (-1, 0.0)
    saved = step if checkpoint else -1
    say(f"machine    {machine}\n"
        f"model      {s.size}: {n_params:,} parameters, {sum(p.numel() for p in model.blocks.parameters()):,} in its blocks: "
        f"{config.n_layers} layers of {config.d_model}, vocabulary {config.vocab_size:,}\n"
        f"data       {s.data_dir}/{s.dataset}: {len(train_data):,} tokens to train on, {len(val_data):,} to validate\n"
        f"batch      {tokens:,} tokens a step: {s.batch_size} sequences x {s.grad_accum_steps} micro-batches x {T} tokens\n"
        f"schedule   {s.max_steps:,} steps, {s.max_steps * tokens:,} tokens: {s.max_steps * tokens / len(train_data):.2f} "
        f"epochs, {s.max_steps * tokens / n_params:.2f} tokens a parameter\n"
        f"lr         {s.lr:.2e} after {s.warmup_steps} steps of warm-up, then a cosine to a tenth\n"
        f"run        {s.out_dir}, {f'goes on at step {step:,}' if checkpoint else 'new'}; eval every {s.eval_interval} steps")
    if step == logged == s.max_steps:
        say("finished already: --overwrite=True trains anew")
    del source, checkpoint  # their tensors are in the model now

    def save(name):
        save_checkpoint(s.out_dir, name, {
            "format": 1, "model": model.state_dict(), "config": asdict(config), "settings": settings, "step": step,
            "best_val_loss": best_val_loss, "result": result, "tokenizer": meta["tokenizer"],
            "optimizer": optimizer.state_dict() if name == "ckpt.pt" else None, "scaler": scaler.state_dict()})

    # A turn of the loop looks at the model as it is after `step` steps (eval, log, save), then takes one more.
    tokenizer, endoftext = load_tokenizer(meta["tokenizer"]), config.vocab_size - 1
    token_bytes = torch.tensor([len(tokenizer.decode_single_token_bytes(i)) for i in range(endoftext)] + [0], device=s.device)
    stopping, bad_steps, turn, longest_turn = [], 0, time.monotonic(), 0.0
    trained, trained_steps = 0.0, 0  # seconds of training, and its steps, since the last line
    with log, signals_into(stopping):
        while True:
            longest_turn, turn = max(longest_turn, time.monotonic() - turn), time.monotonic()
            due = step == s.max_steps or step % s.eval_interval == 0
            if step > logged and (due or step == 1 or step % s.log_interval == 0):
                evaluated = evaluate(model, val_data, eval_windows, s, token_bytes, stopping) if due else {}
                if evaluated is None:
                    break  # cut short; log.csv has no row of this step, so that a resumed run evaluates it
                result |= evaluated
                speed = trained_steps * tokens / trained if trained else 0.0
                row = {"step": step, "tokens": step * tokens, "loss": result["loss"] if step else "",
                       "lr": lr_at(max(step - 1, 0), s), "tokens_per_s": round(speed), "memory": round(peak_memory(s.device), 3),
                       "mfu": round(speed * flops_per_token(model) / s.peak_flops, 4) if s.peak_flops else "",
                       "seconds": round(seconds_before + time.monotonic() - started, 1)} | evaluated
                csv.DictWriter(log, COLUMNS, lineterminator="\n").writerow(row)
                log.flush()
                logged = step
                if trained:
                    left = timedelta(seconds=round((s.max_steps - step) * trained / trained_steps))
                    say(f"step {step:,}/{s.max_steps:,} | {row['tokens'] / 1e6:.2f}M tokens | loss {row['loss']:.4f} | lr "
                        f"{row['lr']:.2e} | {speed:,.0f} tokens/s | " + (f"MFU {row['mfu']:.1%} | " if s.peak_flops else "") +
                        f"{row['memory']:.2f} GB | {left} to go")
                trained, trained_steps = 0.0, 0
                if due:
                    sound = math.isfinite(result["val_loss"])
                    say(f"eval: val loss {result['val_loss']:.4f} nats a token, perplexity "
                        f"{math.exp(min(99, result['val_loss'])):.2f}, {result['bpb']:.4f} bits per byte")
                    if step and sound:
                        with s.autocast():
                            ids = model.generate(torch.tensor([[endoftext]], device=s.device), 100, seed=s.seed)
                            ids = list(itertools.takewhile(lambda id: id != endoftext, (int(id) for id in ids)))
                        say(f"sample: {printable(tokenizer.decode(ids))}\n")
                    if result["val_loss"] < best_val_loss:
                        best_val_loss = result["val_loss"]
                        save("best.pt")
                    if sound:
                        save("ckpt.pt")
                        saved = step
            if s.stop_after and time.monotonic() - started + 1.5 * longest_turn > 60 * s.stop_after:
                stopping.append(f"stop_after={s.stop_after}")
            if step == s.max_steps or stopping:
                break

            step_started = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = lr_at(step, s)
            starts = window_starts(len(train_data), T, s.seed, step * sequences, sequences)
            batch, losses = read_windows(train_data, starts, config, s.device), []  # (sequences, T + 1): the whole step's
            for i, micro_batch in enumerate(batch.split(s.batch_size)):
                if not stopping:
                    losses.append(micro_step(step_model, micro_batch, s, scaler, step, i))
            if stopping:
                break  # the unfinished step is dropped: a resumed run does it again
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(model.parameters(), s.grad_clip or math.inf)
            loss, norm = torch.stack((sum(losses), norm)).tolist()  # the step's one wait for the device
            bad = not math.isfinite(loss) or not math.isfinite(norm) and not scaler.is_enabled()
            if bad:
                say(f"warning: loss {loss}, gradient norm {norm} in step {step + 1}: skipped")
            else:
                scaler.step(optimizer)  # in float16 it skips by itself a step whose gradients overflowed
            scaler.update()
            optimizer.zero_grad()
            bad_steps = bad_steps + 1 if bad else 0
            if bad_steps == 10:
                raise UserError(f"ten steps in a row were not finite, the last step {step + 1} at lr {lr_at(step, s):.2e}: try "
                                f"a smaller lr or dtype=float32; {s.out_dir} keeps the last sound checkpoint")
            step, result["loss"] = step + 1, loss
            trained, trained_steps = trained + time.perf_counter() - step_started, trained_steps + 1
        if saved < step:
            save("ckpt.pt")
    say(f"{stopping[0]}: stopped at step {step:,}, the same command (or cell) goes on from there" if stopping else
        f"finished: python sample.py {s.out_dir} writes text")
    return {"step": step, "tokens": step * tokens} | result


if __name__ == "__main__":
    try:
        train(**(command_line() if "__file__" in globals() else {}))  # a notebook's cell has no command line
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
