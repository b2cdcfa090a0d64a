"""
A GPT from the outside: the name to import, trained models, their curves, and sizes on paper.

    from gpt import GPT, GPTConfig, TOY, TINY, SMALL, MEDIUM, load
    model, tokenizer = load("out/python-tiny")

    python gpt.py                                   # each size: parameters, recipe, memory, time
    python gpt.py --size=small --vocab_size=32000   # a size of your own
    python gpt.py --size=medium --gpu=T4            # the micro-batch that fits a card
    python gpt.py --calculator                      # the same in the browser, with sliders
    python gpt.py --plot out/a out/b                # loss.png: losses by tokens, FLOPs, seconds
    python gpt.py --fit out/a out/b ...             # the scaling law of six runs or more
    python gpt.py --export=FOLDER out/a             # a run for Hugging Face's transformers
    python gpt.py --import=gpt2 out/gpt2            # a GPT-2 of theirs as a run: a folder or a name
"""
import argparse, base64, builtins, glob, itertools, json, math, os, signal, sys, urllib.parse
import webbrowser
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

import train
from prepare import BPE_PATTERN, GPT2_PATTERN  # how text is split into words
from train import GPT, GPTConfig, MEDIUM, SMALL, TINY, TOY, UserError  # noqa: F401 (for import)

# ---- A trained model from its file ---------------------------------------------------------------
END = "<|endoftext|>"

class Tokenizer:
    """Text to token ids and back. `endoftext` is the id that ends a document, the last one."""

    def __init__(self, spec):
        self.spec = spec  # as in meta.json: name, pattern, tokens
        self.encoding = train.load_tokenizer(spec)
        self.endoftext = self.encoding.eot_token

    def encode(self, text):
        """Token ids; <|endoftext|> is one. UserError: a character that a char tokenizer lacks."""
        if self.spec["name"] == "char":
            known = {token.decode() for token in self.encoding.token_byte_values()}
            for c in sorted(set(text.replace(END, "")) - known):
                raise UserError(f"the tokenizer has no token for {c!r} (U+{ord(c):04X}): it "
                                f"knows the {len(known)} characters of its training text")
        return self.encoding.encode(text, allowed_special="all")

    def token_bytes(self, token):
        """The bytes of a token, perhaps only a part of a character. No token: those of U+FFFD."""
        if 0 <= token < self.encoding.n_vocab:
            return self.encoding.decode_single_token_bytes(token)
        return "\ufffd".encode()

    def decode(self, ids):
        """The text of any token ids. What is not UTF-8 becomes U+FFFD."""
        data = b"".join(self.token_bytes(int(token)) for token in ids)
        return data.decode(errors="replace")

def checkpoint_file(path):
    """The .pt file that a path means: the file itself; for a run's folder its best.pt, or else its
    latest checkpoint; for a folder of runs the same of its newest run. UserError: there is none."""
    if os.path.isfile(path):
        return path
    for depth in ("", "*"):
        files = [os.path.join(path, file) for name in ("best.pt", "ckpt.pt", "ckpt_prev.pt")
                 for file in glob.glob(os.path.join(depth, name), root_dir=path)]
        if files:
            newest = os.path.dirname(max(files, key=os.path.getmtime))
            return next(file for file in files if os.path.dirname(file) == newest)
    raise UserError(f"there is no checkpoint in {path}: prepare.py, then train.py, make one")

def load(path, device="cpu"):
    """
    (model, tokenizer) of a run's folder or a .pt file: a GPT in eval mode with float32 weights on
    the device, and its Tokenizer. UserError: the file is missing or damaged; OSError: unreadable.
    """
    path = checkpoint_file(path)
    checkpoint = train.load_checkpoint(path)
    shape = {name: value for name, value in checkpoint["config"].items() if hasattr(TINY, name)}
    config = GPTConfig(**shape)  # old files lack fields, newer ones may have more
    with torch.device("meta"):  # draws no random weights
        model = GPT(config)
    try:
        model.load_state_dict(checkpoint["model"], assign=True)
    except RuntimeError:
        raise UserError(f"{path} does not have the weights of its config") from None
    if config.tie_weights:  # assign has made them two
        model.head.weight = model.tok_emb.weight
    return model.to(device).eval(), Tokenizer(checkpoint["tokenizer"])

# ---- Hugging Face: a run as their files, and their GPT-2 as a run ------------------------------
GPT2 = {  # what transformers' config must say of a model like ours
    "model_type": "gpt2", "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False}

# GPT-2's files spell a token with one printable character per byte (Radford et al. 2019): the
# byte's own in Latin-1, where that is visible, otherwise the next one from U+0100 on.
others = map(chr, range(256, 512))
ALPHABET = "".join(own if own.isprintable() and own != " " else next(others)
                   for own in map(chr, range(256)))

SPLIT = {"Regex": BPE_PATTERN.replace(r"|\s++$", "")}  # $ is the end of a line in their engine

def merges_of(texts):
    """The merges (left, right) of a BPE, from its spelled tokens in the order of their ranks. To
    find a token's two parts, its bytes are merged by the lower ranks until two pieces are left."""
    ranks, merges = {text: rank for rank, text in enumerate(texts)}, []
    for text, rank in ranks.items():
        parts = list(text)
        while len(parts) > 2:
            pairs = [ranks.get(left + right, rank) for left, right in itertools.pairwise(parts)]
            i = pairs.index(min(pairs))
            parts[i:i + 2] = [parts[i] + parts[i + 1]]
        if len(parts) == 2:
            merges.append(tuple(parts))
    return merges

def hugging_face():
    """The package transformers, without its progress bars and warnings."""
    try:
        import transformers
    except ImportError:
        raise UserError("this needs Hugging Face's package: pip install transformers") from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers

def weight_pairs(ours, theirs):
    """Yield each weight of a GPT beside that of a GPT2LMHeadModel, whose blocks have transposed
    matrices. Both models list their weights in the same order."""
    for p, (name, q) in zip(ours.parameters(), theirs.named_parameters(), strict=True):
        yield p.data, q.data.T if ".c_" in name and q.dim() == 2 else q.data

def export(run, folder):
    """Write a run (its folder or a .pt file) to a new folder, for transformers'
    AutoModelForCausalLM and AutoTokenizer. UserError: its tokenizer is not a byte-level BPE;
    OSError: the folder exists."""
    model, tokenizer = load(run)
    c, spec, end = model.config, tokenizer.spec, tokenizer.endoftext
    if spec["pattern"] not in (BPE_PATTERN, GPT2_PATTERN):
        raise UserError(f"{run} has a {spec['name']} tokenizer and a GPT-2 has a byte-level BPE: "
                        "prepare.py --tokenizer=bpe makes data for a run that can be exported")
    transformers = hugging_face()
    import tokenizers  # comes with transformers

    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=c.vocab_size, n_positions=c.max_seq_len, n_embd=c.d_model, n_head=c.n_heads,
        n_layer=c.n_layers, n_inner=c.mlp_ratio * c.d_model, tie_word_embeddings=c.tie_weights,
        bos_token_id=end, eos_token_id=end))
    ours = GPT(replace(c, bias=True))  # theirs always has biases: zeros where ours has none
    ours.load_state_dict(model.state_dict(), strict=False)
    for p, q in weight_pairs(ours, theirs):
        q.copy_(p)

    tokens = map(base64.b64decode, spec["tokens"])
    texts = [token.decode("latin-1").translate(ALPHABET) for token in tokens]
    ranks, merges = {text: rank for rank, text in enumerate(texts)}, merges_of(texts)
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(ranks, merges))
    words = tokenizers.pre_tokenizers
    bpe.pre_tokenizer = words.ByteLevel(add_prefix_space=False)
    if spec["pattern"] == BPE_PATTERN:
        split = words.Split(tokenizers.Regex(SPLIT["Regex"]), "isolated")
        byte_level = words.ByteLevel(add_prefix_space=False, use_regex=False)
        bpe.pre_tokenizer = words.Sequence([split, byte_level])
    bpe.decoder = tokenizers.decoders.ByteLevel()
    bpe.add_special_tokens([END])
    Path(folder).mkdir(parents=True)
    theirs.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=END, eos_token=END, model_max_length=c.max_seq_len,
        clean_up_tokenization_spaces=False).save_pretrained(folder)

def read_tokenizer(tokenizer):
    """(spec, ids) of a tokenizer of transformers: the spec as meta.json has it, and the ids there
    of its tokens and, last, of <|endoftext|>. ValueError: it is not GPT-2's kind of BPE."""
    found = json.loads(tokenizer.backend_tokenizer.to_str())
    model, words, pattern = found["model"], found["pre_tokenizer"] or {}, GPT2_PATTERN
    if words.get("pretokenizers", [{}])[0].get("pattern") == SPLIT:  # as export() writes it
        words, pattern = words["pretokenizers"][1] | {"use_regex": True}, BPE_PATTERN
    ids = tokenizer.get_vocab()
    merges = [tuple(m.split(" ") if isinstance(m, str) else m) for m in model["merges"]]
    texts = sorted(ALPHABET, key=lambda byte: ids.get(byte, 0)) + ["".join(m) for m in merges]
    if (model["type"] != "BPE" or found["normalizer"] or words.get("type") != "ByteLevel"
            or words["add_prefix_space"] or not words.get("use_regex", True)
            or merges_of(texts) != merges or sorted(ids) != sorted([*texts, END])):
        raise ValueError(f"its tokenizer is not 256 bytes, one token per merge, and {END}")
    tokens = [base64.b64encode(bytes(map(ALPHABET.index, text))).decode() for text in texts]
    name = "gpt2" if len(tokens) == 50_256 else "bpe"  # as prepare.py calls them
    spec = {"name": name, "pattern": pattern, "tokens": tokens}
    return spec, [ids[text] for text in [*texts, END]]

def import_gpt2(source, out_dir):
    """Make a GPT-2 of transformers, a folder or a name on their hub, a new run: best.pt to sample
    and finetune, meta.json for prepare.py --tokenizer=OUT_DIR. <|endoftext|> becomes the last id.
    Returns the GPTConfig. UserError: it is missing or no GPT-2; OSError: out_dir exists."""
    transformers = hugging_face()
    try:
        given = transformers.AutoConfig.from_pretrained(source)
        for name, ours in GPT2.items():
            if getattr(given, name, None) != ours:
                raise ValueError(f"its {name} is {getattr(given, name, None)}, not {ours}")
        spec, ids = read_tokenizer(transformers.AutoTokenizer.from_pretrained(source))
        theirs, report = transformers.GPT2LMHeadModel.from_pretrained(
            source, output_loading_info=True)
        if report["missing_keys"]:
            raise ValueError(f"it lacks {min(report['missing_keys'])}")

        config = GPTConfig(len(ids), given.n_positions, given.n_embd, given.n_head, given.n_layer,
                           (given.n_inner or 4 * given.n_embd) // given.n_embd,
                           tie_weights=given.tie_word_embeddings)
        ours = GPT(replace(config, vocab_size=given.vocab_size))
        for p, q in weight_pairs(ours, theirs):
            p.copy_(q)  # to float32
        weights = ours.state_dict()
        for name in ("tok_emb.weight", "head.weight"):  # our order, no rows that are no token's
            weights[name] = weights[name][ids]
    except Exception as error:  # a dozen kinds, some with pages of text
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{source} is not a GPT-2 to import: {reason:.200}") from None
    Path(out_dir).mkdir(parents=True)
    train.save_checkpoint(Path(out_dir, "best.pt"), {
        "format": 2, "model": weights, "config": asdict(config), "tokenizer": spec})
    Path(out_dir, "meta.json").write_text(json.dumps({"tokenizer": spec}), encoding="utf-8")
    return config

# ---- Curves, and the law that they follow --------------------------------------------------------
def read_log(run):
    """(name, columns) of a run's log.csv, or of a .csv file; an empty field is NaN."""
    is_log = str(run).endswith(".csv")
    path = Path(run) if is_log else Path(checkpoint_file(run)).parent / "log.csv"
    try:
        log = np.genfromtxt(path, delimiter=",", names=True, ndmin=1)
        log = {name: log[name] for name in ("val_loss", "loss", *COSTS)}
        if not np.isfinite(log["val_loss"]).any():
            raise ValueError("it has no val_loss")
    except (ValueError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is not a log of train.py: {reason}") from None
    return path.resolve().parent.name if path.name == "log.csv" else path.stem, log

COSTS = {"tokens": "training tokens", "flops": "training FLOPs", "seconds": "seconds of training"}

def plot(*runs):
    """A matplotlib figure: losses, nats per token, against tokens, training FLOPs and seconds. A
    run is a folder, a .pt or a .csv file. UserError: no matplotlib, or a damaged log; OSError."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise UserError("this needs matplotlib: pip install matplotlib") from None
    figure, axes = plt.subplots(1, 3, figsize=(15, 5), sharey=True, layout="constrained")
    plt.close(figure)  # otherwise a notebook shows it twice
    for name, log in map(read_log, runs):
        evals = np.isfinite(log["val_loss"]) & (log["tokens"] > 0)  # a log axis has no place for 0
        for axis, (cost, label) in zip(axes, COSTS.items(), strict=True):
            line, = axis.plot(log[cost][evals], log["val_loss"][evals], "o-", ms=3, label=name)
            axis.plot(log[cost], log["loss"], color=line.get_color(), alpha=0.3)
            axis.set(xscale="log", xlabel=label)
    axes[0].set_ylabel("loss, nats per token (dots: validation, faint: training)")
    axes[0].legend()
    return figure

def law(N, D, E, A, alpha, B, beta):
    """The loss of N parameters trained on D tokens (Hoffmann et al. 2022, equation 10)."""
    return E + A / N**alpha + B / D**beta

LAWS = {  # E, A, alpha, B, beta: approach 3, and a second fit to the same runs
    "Hoffmann et al. 2022": (1.69, 406.4, 0.34, 410.7, 0.28),
    "Besiroglu et al. 2024": (1.8172, 482.01, 0.3478, 2085.43, 0.3658)}

def fit_law(N, D, losses):
    """
    ((E, A, alpha, B, beta), error): the law closest to n runs, arrays (n,), and its root mean
    square error. For each pair of exponents from 0.02 to 1.5 the best E, A and B are linear.
    """
    def fit(alpha, beta):
        terms = np.stack((np.ones(len(N)), N**-alpha, D**-beta), axis=1)      # (n, 3)
        E, A, B = np.linalg.lstsq(terms, losses, rcond=None)[0]
        error = np.sqrt(np.mean((law(N, D, E, A, alpha, B, beta) - losses)**2))
        return error if min(E, A, B) > 0 else np.inf, (E, A, alpha, B, beta)

    exponents = itertools.product(np.arange(0.02, 1.51, 0.02), repeat=2)
    error, numbers = min(itertools.starmap(fit, exponents))
    if error == np.inf:
        raise UserError("these runs follow no such law: losses must fall with size and with tokens")
    return numbers, error

def describe_fit(runs, others=()):
    """Text: the law of the runs' last val losses, and what it predicts; for a run, without it."""
    names, points, n = [], [], len(runs)
    for name, log in map(read_log, [*runs, *others]):
        last = {key: column[np.isfinite(log["val_loss"])][-1] for key, column in log.items()}
        if not last["tokens"]:
            raise UserError(f"{name} has only the eval of its initial weights")
        names.append(name)
        N, D = last["flops"] / last["tokens"] / 6e6, last["tokens"] / 1e6
        points.append((N, D, last["val_loss"]))
    if n < 6:
        raise UserError(f"--fit takes six runs or more, not {n}: the law has five numbers")
    N, D, losses = np.array(points).T
    fit, error = fit_law(N[:n], D[:n], losses[:n])
    E, A, alpha, B, beta = fit
    lines = [f"loss = {E:.2f} + {A:.2f} / N^{alpha:.2f} + {B:.2f} / D^{beta:.2f}, off by "
             f"{error:.3f} nats (root mean square of {n} runs)",
             "N: millions of training FLOPs a token, over 6; D: millions of tokens", "",
             f"{'run':24}{'N':>8}{'D':>8}{'loss':>8}{'law':>8}{'off':>8}"]
    for i, name in enumerate(names):
        numbers = fit
        if i < n:
            numbers, _ = fit_law(*(np.delete(x[:n], i) for x in (N, D, losses)))
        predicted = law(N[i], D[i], *numbers)
        lines.append(f"{name:24}{N[i]:8.2f}{D[i]:8.2f}{losses[i]:8.3f}{predicted:8.3f}"
                     f"{predicted - losses[i]:+8.3f}")
    return "\n".join(lines)

# ---- The sizes on paper --------------------------------------------------------------------------
CARDS = {  # GB (the smaller, where there are two) and dense TFLOP/s in half precision, by data
    # sheets; USD per hour, an assumption
    "T4": (16, 65, 0.35), "L4": (24, 121, 0.70), "RTX 4090": (24, 165, 0.40),
    "A100": (40, 312, 1.80), "H100": (80, 989, 3.00), "H200": (141, 989, 4.00)}
LEAST_STEP = 0.02  # seconds of a step on a GPU, however small the model: Python starts the kernels

PARTS = {  # label: what the names of its parameters contain
    "token embeddings": "tok_emb", "position embeddings": "pos_emb", "attention": "attn",
    "MLP": "mlp", "LayerNorms": "ln_", "head": "head"}

def activation_bytes(config, half=True, grad_checkpoint=False):
    """
    (kept, peak), bytes per token: what autograd keeps for the backward pass, and the most that
    activations and their gradients take during it. half: with autocast to bfloat16 or float16.
    """
    d, size, logits = config.d_model, 2 if half else 4, 4 * config.vocab_size  # float32 logits
    hidden = size * config.mlp_ratio * d              # the width of the MLP
    layer_norm = 4 * d + 2 * 4 + size * d             # float32 input, mean, 1/std; output
    attention = 4 * size * d + 4 * config.n_heads     # q, k, v, proj's input; log-sum-exp
    block = 2 * layer_norm + attention + 2 * hidden   # GELU's input and its output
    head = layer_norm + logits + 2 * 8                # and the ids of inputs and targets, int64
    blocks = config.n_layers * (4 * d if grad_checkpoint else block)
    in_head = head + 2 * logits                       # gradients of log-probabilities, logits
    in_block = (block if grad_checkpoint else 0) + 4 * d + 2 * hidden  # recomputed, and gradients
    return blocks + head, blocks + max(in_head, in_block)

def training_bytes(model, sequences, optimizer="muon", half=True, grad_checkpoint=False):
    """
    The parts, in bytes, of the most memory that a step takes with this many sequences at once.
    half and grad_checkpoint: as in activation_bytes. What a GPU's driver takes is not counted.
    """
    c, n_params = model.config, train.count(model)
    matrices = sum(p.numel() for p in model.blocks.parameters() if p.dim() == 2)
    moments, products = 8 * n_params, 0
    if optimizer == "muon":
        moments -= 4 * matrices  # one moment instead of two
        of_largest_shape = c.n_layers * c.mlp_ratio * c.d_model**2
        products = (19 if half else 17) * of_largest_shape  # measured: the copies in Muon's step
    copied = train.count(model.head)
    copied += matrices // c.n_layers if grad_checkpoint else matrices  # one block at a time
    activations = sequences * c.max_seq_len * activation_bytes(c, half, grad_checkpoint)[1]
    return {"weights, float32": 4 * n_params,
            "their copies in half precision": 2 * copied if half else 0,
            "gradients, float32": 4 * n_params,
            "the optimizer's moments, float32": moments,
            "activations, or later Muon's products": max(activations, products)}

def largest_micro_batch(model, sequences, n_bytes, *how):
    """`sequences`, halved until training takes at most n_bytes, as train.py does; 0: none fits."""
    n = sequences
    while n and sum(training_bytes(model, n, *how).values()) > n_bytes:
        n //= 2
    return n

def describe(size, config, tokens_per_param=20, mfu=0.4, optimizer="muon", card="T4", half=True):
    """What follows from a size: a dict from labels to texts; headings have empty texts."""
    with torch.device("meta"):
        model = GPT(config)
    parts = {label: sum(p.numel() for name, p in model.named_parameters() if key in name)
             for label, key in PARTS.items()}
    n_params, T = train.count(model), config.max_seq_len
    flops, tokens = train.flops_per_token(model), tokens_per_param * n_params
    sequences, lr = train.recipe(config, tokens, train.SEQUENCES[size], optimizer)
    embeddings = train.count(model.tok_emb) + train.count(model.pos_emb)
    loss = law(n_params, tokens, *LAWS["Hoffmann et al. 2022"])
    expected = f"{loss:.2f}" if n_params >= 44e6 else "unknown"
    micro_batch = min(sequences, max(1, 16_384 // T))  # train.py's, on a GPU below 39 GB
    memory = training_bytes(model, micro_batch, optimizer, half)
    less_memory = training_bytes(model, micro_batch, optimizer, half, grad_checkpoint=True)
    room = 0.9e9 * CARDS[card][0]  # the driver takes the rest
    most, most_with_less = (largest_micro_batch(model, sequences, room, optimizer, half, less)
                            for less in (False, True))
    table = {
        "": size,
        "layers x width, heads": f"{config.n_layers} x {config.d_model}, {config.n_heads}",
        "vocabulary, context": f"{config.vocab_size:,}, {T:,}",
        "parameters": "",
        **{f"  {label}": f"{n:,}" if n else "0 (tied)" for label, n in parts.items()},
        "  total": f"{n_params:,}",
        "  without embeddings": f"{n_params - embeddings:,}",
        "recipe": "",
        "  training FLOPs a token": f"{flops / 1e6:,.1f} M",
        f"  tokens, {tokens_per_param:g} per parameter": f"{tokens / 1e6:,.1f} M",
        "  loss to expect, nats per token": expected,
        f"  peak learning rate of {optimizer}": f"{lr:.2e}",
        "  batch: sequences x context": f"{sequences} x {T:,}",
        "  tokens per step": f"{sequences * T:,}",
        "  steps": f"{-(-tokens // (sequences * T)):,.0f}",
        "  micro-batch on a GPU": f"{micro_batch} x {T:,}",
        "memory at this micro-batch, MB": "",
        **{f"  {label}": f"{n / 1e6:,.1f}" for label, n in memory.items()},
        "  all of these": f"{sum(memory.values()) / 1e6:,.1f}",
        "  all with --grad_checkpoint": f"{sum(less_memory.values()) / 1e6:,.1f}",
        f"largest micro-batch on one {card} ({CARDS[card][0]} GB)": f"{most} x {T:,}",
        "  with --grad_checkpoint": f"{most_with_less} x {T:,}",
        f"time and money at {mfu:.0%} of a card's peak in half precision": ""}
    for name, (_, teraflops, price) in CARDS.items():
        step = max(flops * sequences * T / (mfu * teraflops * 1e12), LEAST_STEP)  # seconds
        hours = math.ceil(tokens / (sequences * T)) * step / 3600
        time = f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:,.1f} min"
        label = f"  {name}: {teraflops} TFLOP/s, ${price:.2f} an hour"
        table[label] = f"{time}, ${price * hours:,.2f}"
    return table

NOTE = """
Activations: the most that a backward pass takes, without dropout, not compiled. 1 MB is 1e6 bytes.
A micro-batch fits if everything takes at most 90% of the card. Prices and the share of the peak are
assumptions; toy and tiny reach far less. The loss is 1.69 + 406.4 / parameters^0.34 + 410.7 /
tokens^0.28 (Hoffmann et al. 2022, equation 10), fitted to 44M to 16B parameters on MassiveText; on
other text or with other tokenizers losses differ. Besiroglu et al. 2024 made another fit."""

# ---- The command line, and what sample.py shares of it -------------------------------------------
class Parser(argparse.ArgumentParser):
    """A parser that answers a mistake with a UserError: one line, without the usage."""
    def error(self, message):
        raise UserError(message)

def number(kind, least, most):
    """A parser of a flag's number. argparse makes one line of its ValueError and its name."""
    def parse(text):
        if not least <= kind(text) <= most:
            raise ValueError
        return kind(text)
    parse.__name__ = f"number from {least:,} to {most:,}:"
    return parse

def true_or_false(text):
    """A flag's True or False."""
    return bool(["False", "True"].index(text))

def parse_flags():
    """The command line as a namespace. UserError: there is a mistake in it."""
    parser = Parser("python gpt.py", allow_abbrev=False)
    add, whole = parser.add_argument, number(int, 1, 100_000)
    add("runs", nargs="*", metavar="RUN", help="a run's folder, a .pt file, or a log.csv")
    add("--calculator", action="store_true", help="open assets/calculator.html with these flags")
    add("--plot", action="store_true", help="draw the losses of RUNs")
    add("--save", default="loss.png", help="in this file: .png, .svg or .pdf [loss.png]")
    add("--fit", action="store_true", help="fit a scaling law to RUNs")
    add("--predict", metavar="RUN", action="append", default=[], help="a run to try the law on")
    add("--export", metavar="FOLDER", help="write RUN for transformers")
    add("--import", dest="source", metavar="SOURCE", help="make a GPT-2 of transformers a new RUN")
    add("--size", choices=train.SIZES, help="this size alone")
    add("--tokens_per_param", type=number(float, 1e-6, 1e6), default=20, help="a run's length [20]")
    add("--optimizer", choices=train.LR_SCALES, default="muon", help="[muon]")
    add("--gpu", choices=CARDS, default="T4", help="the card whose memory is to be filled [T4]")
    add("--dtype", choices=("half", "float32"), default="half", help="of matrix products [half]")
    add("--vocab_size", type=whole, help="tokens, <|endoftext|> included [4096]")
    add("--max_seq_len", type=whole, help="context, in tokens")
    add("--d_model", type=whole, help="width of the residual stream")
    add("--n_heads", type=whole, help="attention heads; they divide d_model")
    add("--n_layers", type=whole, help="transformer blocks")
    add("--bias", type=true_or_false, help="whether there are biases [True]")
    add("--tie_weights", type=true_or_false, help="whether head and token embedding are one [True]")
    add("--mfu", type=number(float, 0.001, 1), default=0.4, help="share of a card's peak [0.4]")
    flags = parser.parse_intermixed_args()
    many, one = flags.plot + flags.fit, bool(flags.export) + bool(flags.source)
    if many + one > 1 or bool(flags.runs) != many + one or len(flags.runs) > 1 and one:
        parser.error("give --plot or --fit with runs, --export or --import with one run, "
                     "or neither")
    return flags

def run_script(main):
    """Call a script's main(). A user's mistake is one line, in a terminal with exit status 2."""
    notebook = hasattr(builtins, "get_ipython")
    if not notebook and hasattr(signal, "SIGPIPE"):  # a closed pipe, as of `| head`, just ends it
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        main()
    except (UserError, OSError) as error:
        if notebook:
            raise UserError(error) from None
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

def open_calculator(flags, shape):
    """Open assets/calculator.html in the browser, with the flags in its address."""
    names = "size", "tokens_per_param", "optimizer", "gpu", "dtype", "mfu"
    chosen = {name: getattr(flags, name) or "tiny" for name in names} | shape
    page = Path(__file__).resolve().with_name("assets") / "calculator.html"
    address = f"{page.as_uri()}#{urllib.parse.urlencode(chosen)}"
    print(address)  # some systems cut it at the #
    webbrowser.open(address)

def main():
    flags = parse_flags()
    if flags.plot:
        try:
            plot(*flags.runs).savefig(flags.save)
        except ValueError as error:  # also a format that matplotlib does not know
            raise UserError(error) from None
        print(f"{flags.save} is drawn")
    elif flags.fit:
        print(describe_fit(flags.runs, flags.predict))
    elif flags.export:
        export(flags.runs[0], flags.export)
        print(f"{flags.export} is ready: AutoModelForCausalLM.from_pretrained({flags.export!r})")
    elif flags.source:
        run = flags.runs[0]
        config = import_gpt2(flags.source, run)
        name = f"my-{Path(run).name}"
        print(f'{run} is ready: python sample.py "{run}" writes text. To finetune it:\n'
              f'python prepare.py --input=my.txt --dataset="{name}" --tokenizer="{run}"\n'
              f'python train.py --dataset="{name}" --init_from="{run}" --max_steps=50 '
              f"--lr={0.4 / config.d_model:.1e}")
    else:
        sizes = [flags.size] if flags.size else train.SIZES
        shape = {name: value for name, value in vars(flags).items()
                 if value is not None and hasattr(TINY, name)}
        if flags.calculator:
            return open_calculator(flags, shape)
        how = flags.tokens_per_param, flags.mfu, flags.optimizer, flags.gpu, flags.dtype == "half"
        tables = [describe(size, replace(train.SIZES[size], **shape), *how) for size in sizes]
        for label in tables[0]:
            texts = [table[label] for table in tables]
            row = "".join(f"{text:>18}" for text in texts)
            print(f"{label:<44}{row}" if any(texts) else f"\n{label}")
        print(NOTE)

if __name__ == "__main__":
    run_script(main)
