"""
Train a GPT of 1M, 3.5M, 16M or 89M parameters: the whole model and the whole loop, to be read from top to bottom.

    python prepare.py                        # text -> tokens: the standard library's source, in data/python
    python train.py --minutes=3              # the tiny model, its whole schedule fitted into three minutes
    python train.py --size=small --lr=5e-3   # every setting below is a flag; --help lists them
    python sample.py                         # text from the newest run
    torchrun --standalone --nproc_per_node=8 train.py --size=medium  # on eight GPUs

Or paste this file into a notebook cell, edit the settings at its top and run it. After any interruption run the same
command (or cell) again: training goes on from the last checkpoint. The model is GPT-2 (Radford et al. 2019), the
schedule GPT-3's (Brown et al. 2020, appendix B), the optimizer Muon (Jordan et al. 2024) with AdamW, the tokens as many
as Chinchilla's (Hoffmann et al. 2022).
"""
import argparse, base64, contextlib, csv, difflib, functools, importlib.util, json, math, mmap, os, re, signal
import statistics, sys, time, zipfile, zlib
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

STARTED = time.monotonic()  # before torch is imported, which takes seconds that stop_after counts
AS_SCRIPT = __name__ == "__main__" and "__file__" in globals()  # neither imported nor pasted into a notebook's cell
if AS_SCRIPT:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until train() sees to it, Ctrl-C leaves without a traceback
# How many processes torchrun started, and the number of this one among all and on its machine.
BY_TORCHRUN = {"WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys()
WORLD_SIZE, RANK, LOCAL_RANK = (int(os.environ[name]) if BY_TORCHRUN else usual
                                for name, usual in (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0)))
import numpy as np
import tiktoken
import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint as recompute

# ---- Settings. None takes the recipe's value or what suits the machine; the run prints what it took -------------
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

optimizer = "muon"       # muon, or adamw as GPT-3 had
lr = None                # peak learning rate; None: lr_scale / d_model
lr_scale = None          # None: 2.5 for muon, 0.3 for adamw
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
grad_checkpoint = False  # keep less for the backward pass, compute it again: less memory, a fifth more time
zero = False             # under torchrun each process keeps only its part of the optimizer's moments (ZeRO, stage 1)

# Names of settings: (their type, what they must be in words, the test of that)
KINDS = {
    "dataset data_dir out_dir init_from device": (str, "a text", lambda v: v != ""),
    "size": (str, "toy, tiny, small or medium", lambda v: v in SIZES),
    "optimizer": (str, "muon or adamw", lambda v: v in LR_SCALES),
    "dtype": (str, "float32, bfloat16 or float16", lambda v: v in ("float32", "bfloat16", "float16")),
    "overwrite bias tie_weights compile grad_checkpoint zero": (bool, "True or False", lambda v: True),
    "n_layers": (int, "a whole number from 1 to 1,000", lambda v: 1 <= v <= 1000),
    "d_model n_heads max_seq_len batch_size grad_accum_steps":
        (int, "a whole number from 1 to 100,000", lambda v: 1 <= v <= 10**5),
    "max_steps eval_interval log_interval": (int, "a whole number from 1 to 4,294,967,295", lambda v: 1 <= v < 2**32),
    "warmup_steps eval_tokens seed": (int, "a whole number from 0 to 4,294,967,295", lambda v: 0 <= v < 2**32),
    "minutes stop_after": (float, "a number above 0, at most 1,000,000", lambda v: 0 < v <= 10**6),
    "lr lr_scale": (float, "a number above 0", lambda v: 0 < v < math.inf),
    "weight_decay grad_clip": (float, "a number from 0", lambda v: 0 <= v < math.inf),
    "dropout": (float, "a number from 0 to below 1", lambda v: 0 <= v < 1)}
SETTINGS = {name: kind for names, kind in KINDS.items() for name in names.split()}

def printable(text):
    """The text without control characters, by which it could steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)

def say(text):
    """Print at once, on the first process alone. What a terminal cannot show, or a closed pipe, must not end a run."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError):
        if RANK == 0:
            print(printable(text).encode(encoding, "replace").decode(encoding), flush=True)

class UserError(ValueError):
    """
    A user's mistake, told in one line: what is wrong and what to do. A bug keeps its traceback. Of several processes
    all find it and the first on each machine tells it; one that is a process's `own` it tells itself.
    """

    def __init__(self, text, own=False):
        super().__init__(printable(text).replace("\n", " "))  # it may hold words from a stranger's checkpoint
        self.own = own

def parse_setting(name, value):
    """A setting's value in its own type, from a flag's text or from Python; UserError where it cannot be."""
    if name not in SETTINGS:
        near = difflib.get_close_matches(name.split("=")[0], SETTINGS, n=1)
        raise UserError(f"there is no setting {name}{f', did you mean --{near[0]}?' if near else ''} (see --help)")
    if globals()[name] is None and value in (None, "None"):
        return None
    kind, expected, valid = SETTINGS[name]
    with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError):
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        number = os.fspath(value) if kind is str else float(str(value))  # 1e4 is a whole number, True is none
        if kind(number) == number and valid(kind(number)):
            return kind(number)
    raise UserError(f"{name} must be {expected}, not {value!r}")

def command_line():
    """The settings given as --name=value. --help prints the settings above as they stand in this file."""
    settings = Path(__file__).read_text(encoding="utf-8").split("\n# ---- ")[1].split("\n\n# Names")[0]
    parser = argparse.ArgumentParser(usage="python train.py [--name=value ...]", allow_abbrev=False, description=re.sub(
        r"^(\w+) = (\S+)", r"--\1=\2", settings, flags=re.M), formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in SETTINGS:  # a bare --overwrite is --overwrite=True
        parser.add_argument(f"--{name}", default=argparse.SUPPRESS, nargs="?", const=True, help=argparse.SUPPRESS)
    given, unknown = parser.parse_known_args()
    return vars(given) | {flag.split("=")[0][2:] if flag.startswith("--") else flag: None for flag in unknown}

# ---- Sizes: one architecture, four widths and depths ------------------------------------------------------------
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

# ---- The model. B sequences of T tokens; a shape stands beside the line that makes it ---------------------------
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
        d_model, d_mlp, bias = config.d_model, config.mlp_ratio * config.d_model, config.bias
        self.ln_1, self.attn = nn.LayerNorm(d_model, bias=bias), Attention(config)
        self.ln_2, self.mlp = nn.LayerNorm(d_model, bias=bias), nn.Sequential(  # GELU in GPT-2's form of it
            nn.Linear(d_model, d_mlp, bias=bias), nn.GELU(approximate="tanh"), nn.Linear(d_mlp, d_model, bias=bias))
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
        self.config, self.grad_checkpoint = config, False
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

    def forward(self, ids, targets=None, cache=None, start=0):
        """
        ids (B, T) int64 -> logits (B, T, vocab_size); with targets (B, T) the mean loss in nats a token. With
        generate's cache the ids are at positions start, start + 1, ... and the logits are the last one's alone.
        """
        end = start + ids.size(1)
        if end > self.config.max_seq_len:  # on a GPU an embedding would only say "device-side assert"
            raise UserError(f"{end} tokens do not fit max_seq_len={self.config.max_seq_len}")
        x = self.drop(self.tok_emb(ids) + self.pos_emb(torch.arange(start, end, device=ids.device)))  # (B, T, d_model)
        for i, block in enumerate(self.blocks):
            if self.grad_checkpoint and self.training:  # keep x alone (Chen et al. 2016)
                x = recompute(block, x, use_reentrant=False)
            else:
                x = block(x, None if cache is None else cache[i], start)
        logits = self.head(self.ln_f(x if cache is None else x[:, -1:]))
        return logits if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def generate(self, ids, max_new_tokens, temperature=0.8, top_k=None, top_p=None, seed=None):
        """
        Continue ids (B, T) int64, T >= 1: yields (B,) int64 a step. Temperature 0 takes the likeliest token; top_k
        keeps the k likeliest, top_p the fewest that together hold this much probability (Holtzman et al. 2020). Keys
        and values are cached, so that a step costs one position. When the context is full, its last half is read
        again and the rest forgotten.
        """
        k, p = 1 if top_k is None else top_k, 1 if top_p is None else top_p
        if not (ids.size(1) and temperature >= 0 and k >= 1 and 0 < p <= 1):
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
                logits = self(window[:, cached:], cache=cache, start=cached)[:, -1]  # (B, vocab_size)
                cached = window.size(1)
                token = choose(logits, temperature, top_k, top_p, generator)         # (B,)
                yield token
                window = torch.cat((window, token[:, None]), dim=1)
        finally:
            self.train(training)

def choose(logits, temperature, top_k, top_p, generator):
    """One token a row: logits (B, vocab_size) -> (B,) int64."""
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.float()
    logits = (logits - logits.max(-1, keepdim=True).values) / max(temperature, 1e-6)  # at most 0: none overflows
    if top_k is not None:
        logits[logits < logits.topk(min(top_k, logits.size(-1))).values[:, -1:]] = -math.inf
    if top_p is not None:
        probs, order = logits.softmax(-1).sort(descending=True)
        beyond = probs.cumsum(-1) - probs >= top_p  # the likelier tokens alone hold top_p
        logits[torch.zeros_like(beyond).scatter(-1, order, beyond)] = -math.inf
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]

def count(module):
    """How many parameters a module has."""
    return sum(p.numel() for p in module.parameters())

def flops_per_token(model):
    """Training FLOPs a token: 6 a weight, the head's included, and attention's (PaLM, Chowdhery et al. 2022, B)."""
    c = model.config
    weights = count(model.blocks) + count(model.ln_f) + count(model.head)
    return 6 * weights + 12 * c.n_layers * c.d_model * c.max_seq_len

# ---- The recipe: what the size decides --------------------------------------------------------------------------
# The best rate times the width in our sweeps (scaling.md): 1.9 to 2.8 for muon at widths of 32 to 768; 0.33 and 0.27
# for adamw at 128 and 192. GPT-3's rates, 6e-4 at a width of 768, are 0.3 to 0.5 over the width to 5,140.
LR_SCALES = {"adamw": 0.3, "muon": 2.5}

def recipe(config, n_params, sequences, lr_scale):
    """(peak LR, steps) for a model of n_params parameters and a batch of so many sequences a step."""
    tokens = 20 * n_params  # Hoffmann et al. 2022, table 3
    return lr_scale / config.d_model, math.ceil(tokens / (sequences * config.max_seq_len))

def lr_at(step, s):
    """The LR of step 0, 1, ...: linear warm-up, then a cosine to a tenth. A function of the step: nothing to save."""
    if step < s.warmup_steps:
        return s.lr * (step + 1) / s.warmup_steps
    progress = (step - s.warmup_steps) / max(1, s.max_steps - s.warmup_steps)
    return s.lr * (0.55 + 0.45 * math.cos(math.pi * progress))

class Muon(torch.optim.Optimizer):
    """
    Momentum made orthogonal, so that a step moves a matrix as much in rare directions as in common ones (Jordan et al.
    2024, whose constants these are), and scaled to the size of AdamW's steps (0.2 is Liu et al. 2025's). The matrices
    of a param group have one shape and are worked on together, by few kernels for a GPU to start.
    """

    def __init__(self, params, **defaults):
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            params, lr = group["params"], group["lr"]
            for p in params:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                self.state[p]["momentum"].lerp_(p.grad, 0.05)
            nesterov = (p.grad.lerp(self.state[p]["momentum"], 0.95) for p in params)  # zero may leave none here
            for p, update in zip(params, orthogonal(torch.stack(tuple(nesterov))) if params else ()):
                p.mul_(1 - lr * group["weight_decay"]).add_(update, alpha=-0.2 * lr * math.sqrt(max(p.shape)))

def orthogonal(x):
    """Matrices x (n, rows, columns) with each singular value brought near 1 by five steps of Newton and Schulz."""
    tall = x.size(1) > x.size(2)
    x = (x.mT if tall else x) / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):  # x = 3.4445 x + (2.0315 (x x^T)^2 - 4.7750 x x^T) x; baddbmm: 0.8 of the time, half the memory
        square = x @ x.mT
        square = torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, square, x, beta=3.4445)
    return x.mT if tall else x

def make_optimizers(model, s):
    """
    AdamW with GPT-3's betas; or Muon for the blocks' matrices and AdamW for the rest, in a dict by name. Only matrices
    decay. The LR is 0 until a step sets it.
    """
    in_parts = s.zero and WORLD_SIZE > 1

    def make(kind, groups, **defaults):
        if not in_parts:
            return kind(groups, lr=0.0, **defaults)
        from torch.distributed.optim import ZeroRedundancyOptimizer  # not in every build of torch
        return ZeroRedundancyOptimizer(groups, kind, lr=0.0, **defaults)

    optimizers, rest = {}, dict(model.named_parameters())
    if s.optimizer == "muon":  # where the model is compiled or in several processes, its names have a prefix
        matrices = [rest.pop(name) for name in list(rest) if "blocks." in name and rest[name].dim() == 2]
        shapes = dict.fromkeys(p.shape for p in matrices)
        groups = [{"params": [p for p in matrices if p.shape == shape]} for shape in shapes]
        optimizers["muon"] = make(Muon, groups, weight_decay=s.weight_decay)
    groups = [{"params": [p for p in rest.values() if p.dim() >= 2], "weight_decay": s.weight_decay},
              {"params": [p for p in rest.values() if p.dim() < 2], "weight_decay": 0.0}]
    # Fused: a fifth of the time on a CPU. Zero loads the step count to the CPU, where a GPU's kernel does not look.
    return optimizers | {"adamw": make(torch.optim.AdamW, groups, betas=(0.9, 0.95), fused=not in_parts)}

def divisors(n, most):
    """The divisors of n that are at most `most`, the smallest first."""
    return [k for k in range(1, min(n, most) + 1) if n % k == 0]

def split_batch(s, sequences, T):
    """(batch_size, grad_accum_steps): as set, or one from the other and the recipe's batch, or by the device."""
    if s.batch_size and s.grad_accum_steps:
        return s.batch_size, s.grad_accum_steps
    if sequences % WORLD_SIZE:
        near = min(divisors(sequences, sequences), key=lambda n: abs(n - WORLD_SIZE))
        raise UserError(f"{WORLD_SIZE} processes do not divide the recipe's {sequences} sequences a step, {near} do "
                        f"(--nproc_per_node); or set both batch_size and grad_accum_steps, of a process")
    share = sequences // WORLD_SIZE  # of a process
    room = 2048 if s.device.type == "cpu" else 16384  # tokens, their logits in a CPU's cache (1.1 to 2.1 x), or a T4
    given = s.batch_size or s.grad_accum_steps or divisors(share, max(1, room // T))[-1]
    if share % given:
        raise UserError(f"{'batch_size' if s.batch_size else 'grad_accum_steps'}={given} does not divide the recipe's "
                        f"{share} sequences a step{' a process' * (WORLD_SIZE > 1)}: take a divisor of {share}, or set "
                        f"both batch_size and grad_accum_steps for another batch")
    return (share // given, given) if s.grad_accum_steps else (given, share // given)

# ---- Data: token ids as prepare.py wrote them -------------------------------------------------------------------
def load_tokenizer(spec):
    """The tiktoken encoding in a meta.json's or a checkpoint's "tokenizer"."""
    tokens = [base64.b64decode(token) for token in spec["tokens"]]
    if len(set(tokens)) != len(tokens):
        raise ValueError("a token twice")
    return tiktoken.Encoding(spec["name"], pat_str=spec["pattern"], special_tokens={"<|endoftext|>": len(tokens)},
                             mergeable_ranks={token: rank for rank, token in enumerate(tokens)})

def load_data(s):
    """(meta, tokenizer, train, val): a dataset's meta.json and its splits as memory-mapped arrays of token ids."""
    folder = Path(s.data_dir, s.dataset)
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        ids, tokenizer = {"uint16": "<u2", "uint32": "<u4"}[meta["dtype"]], load_tokenizer(meta["tokenizer"])
        splits = [np.memmap(folder / f"{name}.bin", ids, mode="r") for name in ("train", "val")]
        advise(splits[0], "MADV_RANDOM")  # of a file larger than memory windows come 20 times as fast so
        if [len(split) for split in splits] != [meta["splits"][name]["tokens"] for name in ("train", "val")]:
            raise ValueError("train.bin and val.bin are not as long as meta.json says")
        if meta["vocab_size"] != tokenizer.n_vocab or type(meta["vocab_size"]) is not int:
            raise ValueError("its vocab_size is not the tokenizer's")
        return meta, tokenizer, *splits
    except Exception as error:  # any field may be missing or wrong
        own = "" if s.dataset in ("python", "tinystories", "shakespeare") else " --input=YOUR_TEXT"
        what = "is not prepared" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
        raise UserError(f"{folder} {what}; make it by: python prepare.py --dataset={s.dataset}{own}") from None

def advise(tokens, advice):
    """Tell the system how a memory map is read; Windows takes no advice."""
    with contextlib.suppress(AttributeError):
        tokens.base.madvise(getattr(mmap, advice))

@functools.lru_cache(maxsize=2)  # else each window would shuffle its whole epoch
def epoch_order(n_tokens, T, seed, epoch):
    """(offset of an epoch's first window, the windows in the order of reading: 4 bytes each)."""
    rng = np.random.RandomState([seed, epoch])  # its stream is frozen: the same order under any numpy
    offset, order = int(rng.randint(n_tokens, dtype=np.int64)), np.arange(n_tokens // T, dtype=np.uint32)
    rng.shuffle(order)
    return offset, order

def window_starts(n_tokens, T, seed, first, count):
    """
    Where windows first .. first + count - 1 of the endless sequence of epochs start: (count,) int64. An epoch tiles
    the tokens, read as a ring, from an offset of its own: no token is a target twice in it, fewer than T are left
    out. A pure function: a resumed run, and any split of a step into micro-batches, read the same data.
    """
    starts, n = [], n_tokens // T  # windows in an epoch
    for i in range(first, first + count):
        offset, order = epoch_order(n_tokens, T, seed, i // n)
        starts.append(offset + T * int(order[i % n]))
    return np.array(starts, np.int64)

def read_windows(tokens, starts, config, device):
    """
    Windows of T + 1 tokens, the inputs and the targets one further on: (len(starts), T + 1) int64 on the device. Their
    memory is pinned, as the copy of any other would wait for what a GPU still has to do.
    """
    windows = tokens[(starts[:, None] + np.arange(config.max_seq_len + 1)) % len(tokens)].astype(np.int64)
    if windows.max() >= config.vocab_size:  # on a GPU an embedding would only say "device-side assert"
        raise UserError(f"the data holds token id {windows.max()}, vocab_size is {config.vocab_size}: prepare it anew",
                        own=True)
    advise(tokens, "MADV_DONTNEED")  # else all that was ever read counts as this process's memory
    batch = torch.from_numpy(windows)
    return batch.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else batch.to(device)

@torch.no_grad()
def evaluate(model, val, n_windows, s, tokenizer, stopping):
    """
    val_loss (nats a token) and bpb (bits per byte of those tokens' text: tokenizers can be compared) over the first
    n_windows windows of val, the same at every eval, each process its part of them. None if cut short.
    """
    T, loss, n_bytes = model.config.max_seq_len, 0.0, 0
    model.eval()
    for first in range(RANK * s.batch_size, n_windows, WORLD_SIZE * s.batch_size):
        if stopping:
            return None
        starts = T * np.arange(first, min(first + s.batch_size, n_windows))
        batch = read_windows(val, starts, model.config, s.device)  # (b, T + 1)
        with s.autocast():
            loss += model(batch[:, :-1], batch[:, 1:]).item() * len(batch) / n_windows
        targets = batch[:, 1:][batch[:, 1:] != tokenizer.eot_token].tolist()
        n_bytes += len(tokenizer.decode_bytes(targets))
    model.train()
    loss, n_bytes = over_all([loss, n_bytes], s.device)
    return {"val_loss": loss, "bpb": loss / math.log(2) * n_windows * T / max(1, n_bytes)}

def write(model, s, tokenizer):
    """The first 100 tokens of a document, as text without empty lines."""
    with s.autocast():
        ids = list(model.generate(torch.tensor([[tokenizer.eot_token]], device=s.device), 100, seed=s.seed))
    text = tokenizer.decode(torch.cat(ids).tolist()).split("<|endoftext|>")[0]
    return re.sub(r"\n\s*\n", "\n", text.strip())

# ---- Checkpoints: ckpt.pt to go on from, ckpt_prev.pt the one before it, best.pt of the lowest val loss ---------
def save_checkpoint(path, checkpoint):
    """
    Write a temporary file, flush it to the disk, rename it: whatever is killed, a whole file stays in place. Returns
    whether it worked; a full disk or a drive that went away is told, and the last good file stays.
    """
    temporary = path.with_suffix(".tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        if path.name == "ckpt.pt" and path.exists():
            path.replace(path.with_name("ckpt_prev.pt"))
        temporary.replace(path)
        if os.name == "posix":  # flush the new names too; Windows cannot
            folder = os.open(path.parent, os.O_RDONLY)
            with contextlib.suppress(OSError):  # nor can some drives
                os.fsync(folder)
            os.close(folder)
        return True
    except (OSError, RuntimeError) as error:
        say(f"warning: {path} could not be saved ({error}); what was there stays")
        with contextlib.suppress(OSError):
            temporary.unlink()  # half a file would keep a full disk full
        return False

class Damaged(UserError):
    """What a file holds is no sound checkpoint: not that it could not be read just now."""

def load_checkpoint(path):
    """A checkpoint's dict, on the CPU; UserError where it cannot be read, Damaged where it is no sound one of ours."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > os.path.getsize(path):
                raise ValueError  # packed, as torch.save never does: it could unpack to any size
            torn = archive.testzip()  # torch.load does not notice a flipped byte in a tensor
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        kinds = {"format": int, "model": dict, "config": dict, "tokenizer": dict, "settings": dict, "result": dict,
                 "schedule": list, "log": list, "step": int}  # an older file may lack some
        if torn or not isinstance(checkpoint, dict) or checkpoint["format"] != 1 or not all(
                isinstance(checkpoint.get(name, kind()), kind) for name, kind in kinds.items()):
            raise ValueError
        if any(isinstance(value, (dict, list)) for value in checkpoint.get("settings", {}).values()):
            raise ValueError  # nested, one that is printed may be of any size
        return checkpoint
    except (OSError, MemoryError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'out of memory'}") from None
    except Exception as error:  # a broken file makes torch and zipfile raise a dozen kinds
        raise Damaged(f"{path} is damaged, or no checkpoint of train.py ({type(error).__name__})") from None

def newest_checkpoint(out_dir):
    """The newest sound checkpoint in out_dir, None where there is no run. A damaged one is set aside, never deleted."""
    for path in (out_dir / "ckpt.pt", out_dir / "ckpt_prev.pt"):
        if path.exists():
            try:
                return load_checkpoint(path)
            except Damaged as error:
                aside = path.rename(f"{path}.damaged-{time.time_ns()}")  # else the next save would replace it
                say(f"warning: {error}; it is kept as {aside}")
    if any(out_dir.glob("*.pt*")):
        raise UserError(f"{out_dir} holds a run that cannot be resumed: --out_dir=FOLDER trains beside it, "
                        f"--overwrite=True trains anew")

def restore(path, checkpoint, **parts):
    """Load a checkpoint's state dicts into what they are named after; UserError where one does not fit."""
    for name, part in parts.items():
        try:
            states = checkpoint[name]
            if isinstance(part, torch.optim.Optimizer):
                for saved, group in zip(states["param_groups"], part.param_groups):
                    saved |= {key: value for key, value in group.items() if key != "params"}  # options are this run's
                    stack = states["state"].get(saved["params"][0], {}).get("momentum", torch.empty(0))
                    if stack.dim() == 3:  # the first files held Muon's momenta of one shape as one tensor
                        states["state"] |= {i: {"momentum": m.clone()} for i, m in zip(saved["params"], stack)}
                for i, p in enumerate(p for group in part.param_groups for p in group["params"]):
                    if any(key != "step" and (value.shape != p.shape or not value.is_contiguous())
                           for key, value in states["state"].get(i, {}).items()):
                        raise ValueError("a moment of another shape")  # AdamW would write past its end
            part.load_state_dict(states)
            if hasattr(part, "optim"):  # zero's own part is there; this is a copy of it
                part.state.clear()
        except Exception as error:  # of a dozen kinds
            raise UserError(f"{path} holds no {name} that fits: {error!s:.200}") from None

def gathered(optimizer):
    """An optimizer's state dict; with zero, all processes' parts of it put together in the first one."""
    states = torch.optim.Optimizer.state_dict(optimizer)
    if hasattr(optimizer, "optim"):  # its own consolidate_state_dict takes 100 s a GB
        params = enumerate(p for group in optimizer.param_groups for p in group["params"])
        part = {i: {key: value.cpu() for key, value in optimizer.optim.state[p].items()}
                for i, p in params if p in optimizer.optim.state}
        parts = [None] * WORLD_SIZE if RANK == 0 else None
        dist.gather_object(part, parts)
        states["state"] = dict(sorted(item for part in parts or () for item in part.items()))
    return states

def locked_folder(out_dir):
    """Make out_dir and open its lock file, locked: the system ends the lock with this process."""
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        file = open(out_dir / "lock", "a")
    except (OSError, ValueError) as error:
        raise UserError(f"out_dir={out_dir} cannot be written: {getattr(error, 'strerror', error)}") from None
    try:
        import fcntl  # Windows has none
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # which of the two is the file system's choice
        raise UserError(f"another process trains in out_dir={out_dir}: wait for its end or set another") from None
    except (ImportError, OSError) as error:
        say(f"warning: {out_dir} cannot be locked ({error}): start no second run in it")
    return file

def write_log(path, log):
    """Write log.csv: the rows of a checkpoint's log, dicts of numbers; a NaN (no eval, no known peak) stays empty."""
    with contextlib.suppress(OSError), open(path, "w", newline="") as file:  # a full disk: the next save tries again
        writer = csv.DictWriter(file, log[-1], extrasaction="ignore", lineterminator="\n")  # older rows lack columns
        writer.writeheader()
        for row in log:
            writer.writerow({k: "" if x != x else x if type(x) is int else f"{x:.8g}" for k, x in row.items()})

# ---- Several processes, one a GPU, as torchrun starts them: each takes its part of every batch --------------------
@contextlib.contextmanager
def process_group(device):
    """Connect the processes: by nccl between GPUs, gloo between CPUs. UserError where one of them is lost."""
    if WORLD_SIZE > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    except RuntimeError as error:
        if WORLD_SIZE == 1 or out_of_memory(error) or not re.search("peer|gloo|NCCL|nccl|TCPStore", str(error)):
            raise
        raise UserError("the connection to another process of this run is lost, whose own last words, or torchrun's "
                        f"report, say why ({str(error).split('] ')[-1]:.99}); the same command goes on from the last "
                        "checkpoint") from None
    if WORLD_SIZE > 1:
        dist.destroy_process_group()

def over_all(numbers, device, op="SUM"):
    """The sums, or the "MIN" or "MAX", of a list of numbers over all processes, by one small all-reduce."""
    if WORLD_SIZE == 1:
        return numbers
    tensor = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(tensor, getattr(dist.ReduceOp, op))
    return tensor.tolist()

def from_first(make):
    """What make() returns in the first process, in all of them."""
    answer = [make() if RANK == 0 else None]
    if WORLD_SIZE > 1:
        dist.broadcast_object_list(answer)
    return answer[0]

# ---- The machine ------------------------------------------------------------------------------------------------
PEAK_FLOPS = {  # dense half-precision FLOP/s by a part of the card's name: the makers' data sheets
    "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L40": 181e12,
    "L4": 121e12, "A10": 125e12, "T4": 65e12, "V100": 125e12, "RTX 4090": 165e12, "RTX 3090": 71e12}

def choose_device(s):
    """Set s.device, s.dtype, s.compile, s.autocast, s.peak_flops, and s.machine: what was chosen and why, in words."""
    mps = torch.backends.mps.is_available() and WORLD_SIZE == 1
    name = s.device or ("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    if name == "cuda" and WORLD_SIZE > 1:
        name = f"cuda:{LOCAL_RANK}"
    try:
        s.device = torch.empty(1, device=name).device
        if s.device.type not in ("cpu", "cuda", "mps") or WORLD_SIZE > 1 and name not in ("cpu", f"cuda:{LOCAL_RANK}"):
            raise RuntimeError
    except (RuntimeError, AssertionError):
        raise UserError(f"device={name} is not to be had here; without it the best device is taken", own=True) from None
    card, capability = f"{torch.get_num_threads()} threads", (0, 0)
    best, why = "float32", "half gains little here"
    if s.device.type == "cuda":
        torch.cuda.set_device(s.device)
        card, capability = torch.cuda.get_device_name(s.device), torch.cuda.get_device_capability(s.device)
        best, why = "bfloat16", "the range of float32 in half its bytes"
        if capability < (8, 0):
            best, why = "float16", "no bfloat16 on this card; a scaler keeps small gradients from vanishing"
    s.dtype, why = s.dtype or best, why if s.dtype in (None, best) else "as set"
    if s.compile is None:  # its compiler, triton, wants a card of 2017 or later, and is not there on Windows
        s.compile = capability >= (7, 0) and importlib.util.find_spec("triton") is not None
    s.autocast = functools.partial(torch.autocast, s.device.type, getattr(torch, s.dtype), s.dtype != "float32")
    peaks = [peak for name, peak in PEAK_FLOPS.items() if re.search(rf"\b{name}\b", card) and s.dtype != "float32"]
    s.peak_flops = WORLD_SIZE * peaks[0] if peaks else math.nan
    torch.set_float32_matmul_precision("high")  # TF32 for the products that are float32 on a GPU: dtype=float32's
    s.machine = (f"{WORLD_SIZE} x " * (WORLD_SIZE > 1) + f"{s.device} ({card}), {s.dtype} ({why}), "
                 f"torch.compile {'on' if s.compile else 'off'}")

def peak_memory(device):
    """GB: the most that tensors took on a GPU so far, or this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    with contextlib.suppress(ImportError):  # Windows has no such module
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    return math.nan

@contextlib.contextmanager
def caught_signals():
    """A list to which Ctrl-C, a notebook's stop button and SIGTERM append; a second one later leaves at once."""
    def catch(number, frame):
        nonlocal patience
        if time.monotonic() > patience:
            raise KeyboardInterrupt
        patience = min(patience, time.monotonic() + 1)  # within a second it may be the same, passed on by torchrun
        caught.append(number)
        with contextlib.suppress(OSError):  # the other end of a pipe had the signal too
            if RANK == 0 and len(caught) == 1:
                os.write(2, b"\nstopping: a checkpoint is saved first (Ctrl-C again leaves at once, without it)\n")

    caught, patience, before = [], math.inf, {}
    with contextlib.suppress(ValueError):  # Python lets only the main thread take signals
        before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

# ---- The loop ---------------------------------------------------------------------------------------------------
def micro_step(model, batch, s, scaler, step, i, last=False):
    """
    Forward and backward of the i-th micro-batch (b, T + 1) of a step: its part of the loss, still on the device. In the
    last one the processes average their gradients.
    """
    if s.dropout:  # drawn anew for each, so that no generator's state need be saved
        seed = np.random.SeedSequence([s.seed, step, RANK * s.grad_accum_steps + i])
        torch.manual_seed(int(seed.generate_state(1, np.uint64)[0]))
    with model.no_sync() if WORLD_SIZE > 1 and not last else contextlib.nullcontext():
        with s.autocast():
            loss = model(batch[:, :-1], batch[:, 1:]) / s.grad_accum_steps
        scaler.scale(loss).backward()
    return loss.detach()

def less_memory(s, share=0):
    """What to try where memory ran out, for a step of `share` sequences in this process."""
    smaller = [f"--batch_size={n} --grad_accum_steps={share // n}, or " for n in divisors(share, s.batch_size - 1)]
    checkpoint = "" if s.grad_checkpoint else "--grad_checkpoint=True, "
    return f"try {''.join(smaller[-1:])}{checkpoint}a smaller size or max_seq_len"

def out_of_memory(error):
    """Whether an exception is one of the ways in which memory runs out, on a GPU or a CPU."""
    words = "out of memory|can't allocate memory|not enough memory|ALLOC_FAILED"
    return isinstance(error, MemoryError) or re.search(words, str(error)) is not None

def fit_memory(model, batch, optimizers, s, scaler):
    """
    Where a micro-batch (b, T + 1) does not fit in every process, lower batch_size to a divisor that does, and raise
    grad_accum_steps: the batch stays. Beside a pass there must be room for the gradients, the moments that the first
    step will make, and 100 MB.
    """
    parts = [(name, getattr(of, "optim", of)) for name, of in optimizers.items()]  # optim: zero's own part
    room = 25_000_000 + count(model) + sum((1 if name == "muon" else 2) * p.numel() for name, part in parts
                              for group in part.param_groups for p in group["params"] if p not in part.state)
    asked, share, fit = len(batch), len(batch) * s.grad_accum_steps, 0
    sizes = divisors(share, asked)
    while sizes and not fit:
        try:
            reserved = torch.empty(room, device=s.device)
            micro_step(model, batch[:sizes[-1]], s, scaler, 0, 0)
            fit = sizes[-1]
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            sizes.pop()
        reserved = None
        model.zero_grad()
        if s.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    s.batch_size = int(over_all([fit], s.device, "MIN")[0])
    if not s.batch_size:
        raise UserError(f"one sequence of {batch.size(1) - 1} tokens does not fit the memory of {s.device}: "
                        f"{less_memory(s)}")
    s.grad_accum_steps = share // s.batch_size
    if s.batch_size < asked:
        say(f"memory     batch_size={asked} does not fit: batch_size={s.batch_size}, "
            f"grad_accum_steps={s.grad_accum_steps} make the same batch")

def time_step(model, batch, s, scaler):
    """Seconds of a step on micro-batches like this one (b, T + 1), with other optimizers at LR 0: nothing changes."""
    times, optimizers = [], make_optimizers(model, s).values()
    while from_first(lambda: sum(times) < min(20, 1.5 * s.minutes)):  # seconds: 2.5 % of the time, or one step
        start = time.perf_counter()
        for i in range(s.grad_accum_steps):
            micro_step(model, batch, s, scaler, 0, i, last=i == s.grad_accum_steps - 1)
        model.zero_grad(set_to_none=False)  # zeros: unlike them, float16's first gradients may be infinite
        with s.autocast():
            for optimizer in optimizers:
                optimizer.step()
        batch[0, 0].item()  # waits for the device
        times.append(time.perf_counter() - start)
    model.zero_grad()
    return statistics.mean(times[1:] or times)  # the first warms up

def time_eval(model, val, n_windows, s, tokenizer):
    """Seconds of an eval over n_windows windows with its sample, from a few windows'."""
    few, start = min(n_windows, WORLD_SIZE * s.batch_size), time.perf_counter()
    evaluate(model, val, few, s, tokenizer, [])
    evaluated = time.perf_counter()
    write(model, s, tokenizer)
    return (evaluated - start) * n_windows / few + time.perf_counter() - evaluated

def same_model(config, tokenizer):
    """What a checkpoint's model must have in common with this one, by name; `tokenizer` as meta.json holds it."""
    return asdict(config) | {"the tokenizer's checksum": zlib.crc32(json.dumps(tokenizer).encode())}

def differences(old, new):
    """What differs between two runs, in words; what an older file lacks does not."""
    return "; ".join(f"{name} was {old[name]!s:.99} and is now {value}" for name, value in new.items()
                     if name in old and not (type(old[name]) is type(value) and old[name] == value))

def train(**overrides):
    """
    Train as the settings above say, overridden by keyword: train(size="small", max_steps=10_000).

    Goes on where out_dir holds this run's checkpoint. Returns the last step, tokens, loss and val_loss (nats a
    token), bpb (bits per byte) and what stopped it, if it did, as a dict. UserError, a ValueError, names a setting or a
    file that cannot be. Draws the weights and dropout from torch's global generator, which it seeds.
    """
    raw = {name: globals()[name] for name in SETTINGS} | overrides
    s = SimpleNamespace(**{name: parse_setting(name, value) for name, value in raw.items()})
    if s.minutes and s.max_steps:
        raise UserError("minutes and max_steps both say how long to train: give one of them")
    s.out_dir = s.out_dir or os.path.join("out", f"{s.dataset}-{s.size}")
    given = vars(s).copy()  # as set: below, None becomes a value
    s.started = STARTED if AS_SCRIPT else time.monotonic()
    choose_device(s)
    if s.grad_checkpoint and s.dropout and s.device.type == "mps":
        raise UserError("grad_checkpoint with dropout is not to be had on mps, where torch would draw another dropout")
    meta, tokenizer, train_data, val_data = load_data(s)
    shape = {name: value for name, value in given.items() if hasattr(TINY, name) and value is not None}
    config = replace(SIZES[s.size], vocab_size=tokenizer.n_vocab, **shape)
    s.batch_size, s.grad_accum_steps = split_batch(s, SEQUENCES[s.size], config.max_seq_len)
    if min(len(train_data), len(val_data)) <= config.max_seq_len:
        raise UserError(f"dataset {s.dataset} has {len(train_data):,} tokens to train, {len(val_data):,} to validate; "
                        f"a window takes {config.max_seq_len + 1:,}: prepare more text, or with a larger val_fraction, "
                        f"or set a smaller max_seq_len")
    torch.manual_seed(s.seed)
    try:
        model = GPT(config).to(s.device)  # made on the CPU: the same weights on every device
        model.grad_checkpoint = s.grad_checkpoint
        with process_group(s.device), caught_signals() as stopping, \
                contextlib.nullcontext() if RANK else locked_folder(Path(s.out_dir)):
            return run(s, given, model, meta, tokenizer, train_data, val_data, stopping)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"out of memory at batch_size={s.batch_size}: "
                        f"{less_memory(s, s.batch_size * s.grad_accum_steps)}", own=True) from None

def run(s, given, model, meta, tokenizer, train_data, val_data, stopping):
    """The rest of train(), alone in out_dir: s the settings as they are now, `given` as they were set."""
    config, out_dir, T = model.config, Path(s.out_dir), model.config.max_seq_len
    share = s.batch_size * s.grad_accum_steps  # a step's sequences in this process
    sequences = share * WORLD_SIZE
    tokens_per_step = sequences * T
    step_model = torch.compile(model, dynamic=False) if s.compile else model  # evals, of other shapes, stay eager
    at_once = stopping if WORLD_SIZE == 1 else []  # several processes leave together, between two steps
    optimizers = make_optimizers(model, s)
    scaler = torch.amp.GradScaler(s.device.type, enabled=s.dtype == "float16")

    # Go on with the run in out_dir if it is this one; or start from another's weights; or anew.
    reading_started = time.monotonic()
    step, saved_step, best_val_loss, log = 0, None, math.inf, []  # log: the rows of log.csv
    latest = {"loss": math.nan, "val_loss": math.nan, "bpb": math.nan}
    this_model = same_model(config, meta["tokenizer"])
    names = "optimizer lr lr_scale max_steps minutes warmup_steps weight_decay grad_clip seed eval_tokens init_from"
    same_run = this_model | {name: given[name] for name in names.split()} | {
        "batch_size x grad_accum_steps": sequences,
        "the data's checksum": "-".join(str(meta["splits"][split].get("crc32")) for split in ("train", "val"))}
    checkpoint = None if s.overwrite else from_first(lambda: newest_checkpoint(out_dir))
    if checkpoint:
        if differ := differences(checkpoint.get("settings", {}), same_run):
            raise UserError(f"{out_dir} holds another run: {differ}. --out_dir=FOLDER trains beside it, its own "
                            f"settings go on with it, --overwrite=True removes it")
        checkpoint["scaler"] = checkpoint.get("scaler") or scaler.state_dict()  # empty unless it was float16
        restore(out_dir, checkpoint, model=model, scaler=scaler)
        restore(out_dir, checkpoint.get("optimizer"), **optimizers)
        step = saved_step = checkpoint["step"]
        s.max_steps, s.lr, s.warmup_steps = checkpoint["schedule"]
        log, best_val_loss = checkpoint.get("log", []), checkpoint.get("best_val_loss", math.inf)
        latest |= checkpoint.get("result", {})
    elif s.init_from:
        file = os.path.join(s.init_from, "best.pt") if os.path.isdir(s.init_from) else s.init_from
        source = from_first(lambda: load_checkpoint(file))
        if differ := differences(source.get("settings", {}) | {"dropout": s.dropout}, this_model):
            raise UserError(f"init_from={s.init_from} is another model: {differ}. Set its size and shape, and prepare "
                            f"the text with --tokenizer=data/NAME, the dataset that it was trained on")
        restore(s.init_from, source, model=model)
        if s.overwrite and Path(s.init_from).resolve().is_relative_to(out_dir.resolve()):
            raise UserError(f"init_from={s.init_from} is in the run that overwrite removes: set another out_dir")

    longest_turn = time.monotonic() - reading_started  # of the loop below: reading tells how long a save may take

    # What is None takes the recipe's value, or what fits the time.
    n_params, blocks, flops = count(model), count(model.blocks), flops_per_token(model)
    eval_windows = max(1, (min(s.eval_tokens or len(val_data), len(val_data)) - 1) // T)
    eval_steps = eval_windows / sequences / 3  # the time of an eval, in steps, of which a forward pass is a third
    least_interval = math.ceil(10 * eval_steps)  # steps between evals, so that these take a tenth of the time
    resumed = checkpoint is not None
    checkpoint = source = None  # their tensors are in the model now
    if WORLD_SIZE > 1:
        step_model = nn.parallel.DistributedDataParallel(step_model, gradient_as_bucket_view=True)
    if step < (s.max_steps or 1):
        batch = read_windows(train_data, np.arange(s.batch_size), config, s.device)  # to try with
        fit_memory(step_model, batch, optimizers, s, scaler)
    if not resumed:
        recipe_lr, recipe_steps = recipe(config, n_params, sequences, s.lr_scale or LR_SCALES[s.optimizer])
        if s.minutes:
            step_time = time_step(step_model, batch[:s.batch_size], s, scaler)
            eval_time = time_eval(model, val_data, eval_windows, s, tokenizer)
            seconds = 60 * s.minutes - (time.monotonic() - s.started) - 2 * eval_time  # the first eval and the last
            steps = seconds / (step_time + eval_time / (s.eval_interval or least_interval))
            s.max_steps = from_first(lambda: max(1, int(steps)))
        s.lr, s.max_steps = s.lr or recipe_lr, s.max_steps or recipe_steps
        s.warmup_steps = min(500, s.max_steps // 10) if s.warmup_steps is None else s.warmup_steps
    s.eval_interval = s.eval_interval or max(min(250, s.max_steps // 10), least_interval)
    tokens = s.max_steps * tokens_per_step
    say(f"machine    {s.machine}\n"
        f"model      {s.size}: {n_params:,} parameters, {blocks:,} of them in {config.n_layers} blocks of width "
        f"{config.d_model}; vocabulary {config.vocab_size:,}\n"
        f"data       {s.data_dir}/{s.dataset}: {len(train_data):,} tokens to train on, {len(val_data):,} to validate\n"
        f"batch      {tokens_per_step:,} tokens: {s.batch_size} sequences x {s.grad_accum_steps} micro-batches x {T}"
        f"{f' x {WORLD_SIZE} processes' * (WORLD_SIZE > 1)}\n"
        f"schedule   {s.max_steps:,} steps, {tokens:,} tokens: {tokens / len(train_data):.2f} epochs, "
        f"{tokens / n_params:.2f} tokens a parameter; eval every {s.eval_interval} steps\n"
        f"optimizer  {s.optimizer}, lr {s.lr:.2e} after {s.warmup_steps} steps of warm-up, then a cosine to a tenth\n"
        f"run        {out_dir}, {f'goes on at step {step:,}' if resumed else 'new'}")
    if resumed and step >= s.max_steps:
        say(f"finished already: --init_from={out_dir} --out_dir=FOLDER trains on from its weights")
    for name in ("ckpt.pt", "ckpt_prev.pt", "best.pt") if s.overwrite and RANK == 0 else ():
        (out_dir / name).unlink(missing_ok=True)  # now that nothing is left that may fail

    def save(name, **changes):
        checkpoint = {
            "format": 1, "model": model.state_dict(), "config": asdict(config), "tokenizer": meta["tokenizer"],
            "settings": given | same_run, "schedule": [s.max_steps, s.lr, s.warmup_steps], "step": step,
            "result": latest, "best_val_loss": best_val_loss, "scaler": scaler.state_dict()} | changes
        if name == "ckpt.pt":  # what best.pt, which is never resumed, need not hold
            checkpoint |= {"log": log, "optimizer": {key: gathered(of) for key, of in optimizers.items()}}
            if RANK == 0 and log:
                write_log(out_dir / "log.csv", log)
        return over_all([RANK == 0 and save_checkpoint(out_dir / name, checkpoint)], s.device)[0] > 0

    # A turn of the loop looks at the model as it is after `step` steps (log, eval, save), then takes one more.
    groups = [group for optimizer in optimizers.values() for group in optimizer.param_groups]
    seconds_before, bad_steps = log[-1]["seconds"] if log else 0.0, 0
    times, turn_started, stop = [], time.monotonic(), -1  # times: seconds of each step since the last row
    while True:
        now = time.monotonic()
        longest_turn, turn_started = max(longest_turn, now - turn_started), now
        due = step >= s.max_steps or step % s.eval_interval == 0
        if (due or step == 1 or step % s.log_interval == 0) and not (log and log[-1]["step"] == step):
            step_time = sum(times) / len(times) if times else math.nan
            speed = tokens_per_step / step_time
            mfu = speed * flops / s.peak_flops
            row = {"step": step, "tokens": step * tokens_per_step, "loss": latest["loss"], "val_loss": math.nan,
                   "bpb": math.nan, "lr": lr_at(max(step - 1, 0), s), "tokens_per_s": speed, "mfu": mfu,
                   "memory": peak_memory(s.device), "seconds": seconds_before + time.monotonic() - s.started,
                   "flops": step * tokens_per_step * flops}
            if times:
                say(f"step {step:,}/{s.max_steps:,} | {row['tokens'] / 1e6:.2f}M tokens | loss {row['loss']:.4f} | "
                    f"lr {row['lr']:.2e} | {speed:,.0f} tokens/s | {'' if math.isnan(mfu) else f'MFU {mfu:.1%} | '}"
                    f"{row['memory']:.2f} GB | {timedelta(seconds=round((s.max_steps - step) * step_time))} to go")
                times = []
            if due:
                evaluated = evaluate(model, val_data, eval_windows, s, tokenizer, at_once)
                if at_once:
                    break
                row, latest, val_loss = row | evaluated, latest | evaluated, evaluated["val_loss"]
                overfits = row["loss"] < best_val_loss < val_loss and row["tokens"] > len(train_data)
                say(f"eval: val loss {val_loss:.4f} nats a token, perplexity {math.exp(min(val_loss, 99)):.2f}, "
                    f"{row['bpb']:.4f} bits per byte" + f"; overfitting: best.pt keeps {best_val_loss:.4f}" * overfits)
            log.append(row)
            if due and math.isfinite(val_loss):
                if step and RANK == 0:
                    say(f"sample: {write(model, s, tokenizer)}\n")
                # best.pt first: a run killed between the two saves comes here again.
                if step and val_loss < best_val_loss and save("best.pt", best_val_loss=val_loss):
                    best_val_loss = val_loss
                saved_step = step if save("ckpt.pt") else saved_step
        if s.stop_after and RANK == 0 and step < s.max_steps:
            margin = 1.5 * longest_turn + min(10, 6 * s.stop_after)  # seconds: what a step, an eval and two saves take
            if time.monotonic() - s.started + margin > 60 * s.stop_after:
                stopping.append(0)
        stop = over_all([max(stopping, default=-1)], s.device, "MAX")[0]  # a signal's number, 0 for stop_after
        if stop >= 0 or step >= s.max_steps:
            break

        step_started = time.perf_counter()
        for group in groups:
            group["lr"] = lr_at(step, s)
        starts = window_starts(len(train_data), T, s.seed, step * sequences, sequences)
        batch = read_windows(train_data, starts[RANK * share:][:share], config, s.device)  # (share, T + 1)
        losses = [micro_step(step_model, micro_batch, s, scaler, step, i, last=i == s.grad_accum_steps - 1)
                  for i, micro_batch in enumerate(batch.split(s.batch_size)) if not at_once]
        if at_once:
            break  # the unfinished step is dropped: a resumed run does it again
        for optimizer in optimizers.values():
            scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), s.grad_clip or math.inf)
        loss, norm = torch.stack((sum(losses), norm)).tolist()  # waits for the device
        loss = over_all([loss], s.device)[0] / WORLD_SIZE
        if math.isfinite(loss) and math.isfinite(norm):
            with s.autocast():  # Muon's products
                for optimizer in optimizers.values():
                    optimizer.step()
            bad_steps = 0
        elif not math.isfinite(loss) or scaler.get_scale() <= 1:  # else float16's scaler tries a lower scale
            bad_steps += 1
            say(f"warning: loss {loss}, gradient norm {norm} in step {step + 1}, lr {lr_at(step, s):.2e}: skipped")
        if bad_steps == 10:
            raise UserError(f"ten steps in a row were not finite, to step {step + 1} at lr {lr_at(step, s):.2e}: try a "
                            f"smaller lr, or float32; {out_dir} keeps the last sound checkpoint, of step {saved_step}")
        scaler.update()
        model.zero_grad(set_to_none=WORLD_SIZE == 1)  # several processes' gradients stay in what they are sent from
        step, latest["loss"] = step + 1, loss
        times.append(time.perf_counter() - step_started)

    sound = not bad_steps and (not log or math.isfinite(latest["val_loss"]))  # a last step may break the weights
    if saved_step != step and sound and save("ckpt.pt"):
        saved_step = step
    if saved_step != step and step >= s.max_steps:
        raise UserError(f"{out_dir}: the end could not be saved, its checkpoint is of step {saved_step}; make room, or "
                        f"where the loss is not finite set a smaller lr, and run this again")
    again = "without --overwrite the same command" if s.overwrite else "the same command (or cell)"
    stop = int(max([stop, *at_once]))
    stopped = None if stop < 0 else signal.Signals(stop).name if stop else f"stop_after={s.stop_after}"
    finished = bool(log) and log[-1]["step"] == s.max_steps  # not so where a signal cut the last eval short
    say(f"finished: python sample.py {out_dir} writes text" if finished else
        f"{stopped}: stopped at step {step:,}; {again} goes on from step {saved_step}")
    return {"step": step, "tokens": step * tokens_per_step} | latest | {"stopped": stopped}

if __name__ == "__main__":
    try:
        result = train(**(command_line() if AS_SCRIPT else {}))  # a notebook's cell has no command line
        if result["stopped"] in ("SIGINT", "SIGTERM") and AS_SCRIPT:
            sys.exit(128 + signal.Signals[result["stopped"]])  # so that `train.py && sample.py` stops too
    except UserError as error:
        if LOCAL_RANK == 0 or error.own:
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
