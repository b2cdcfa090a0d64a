"""
Train a GPT of 1M, 3.5M, 16M or 89M parameters. The whole model and the whole loop are in this file,
which also runs in a notebook cell. The same command resumes an interrupted run.

    python prepare.py && python train.py --minutes=3   # the tiny model, its schedule in 3 minutes
    python train.py --size=small --lr=5e-3   # every setting below is a flag; --help lists them all
"""
import argparse, base64, builtins, contextlib, copy, difflib, functools, gc, json, math, mmap
import os, re, signal, sys, time, timeit, zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tiktoken
import torch
import torch.distributed as dist
import torch.nn as nn
from torch.utils.checkpoint import checkpoint as recompute

class UserError(ValueError):
    """A mistake in the settings or the files. Its one line says what is wrong and what to do."""
    def _render_traceback_(self):  # IPython and Jupyter show this instead of a traceback
        return [f"error: {self}"]

# ---- Settings: edit them here, or write --lr=5e-3. None: the size or the machine decides -------
size = "tiny"            # toy, tiny, small or medium
dataset = "python"       # the folder in data_dir that prepare.py wrote
data_dir = "data"        # where the datasets are
out_dir = None           # where the run is kept; None: out/<dataset>-<size>
init_from = None         # finetuning: the run or file whose weights to start from; set a lower lr

d_model = None           # width of the residual stream
n_heads = None           # attention heads; they divide d_model
n_layers = None          # transformer blocks
max_seq_len = None       # context, in tokens
dropout = 0.0            # 0 for one pass over much text, 0.1 to 0.2 for many passes over little
bias = True              # biases in linear layers and LayerNorms, as in GPT-2
tie_weights = True       # the output layer shares the token embedding's weights, as in GPT-2

optimizer = "muon"       # muon (with AdamW for embeddings and biases), or adamw for everything
tokens_per_param = None  # the length of the run; None: 20, as in Hoffmann et al. 2022, table 3
flops = None             # or the length by compute, such as 1e15
minutes = None           # or by the clock: the whole schedule in this time
max_steps = None         # or in steps, each with the batch of a full-length run, unless set
lr = None                # peak learning rate; None: see recipe() below
batch_size = None        # sequences on the device at once (a micro-batch)
grad_accum_steps = None  # micro-batches in a step; with batch_size it sets the batch
warmup_steps = None      # linear warm-up; None: 500, at most a tenth of the run
weight_decay = 0.1       # on matrices only
grad_clip = 1.0          # largest norm of the gradient; 0: no limit
seed = 1337              # of the initial weights, the order of the data, dropout and samples

eval_interval = None     # steps between evals, each with a sample and a checkpoint
eval_tokens = 262_144    # validation tokens in an eval, the same ones from all over val; 0: all
log_interval = 10        # steps between printed lines
stop_after = None        # save and leave after so many minutes, before Colab or a cluster ends it

device = None            # cpu, cuda, cuda:1, mps; None: the best there is
dtype = None             # float32 (TF32 on a GPU), bfloat16 or float16; None: what suits the device
compile = None           # torch.compile, a minute at the start; None: on GPUs of 2020 or later
grad_checkpoint = False  # recompute activations in the backward pass: less memory, a fifth slower

# ---- Sizes: one architecture, four shapes ------------------------------------------------------
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
SEQUENCES = {"toy": 32, "tiny": 32, "small": 64, "medium": 128}  # a full batch

# ---- The model. B sequences of T tokens; shapes stand beside the lines that make them ----------
class Attention(nn.Module):
    """Multi-head causal self-attention (Vaswani et al. 2017)."""
    def __init__(self, config):
        super().__init__()
        self.n_heads, self.dropout = config.n_heads, config.dropout
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, config.bias)
        self.proj = nn.Linear(config.d_model, config.d_model, config.bias)

    def forward(self, x, cache=None, start=0):                # (B, T, d_model)
        B, T, _ = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.n_heads, -1)     # (B, T, q or k or v, head, head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)                  # each (B, n_heads, T, head_dim)
        if cache is not None:  # (2, B, n_heads, max_seq_len, head_dim), full up to start
            cache[..., start:start + T, :] = torch.stack((k, v))
            k, v = cache[..., :start + T, :]
        y = nn.functional.scaled_dot_product_attention(  # a prompt: causal; one token: all keys
            q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=T > 1)
        return self.proj(y.transpose(1, 2).flatten(2))          # (B, T, d_model)

class Block(nn.Module):
    """x + attention(LayerNorm(x)), then x + MLP(LayerNorm(x)): the pre-LayerNorm transformer."""
    def __init__(self, config):
        super().__init__()
        d_model, d_mlp, bias = config.d_model, config.mlp_ratio * config.d_model, config.bias
        self.ln_1 = nn.LayerNorm(d_model, bias=bias)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(d_model, bias=bias)
        self.mlp = nn.Sequential(
            nn.Linear(d_model, d_mlp, bias), nn.GELU("tanh"), nn.Linear(d_mlp, d_model, bias))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x, cache=None, start=0):                # (B, T, d_model) -> the same
        x = x + self.drop(self.attn(self.ln_1(x), cache, start))
        return x + self.drop(self.mlp(self.ln_2(x)))

class GPT(nn.Module):
    """GPT-2 (Radford et al. 2019). model(ids) gives logits, model(ids, targets) the loss."""
    def __init__(self, config, grad_checkpoint=False):
        super().__init__()
        if config.d_model % config.n_heads:
            raise UserError(f"n_heads={config.n_heads} does not divide d_model={config.d_model}")
        self.config, self.grad_checkpoint = config, grad_checkpoint
        self.tok_emb = nn.Embedding(config.vocab_size, config.d_model)
        self.pos_emb = nn.Embedding(config.max_seq_len, config.d_model)
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.ln_f = nn.LayerNorm(config.d_model, bias=config.bias)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_weights:
            self.head.weight = self.tok_emb.weight
        # GPT-2's initial weights: std 0.02, less in the two layers of a block that add to x.
        for name, p in self.named_parameters():
            if p.dim() == 2:
                adds = name.endswith(("attn.proj.weight", "mlp.2.weight"))
                nn.init.normal_(p, std=0.02 / (2 * config.n_layers) ** 0.5 if adds else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, ids, targets=None, cache=None, start=0):
        """ids (B, T) -> logits (B, T, vocab_size); with targets (B, T), the loss in nats per token.
        With a cache, ids is the prompt or one token at `start`: logits of the last token alone."""
        end = start + ids.size(1)
        assert end <= self.config.max_seq_len, f"{end} tokens do not fit {self.config}"
        positions = torch.arange(start, end, device=ids.device)
        x = self.drop(self.tok_emb(ids) + self.pos_emb(positions))    # (B, T, d_model)
        for i, block in enumerate(self.blocks):
            if self.grad_checkpoint and self.training:
                x = recompute(block, x, use_reentrant=False)  # keep only x (Chen et al. 2016)
            else:
                x = block(x, None if cache is None else cache[i], start)
        logits = self.head(self.ln_f(x if cache is None else x[:, -1]))
        if targets is None:
            return logits
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def generate(self, ids, max_new_tokens, temperature=0.8, top_k=None, top_p=None, seed=None):
        """Continue ids (B, T), T >= 1: yields tokens (B,). Temperature 0 takes the most likely one,
        top_k keeps the k most likely, top_p the fewest that hold this much probability (Holtzman
        et al. 2020). A full context is cut to its last half. Call eval() first: no dropout."""
        c = self.config
        generator = None if seed is None else torch.Generator(ids.device).manual_seed(seed)
        shape = c.n_layers, 2, len(ids), c.n_heads, c.max_seq_len, c.d_model // c.n_heads
        cache = self.head.weight.new_empty(shape)  # (layer, k or v, B, head, position, head_dim)
        context, n_cached = ids[:, -c.max_seq_len:], 0  # n_cached of the context are in the cache
        for _ in range(max_new_tokens):
            if context.size(1) > c.max_seq_len:
                context, n_cached = context[:, -max(1, c.max_seq_len // 2):], 0
            logits = self(context[:, n_cached:], cache=cache, start=n_cached)  # (B, vocab_size)
            n_cached = context.size(1)
            token = choose_token(logits, temperature, top_k, top_p, generator)    # (B,)
            yield token
            context = torch.cat((context, token[:, None]), 1)

def choose_token(logits, temperature, top_k, top_p, generator):
    """Draw one token per row: logits (B, vocab_size) -> (B,)."""
    if temperature < 1e-6:
        return logits.argmax(-1)
    probs, token_ids = (logits.float() / temperature).softmax(-1).sort(descending=True)
    if top_k is not None:
        probs[:, top_k:] = 0
    if top_p is not None:
        sum_before = probs.cumsum(-1) - probs  # of the tokens that are more likely
        probs[sum_before >= top_p] = 0
    return token_ids.gather(-1, torch.multinomial(probs, 1, generator=generator))[:, 0]

# ---- The recipe: batch, learning rate, optimizer. scaling.md has the evidence -------------------
LR_SCALES = {"muon": 2.5, "adamw": 0.8}  # best peak LR times d_model, at 8,192 tokens a step

def count(module):
    return sum(p.numel() for p in module.parameters())

def recipe(config, n_tokens, full, optimizer, sequences=None):
    """(sequences in a step, peak learning rate) of a run of n_tokens. Unless set, a step has 0.58
    n_tokens^0.571 tokens (Li et al. 2025), rounded up to 8, 16, ... sequences, at most `full`.
    Below 8,192 tokens a step, the learning rate falls like the square root of the batch."""
    T = config.max_seq_len
    sequences = sequences or min(full, max(8, 2**math.ceil(math.log2(0.58 * n_tokens**0.571 / T))))
    return sequences, LR_SCALES[optimizer] / config.d_model * min(1, sequences * T / 8192) ** 0.5

def lr_at(step, s):
    """Learning rate of step 0, 1, ...: a line up, then one down to zero (Bergsma et al. 2025)."""
    up = (step + 1) / max(1, s.warmup_steps)
    return s.lr * min(up, (s.max_steps - step) / max(1, s.max_steps - s.warmup_steps))

def flops_per_token(model):
    """6 per weight except input embeddings (2 forward, 4 backward) plus attention (PaLM, B)."""
    c = model.config
    weights = count(model.blocks) + count(model.ln_f) + count(model.head)
    return 6 * weights + 12 * c.n_layers * c.d_model * c.max_seq_len

class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024; momentum 0.9, not 0.95). Each matrix moves by its momentum made
    orthogonal: all singular values about 1, so rare directions move as far as common ones. The
    factor 0.2 sqrt(longer side) makes its steps as large as AdamW's (Liu et al. 2025)."""
    def __init__(self, matrices, weight_decay, autocast):
        shapes = dict.fromkeys(p.shape for p in matrices)  # a group per shape, for step() to stack
        groups = [{"params": [p for p in matrices if p.shape == shape]} for shape in shapes]
        super().__init__(groups, {"lr": 0.0, "momentum": 0.9, "weight_decay": weight_decay})
        self.autocast = autocast

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            matrices, lr = group["params"], group["lr"]
            beta = group.get("momentum", 0.95)  # a group loaded from an old checkpoint used 0.95
            grads = [p.grad for p in matrices]
            momenta = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in matrices]
            torch._foreach_lerp_(momenta, grads, 1 - beta)       # m = 0.9 m + 0.1 g
            updates = torch._foreach_lerp(grads, momenta, beta)  # Nesterov's: 0.1 g + 0.9 m
            with self.autocast:  # in bfloat16 on most GPUs
                x = orthogonal(torch.stack(updates)).to(grads[0].dtype)
            torch._foreach_mul_(matrices, 1 - lr * group["weight_decay"])
            torch._foreach_add_(matrices, x.unbind(), alpha=-0.2 * lr * max(x[0].shape) ** 0.5)

def orthogonal(x):  # (n, rows, columns)
    """Newton-Schulz: rounds of v -> 3.44 v - 4.78 v^3 + 2.03 v^5 bring singular values v near 1."""
    tall = x.size(1) > x.size(2)
    x = (x.mT if tall else x) / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        s = x @ x.mT  # if x is U diag(v) V.mT, this is U diag(v^2) U.mT
        poly = torch.baddbmm(s, s, s, beta=-4.7750, alpha=2.0315)  # -4.7750 s + 2.0315 s @ s
        x = torch.baddbmm(x, poly, x, beta=3.4445)                 # 3.4445 x + poly @ x
    return (x.mT if tall else x).contiguous()

# ---- Data: token ids as prepare.py wrote them --------------------------------------------------
def load_tokenizer(spec):
    """The tiktoken encoding of the "tokenizer" in a meta.json or a checkpoint."""
    ranks = {base64.b64decode(token): rank for rank, token in enumerate(spec["tokens"])}
    return tiktoken.Encoding(spec["name"], pat_str=spec["pattern"], mergeable_ranks=ranks,
                             special_tokens={"<|endoftext|>": len(ranks)})

def load_data(s):
    """(meta, tokenizer, train, val): meta.json, and memory-mapped arrays of token ids."""
    folder = Path(s.data_dir, s.dataset)
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        tokenizer = load_tokenizer(meta["tokenizer"])
        dtype = np.dtype(meta["dtype"]).newbyteorder("<")
        train = np.memmap(folder / "train.bin", dtype, "r")
        val = np.memmap(folder / "val.bin", dtype, "r")
        if len(train) + len(val) != sum(split["tokens"] for split in meta["splits"].values()):
            raise ValueError("train.bin or val.bin is not as long as meta.json says")
    except Exception as error:  # a file or any of its fields may be missing or wrong
        raise UserError(f"no complete dataset in {folder} ({error}): python prepare.py --dataset="
                        f"{s.dataset} --overwrite makes it, of --input=FILE if given") from None
    if hasattr(mmap, "MADV_RANDOM"):  # no reading ahead: 20 times faster if the file exceeds memory
        train.base.madvise(mmap.MADV_RANDOM)
    return meta, tokenizer, train, val

@functools.lru_cache(2)  # a batch may lie in two epochs
def epoch_starts(n_tokens, T, seed, epoch):
    """Shuffled starts of an epoch's windows, which lie side by side from a random offset on. Past
    the end of the text they go on with its first tokens (% in read_windows)."""
    rng = np.random.RandomState([seed, epoch])  # its numbers are the same in every version of numpy
    offset = rng.randint(n_tokens, dtype="int64")
    return offset + T * rng.permutation(n_tokens // T)

def window_starts(n_tokens, T, seed, first, n_starts):
    """Starts of windows from number `first` on: the same if a run resumes or a batch is split."""
    n = n_tokens // T  # windows in an epoch
    return [epoch_starts(n_tokens, T, seed, i // n)[i % n] for i in range(first, first + n_starts)]

def read_windows(tokens, starts, T, device):
    """Windows of T + 1 tokens, inputs and targets together: (len(starts), T + 1) on the device."""
    ids = tokens[np.add.outer(starts, np.arange(T + 1)) % len(tokens)].astype("int64")
    windows = torch.from_numpy(ids)
    if device.type == "cuda":  # a copy from pinned memory does not wait for the GPU
        return windows.pin_memory().to(device, non_blocking=True)
    return windows.to(device)

# ---- Checkpoints: ckpt.pt to resume from, ckpt_prev.pt the one before, best.pt to sample from --
def save_checkpoint(path, checkpoint):
    """Write a new file, flush it, rename it: a kill at any moment leaves a whole checkpoint."""
    new = path.with_suffix(f".{os.getpid()}.pt.tmp")
    with open(new, "wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file)
    if path.name == "ckpt.pt" and path.exists():
        path.replace(path.with_name("ckpt_prev.pt"))
    new.replace(path)

def load_checkpoint(path):
    """The dict in a .pt file or a run's best.pt, on the CPU. Raises UserError if it is damaged."""
    path = Path(path, "best.pt") if os.path.isdir(path) else path
    try:
        if zipfile.ZipFile(path).testzip():  # a .pt file is a zip; torch.load skips its checksums
            raise ValueError("a wrong checksum")
        checkpoint = torch.load(path, "cpu", weights_only=True)  # runs no code
        checkpoint["tokenizer"]  # other projects' checkpoints have none
        return checkpoint
    except OSError:
        raise
    except Exception as e:  # a damaged file makes torch and zipfile raise a dozen kinds
        raise UserError(f"{path} is damaged, or not a checkpoint of train.py ({e!r:.60})") from None

def newest_checkpoint(folder):
    """The path of the newest whole checkpoint in a run's folder; None where there is no run yet."""
    for old in folder.glob("*.pt.tmp"):  # a killed save
        old.unlink()
    for path in filter(Path.exists, (folder / "ckpt.pt", folder / "ckpt_prev.pt")):
        try:
            load_checkpoint(path)
            return path
        except UserError as error:
            kept = path.replace(f"{path}.damaged")  # or the next save would make it ckpt_prev.pt
            say(f"warning: {error}; kept as {kept}")
    if any(folder.glob("*.pt*")):  # no ckpt.pt, but best.pt or *.pt.damaged
        raise UserError(f"{folder} holds a run that cannot be resumed: set another out_dir")

def write_log(path, rows):
    """log.csv: one row per logged step. A value that a row does not have is an empty field."""
    header = "step,tokens,loss,val_loss,bpb,lr,tokens_per_s,memory,seconds,flops,params,blocks"
    lines = [[str(row.get(name, "")) for name in header.split(",")] for row in rows]
    path.write_text("\n".join([header, *map(",".join, lines), ""]))

# ---- Processes and devices: torchrun starts one process per GPU; each takes its share of a batch
WORLD_SIZE = int(os.getenv("WORLD_SIZE", 1))  # how many processes there are
RANK = int(os.getenv("RANK", 0))              # which of them this is

def say(text):
    """Print, in the first process. Neither a closed pipe nor a strange character ends a run."""
    if RANK == 0:
        with contextlib.suppress(OSError):
            encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
            print(text.encode(encoding, "replace").decode(encoding), flush=True)

def gather(value):
    """The list of what each process has as its `value`, in every process."""
    values = [value] * WORLD_SIZE
    if WORLD_SIZE > 1:
        dist.all_gather_object(values, value)
    return values

@contextlib.contextmanager
def catch_signals():
    """Until the with-block ends, SIGINT (Ctrl-C), SIGTERM and SIGHUP are only noted in a list."""
    signals = []
    def catch(number, frame):
        signals.append(signal.Signals(number).name)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C leaves at once
    with contextlib.ExitStack() as undo:  # signal.signal sets a handler and returns the old one
        for number in signal.valid_signals() & {1, 2, 15}:  # HUP 1 (not on Windows), INT 2, TERM 15
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
                with contextlib.suppress(ValueError):  # only a main thread can catch signals
                    undo.callback(signal.signal, number, signal.signal(number, catch))
        yield signals

def choose_device(name):
    """(device, its name, its best dtype, tokens in a micro-batch) of the named or best device."""
    best = torch.accelerator.is_available() and torch.accelerator.current_accelerator().type
    name = name or best or "cpu"
    try:
        device = torch.device(f"cuda:{os.getenv('LOCAL_RANK', 0)}" if name == "cuda" else name)
        torch.ones(1, device=device).item()  # some builds have no kernels for an old GPU
    except Exception as error:
        raise UserError(f"device {name} cannot be used here ({error!r:.80})") from None
    if device.type != "cuda":
        return device, f"{torch.get_num_threads()} threads", "float32", 2048  # fits a CPU's cache
    torch.cuda.set_device(device)
    torch.set_float32_matmul_precision("high")  # float32 products in TF32
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for each length: slow in generate
    card = torch.cuda.get_device_properties(device)
    best_dtype = "bfloat16" if card.major >= 8 else "float16"  # from Ampere, 2020, on
    return device, card.name, best_dtype, 65_536 if card.total_memory > 39e9 else 16_384

# ---- One step ----------------------------------------------------------------------------------
class Learner:
    """What a step changes, and the step: the weights, the optimizers, float16's loss scale."""
    def __init__(self, model, s, device):
        self.model, self.s, self.device = model, s, device
        self.net = model  # what a step calls: later, the compiled and the distributed model
        self.autocast = torch.autocast(device.type, getattr(torch, s.dtype), s.dtype != "float32")
        self.loss_scale = 65_536.0  # float16 needs it; others do not mind a power of two
        # Muon for the matrices inside the blocks, if asked for; AdamW for all the rest.
        matrices = [p for p in model.blocks.parameters() if s.optimizer == "muon" and p.dim() == 2]
        rest = [p for p in model.parameters() if p not in set(matrices)]
        groups = [{"params": [p for p in rest if p.dim() == 2], "weight_decay": s.weight_decay},
                  {"params": [p for p in rest if p.dim() == 1], "weight_decay": 0.0}]
        groups[0]["lr_scale"] = 4 if matrices else 1  # beside Muon: embeddings, head at 4 times lr
        self.optimizers = [torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=True)]
        if matrices:
            self.optimizers.append(Muon(matrices, s.weight_decay, self.autocast))

    def state(self):
        return {"model": self.model.state_dict(), "loss_scale": self.loss_scale,
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load(self, state):
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.loss_scale = state["loss_scale"]

    def add_gradients(self, windows, step):
        """Forward and backward of this process's windows (n, T + 1), batch_size of them at a time.
        Returns their mean loss, a tensor that a GPU may still be working on: nothing waits here."""
        self.model.zero_grad()
        loss = 0
        micro_batches = windows.split(self.s.batch_size)
        for i, micro_batch in enumerate(micro_batches, 1):
            # Dropout's seed: of the step and of this micro-batch, counted over all processes.
            torch.manual_seed(hash((self.s.seed, step, RANK * len(micro_batches) + i)))
            if WORLD_SIZE > 1:  # for DDP: average over the processes only after the last one
                self.net.require_backward_grad_sync = i == len(micro_batches)
            with self.autocast:
                part = self.net(micro_batch[:, :-1], micro_batch[:, 1:])
            part *= len(micro_batch) / len(windows)
            (self.loss_scale * part).backward()
            loss += part.detach()
        torch._foreach_div_([p.grad for p in self.model.parameters()], self.loss_scale)
        return loss

    def step(self, windows, step, lr, leave=False):
        """One optimizer step. Returns the mean loss over all processes, the gradient's norm, and
        whether any process wants to leave. The GPU is waited for once, before the weights move."""
        loss = self.add_gradients(windows, step)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.s.grad_clip or math.inf)
        numbers = torch.stack((loss, norm, torch.full_like(norm, leave)))
        if WORLD_SIZE > 1:
            dist.all_reduce(numbers)  # sums over the processes
        loss, norm, leaving = (numbers / WORLD_SIZE).tolist()  # means; this waits for the GPU
        half = self.s.dtype == "float16"
        if math.isfinite(norm):
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = lr * group.get("lr_scale", 1)
                optimizer.step()
            self.loss_scale *= 2 if half and step % 2000 == 1999 else 1
        else:  # skip the step: float16 overflowed, or the learning rate is too high
            self.loss_scale /= 2 if half else 1
        return loss, norm, leaving > 0  # somebody is

def rehearse(learner, windows, initial):
    """Try micro-batches until one fits, compile, distribute. Ends with the initial weights."""
    s = learner.s
    while True:
        fits = False
        with contextlib.suppress(torch.OutOfMemoryError):
            for _ in range(2):  # the second time with the optimizers' moments in memory
                learner.add_gradients(windows[:s.batch_size], 0)
                for optimizer in learner.optimizers:
                    optimizer.step()
            fits = True
        if all(gather(fits)):
            break
        say(f"memory     batch_size={s.batch_size} does not fit")
        if s.batch_size == 1:
            raise UserError("out of memory: try --grad_checkpoint=True or a smaller size")
        s.batch_size //= 2
    if s.compile:
        say("compiling  the model, up to a minute")
        try:
            learner.net = torch.compile(learner.model, dynamic=False)  # once per micro-batch size
            learner.add_gradients(windows, 0)  # compiles now, also for a smaller last micro-batch
        except Exception as error:  # no C compiler, no Triton, a card that Triton does not know
            learner.net = learner.model
            s.compile = False
            say(f"warning: torch.compile failed, training continues without it ({error!r:.99})")
    learner.load(initial)
    if WORLD_SIZE > 1:
        learner.net = nn.parallel.DistributedDataParallel(learner.net, gradient_as_bucket_view=True)

@torch.no_grad()
def evaluate(learner, windows):
    """Mean loss (nats per token) of windows (n, T + 1), by the uncompiled model: shapes vary."""
    loss = 0
    for part in windows.split(learner.s.batch_size):
        with learner.autocast:
            loss += learner.model(part[:, :-1], part[:, 1:]) * len(part)
    return float(loss) / len(windows)

# ---- The run -----------------------------------------------------------------------------------
def train(**overrides):
    """Train as the settings say, or train(size="small", max_steps=9_000); resume the run in out_dir
    if there is one. Returns a dict: step, tokens, loss, val_loss, bpb and why it stopped early."""
    started = time.monotonic()

    # The settings as the user asked (SETTINGS: see below). In s, each None will get its value.
    asked = {name: globals()[name] for name in SETTINGS} | overrides
    asked = {name: parse_setting(name, value) for name, value in asked.items()}
    s = argparse.Namespace(**asked)
    if sum(map(bool, (s.tokens_per_param, s.flops, s.minutes, s.max_steps))) > 1:
        raise UserError("set one of tokens_per_param, flops, minutes and max_steps, not more")

    # The machine and the data.
    device, machine, best_dtype, room = choose_device(s.device)  # room: a micro-batch, in tokens
    s.dtype = s.dtype or best_dtype
    s.compile = s.compile if s.compile is not None else best_dtype == "bfloat16"  # Ampere on
    meta, tokenizer, train_data, val_data = load_data(s)
    if WORLD_SIZE > 1:
        dist.init_process_group()

    # found: the run in out_dir (process 0 looks and tells all), else init_from, else nothing.
    out_dir = Path(s.out_dir or f"out/{s.dataset}-{s.size}")
    os.makedirs(out_dir, exist_ok=True)
    resumed = gather(newest_checkpoint(out_dir) if RANK == 0 else None)[0]
    found = load_checkpoint(resumed or s.init_from) if resumed or s.init_from else {}

    # The shape: of the size or of what was found. A setting that is not None (bias!) wins.
    base = GPTConfig(**found["config"]) if s.init_from else SIZES[s.size]
    shape = {name: asked[name] for name in vars(base) if asked.get(name) is not None}
    config = replace(base, vocab_size=tokenizer.n_vocab, **shape)
    if s.init_from and (found["tokenizer"] != meta["tokenizer"]
                        or config != replace(base, dropout=s.dropout)):  # only dropout may differ
        raise UserError(f"init_from={s.init_from} has another shape or tokenizer: set no d_model "
                        "or the like, and prepare the text with --tokenizer=data/NAME, its dataset")

    # The model, its weights drawn on the CPU: the same for every device. `initial` keeps a copy.
    T = config.max_seq_len
    n_val = (len(val_data) - 1) // T  # windows in val; an eval takes n_eval, evenly spread
    n_eval = min(n_val, (s.eval_tokens or len(val_data)) // T)
    if n_eval < 1 or len(train_data) <= T:
        raise UserError(f"no window of {T + 1:,} tokens: lower max_seq_len or prepare a longer val")
    torch.manual_seed(s.seed)
    model = GPT(config, s.grad_checkpoint).to(device)
    n_params, token_flops = count(model), flops_per_token(model)
    learner = Learner(model, s, device)
    initial = copy.deepcopy(learner.state()) | {
        "step": 0, "rows": [{"step": 0, "tokens": 0, "seconds": 0.0, "flops": 0, "params": n_params,
                             "blocks": count(model.blocks)}]}

    # Tokens in the run (--minutes: a guess; --max_steps: unused); sequences in a step, and here.
    full = SEQUENCES[s.size]
    n_tokens = s.flops / token_flops if s.flops else (s.tokens_per_param or 20) * n_params
    fixed = full if s.max_steps else None  # the batch, if the recipe does not choose it
    if s.batch_size and s.grad_accum_steps:
        fixed = s.batch_size * s.grad_accum_steps * WORLD_SIZE
    elif s.minutes and "same" in found and resumed:  # the batch that its first start chose
        fixed = found["same"]["tokens_per_step"] // T
    sequences, default_lr = recipe(config, n_tokens, full, s.optimizer, fixed)
    if sequences % WORLD_SIZE:
        raise UserError(f"{WORLD_SIZE} processes do not divide a batch of {sequences} sequences: "
                        "take fewer, or set batch_size and grad_accum_steps")
    share = sequences // WORLD_SIZE
    at_once = math.ceil(share / s.grad_accum_steps) if s.grad_accum_steps else max(1, room // T)
    s.batch_size = min(share, s.batch_size or at_once)  # the micro-batch

    # Has the run in out_dir these settings (SAME: see below)? Old runs saved fewer, or none.
    more = f'--init_from="{out_dir}" --out_dir="{out_dir}-more" --lr='  # and a lower one
    same = vars(config) | {name: asked[name] for name in SAME.split()} | {
        "format": 2, "tokens_per_step": sequences * T, "data": meta["splits"]["train"]["crc32"]}
    before = {"tokens_per_param": None, "flops": None} | found.get("same", {"format": 1})
    if resumed and (differ := dict(before.items() - same.items())):  # {setting: its value there}
        raise UserError(f"{out_dir} holds another run, with {differ}: set another out_dir, or go "
                        f"on from its weights: add {more}{(s.lr or default_lr) / 4:.1e}")

    def read_step(step):  # (share, T + 1), this process's windows; share as it is when called
        first = (step * WORLD_SIZE + RANK) * share
        starts = window_starts(len(train_data), T, s.seed, first, share)
        return read_windows(train_data, starts, T, device)

    # A rehearsal: which micro-batch fits, does the model compile?
    rehearse(learner, read_step(0), initial)

    # The plan. With minutes: a guess of the length -> batch -> speed -> length, and once more.
    if resumed:
        s.max_steps, s.lr, s.warmup_steps = found["plan"]  # from save(), below
    elif s.minutes:
        if not s.compile:  # time the smallest batch first; compiled, a new size would compile anew
            n_tokens = 1
        for _ in range(2):
            share = max(1, recipe(config, n_tokens, full, s.optimizer, fixed)[0] // WORLD_SIZE)
            took = np.median(timeit.repeat(lambda: learner.step(read_step(0), 0, lr=0), number=1))
            eval_steps = n_eval / 3 / share  # steps that take as long as an eval (forward only)
            left = 60 * s.minutes + started - time.monotonic() - 2 * took * eval_steps  # 2 evals
            took *= 1 + max(0.1, eval_steps / (s.eval_interval or math.inf))  # evals between: 1/10
            n_tokens = gather(max(1, left // took))[0] * share * WORLD_SIZE * T  # as process 0 says
        s.batch_size = min(s.batch_size, share)
    tokens = same["tokens_per_step"] = share * WORLD_SIZE * T  # the plan may have changed share
    s.max_steps = s.max_steps or math.ceil(n_tokens / tokens)
    s.lr = s.lr or recipe(config, n_tokens, full, s.optimizer, tokens // T)[1]
    s.warmup_steps = min(500, s.max_steps // 10) if s.warmup_steps is None else s.warmup_steps
    min_interval = math.ceil(10 * n_eval / 3 / share)  # 10 eval_steps, hence the 0.1 above
    s.eval_interval = s.eval_interval or max(min(250, s.max_steps // 10), min_interval)

    # The start: the initial state (timing filled the moments), the resumed one, or given weights.
    if resumed:
        initial |= found  # weights, moments, step, rows
    elif s.init_from:
        initial["model"] = found["model"]
    learner.load(initial)
    step, rows = initial["step"], initial["rows"]
    del initial, found  # copies of the weights
    say(f"machine    {WORLD_SIZE} x {device} ({machine}), {s.dtype}, torch.compile {s.compile}\n"
        f"model      {s.init_from or s.size}: {n_params:,} parameters in {config.n_layers} blocks\n"
        f"data       {s.dataset}: {len(train_data):,} tokens, {n_eval * T:,} for evals\n"
        f"length     {s.max_steps * tokens:,} tokens, {s.max_steps * tokens / len(train_data):.2f} "
        f"epochs, {s.max_steps * tokens / n_params:.2f} per parameter\n"
        f"batch      {tokens:,} tokens: {tokens // T} sequences x {T}\n"
        f"steps      {s.max_steps:,}, length / batch; micro-batch {s.batch_size}\n"
        f"optimizer  {s.optimizer}, lr {s.lr:.2e} after {s.warmup_steps} steps of warm-up\n"
        f"run        {out_dir}, {f'resumed at step {step:,}' if resumed else 'new'}")

    val = read_windows(val_data, np.arange(n_eval) * n_val // n_eval * T, T, device)
    targets = tokenizer.decode_bytes(val[:, 1:].flatten().tolist())
    n_bytes = len(targets.replace(b"<|endoftext|>", b""))  # of an eval, for its bits per byte
    seconds_before = rows[-1]["seconds"]
    leave = False
    n_skipped = 0

    def save(name):
        state = learner.state() if name == "ckpt.pt" else {"model": model.state_dict()}
        state |= {"config": vars(config), "tokenizer": meta["tokenizer"], "same": same,
                  "plan": [s.max_steps, s.lr, s.warmup_steps], "step": step, "rows": rows}
        try:
            if RANK == 0:
                save_checkpoint(out_dir / name, state)
                write_log(out_dir / "log.csv", rows)
        except (OSError, RuntimeError) as error:  # a full disk, or a Drive that went away
            if leave or step == s.max_steps:  # it was the last save
                raise UserError(f"{name} could not be saved ({error}): make room, repeat") from None
            say(f"warning: {name} could not be saved ({error}): training continues")

    def look():
        """Evaluate, sample, save. ckpt.pt comes last: a run killed before that repeats it all."""
        model.eval()
        best = min(row.get("val_loss", math.inf) for row in rows)
        loss = evaluate(learner, val)
        bpb = loss / math.log(2) * n_eval * T / n_bytes
        rows[-1] |= {"val_loss": loss, "bpb": bpb}
        say(f"eval: val loss {loss:.4f} (lowest {min(best, loss):.4f}), {bpb:.4f} bits per byte")
        if not math.isfinite(loss):
            raise UserError(f"the weights are broken: set a lower lr than {s.lr:.1e}")
        if step:  # 100 tokens of a new document; the last may hold half a character
            document = torch.tensor([[tokenizer.eot_token]], device=device)
            ids = list(map(int, model.generate(document, 100, seed=s.seed)))
            say("sample: " + tokenizer.decode(ids).split("<|endoftext|>")[0].strip("\n�") + "\n")
        if loss < best:
            save("best.pt")
        save("ckpt.pt")
        model.train()

    with catch_signals() as signals:
        if not step:
            save("ckpt.pt")  # before look() writes best.pt, which alone cannot be resumed
            look()
        while step < s.max_steps and not leave:
            # One step. A GPU may still move the last step's weights while the windows are read.
            tick = time.perf_counter()
            if s.stop_after and time.monotonic() - started > 60 * s.stop_after:
                signals.append("stop_after")
            lr = lr_at(step, s)
            loss, norm, leave = learner.step(read_step(step), step, lr, bool(signals))
            step += 1
            seconds = time.perf_counter() - tick
            n_skipped = 0 if math.isfinite(norm) else n_skipped + 1
            if n_skipped:  # normal in float16 up to some 16 times: its loss scale is halved
                say(f"warning: gradient norm {norm} at lr {lr:.2e}: step {step:,} is skipped")
            if n_skipped == 20:
                raise UserError(f"20 steps in a row were skipped: set a lower lr than {s.lr:.1e}")

            # Now and then, a line and a row of log.csv.
            due = step % s.eval_interval == 0 or step == s.max_steps
            if due or step == 1 or step % s.log_interval == 0:
                rows.append({"step": step, "tokens": step * tokens, "loss": loss, "lr": lr,
                             "tokens_per_s": tokens / seconds, "flops": step * tokens * token_flops,
                             "seconds": seconds_before + time.monotonic() - started,
                             "memory": torch.cuda.max_memory_allocated() / 1e9})  # GB; 0 on a CPU
                say(f"step {step:,}/{s.max_steps:,} | {step * tokens / 1e6:.2f}M tokens | "
                    f"loss {loss:.4f} | lr {lr:.2e} | {tokens / seconds:,.0f} tokens/s | "
                    f"{tokens / seconds * token_flops / 1e12:.2f} TFLOP/s | "
                    f"{(s.max_steps - step) * seconds / 60:.1f} min to go")

            # Once in a while, an eval, a sample and a checkpoint; before leaving, a checkpoint.
            if due:
                look()
            elif leave:
                save("ckpt.pt")

    stopped = None if step == s.max_steps else (signals or ["another process"])[0]
    say(f"{stopped}: stopped at step {step:,}; the same command resumes the run" if stopped else
        f'finished: python sample.py "{out_dir}" writes text; to go on, add {more}{s.lr / 4:.1e}')
    if WORLD_SIZE > 1:
        learner.net = None  # end DDP before its process group: the other way round it can hang
        gc.collect()
        dist.destroy_process_group()
    return functools.reduce(dict.__or__, rows) | {  # the latest value of each column
        "step": step, "tokens": step * tokens, "stopped": stopped}

# ---- Reading the settings, from --name=value or train(name=value) ------------------------------
KINDS = {  # what the settings must be: parse_setting tests these words and prints them
    "text": "dataset data_dir out_dir init_from device",
    "toy, tiny, small or medium": "size", "muon or adamw": "optimizer",
    "float32, bfloat16 or float16": "dtype",
    "True or False": "bias tie_weights compile grad_checkpoint",
    "a whole number above 0": "d_model n_heads n_layers max_seq_len batch_size grad_accum_steps "
                              "max_steps eval_interval log_interval",
    "a whole number from 0": "warmup_steps seed eval_tokens",
    "a number above 0": "lr minutes stop_after tokens_per_param flops",
    "a number from 0": "weight_decay grad_clip", "a number from 0 to below 1": "dropout"}
SETTINGS = {name: kind for kind, names in KINDS.items() for name in names.split()}
SAME = ("optimizer lr tokens_per_param flops max_steps minutes warmup_steps weight_decay grad_clip "
        "seed eval_tokens init_from")  # besides model and data, what a resumed run cannot change

def parse_setting(name, value):
    """The value in the setting's own type, whether it came as text or from Python."""
    if name not in SETTINGS:
        similar = difflib.get_close_matches(name, SETTINGS, 1, 0.74) or ["help"]
        raise UserError(f"there is no setting {name}: try --{similar[0]}")
    kind, text = SETTINGS[name], str(value)
    if text == "None" and globals()[name] is None:  # its default
        return None
    with contextlib.suppress(ValueError, OverflowError):
        if "number" in kind:
            number = float(text)  # 1e4 is a whole number too
            result = int(number) if "whole" in kind else number
            limit = 1 if "below 1" in kind else 2**32 if "whole" in kind else 1e40
            if result == number and 0 <= number < limit and (number > 0 or "from 0" in kind):
                return result
        elif kind == "text" or text in re.split(", | or ", kind):  # as in "muon or adamw"
            return (text == "True") if kind == "True or False" else text
    raise UserError(f"{name} must be {kind}, not {value!r}")

def command_line():
    """The settings given as --name=value. --help shows the comments at the top of this file."""
    block = Path(__file__).read_text(encoding="utf-8").split("\n# ---- ")[1]
    parser = argparse.ArgumentParser(description=block, allow_abbrev=False,
        argument_default=argparse.SUPPRESS, formatter_class=argparse.RawTextHelpFormatter)
    for name in SETTINGS:  # --compile is --compile=True
        parser.add_argument(f"--{name}", nargs="?", const=True, help=argparse.SUPPRESS)
    given, unknown = parser.parse_known_args()  # parse_setting refuses the unknown
    return vars(given) | {flag.lstrip("-").split("=")[0]: flag for flag in unknown}

if __name__ == "__main__":
    notebook = hasattr(builtins, "get_ipython")
    try:
        result = train(**(command_line() if "__file__" in globals() else {}))  # a cell has no flags
        if not notebook and result["stopped"] in signal.Signals.__members__:
            sys.exit(128 + signal.Signals[result["stopped"]])  # as shells have it
    except (UserError, OSError) as error:
        if notebook:
            raise UserError(error) from None
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
