"""
A GPT from the outside: the name to import, the sizes on paper, a trained model from its file, its loss as a curve.

    from gpt import GPT, GPTConfig, TOY, TINY, SMALL, MEDIUM, load
    model, tokenizer = load("out/python-tiny")

    python gpt.py                                       # every size: parameters, recipe, memory, time and money
    python gpt.py --size=small --vocab_size=32000       # a size of your own
    python gpt.py --size=medium --gpu=T4                # the micro-batch that fits a card
    python gpt.py --plot out/a out/b                    # losses against tokens, FLOPs and seconds, in loss.png
    python gpt.py --fit out/a out/b ...                 # the scaling law that six runs or more follow
    python gpt.py --export=FOLDER out/a                 # a run as files that Hugging Face's transformers opens
    python gpt.py --import=FOLDER out/gpt2              # such files of a GPT-2 as a run, to sample and to finetune

The counts are taken from train.py's model itself, built on torch's meta device: shapes without memory.
"""
import argparse, base64, difflib, glob, itertools, json, os, re, signal, sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

if __name__ == "__main__":  # Ctrl-C, or a reader such as head that has seen enough, ends it without a traceback
    for name in {"SIGINT", "SIGPIPE"} & set(dir(signal)):  # Windows has no SIGPIPE
        signal.signal(getattr(signal, name), signal.SIG_DFL)

import numpy as np
import torch

import train
from train import GPT, GPTConfig, MEDIUM, SMALL, TINY, TOY, UserError  # noqa: F401 (names to import from here)

# -----------------------------------------------------------------------------------------------------------------
# A trained model from its file.

class Tokenizer:
    """A checkpoint's own tokenizer: text to token ids and back. `endoftext` is the id that ends a document."""

    def __init__(self, spec):
        self.spec, self.encoding = spec, train.load_tokenizer(spec)
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
# Hugging Face's files, from a run and to one. The model is the same; its weights have other names there, the matrices
# in its blocks are transposed, and a token is spelled with a printable character for each byte.

GPT2 = {"model_type": "gpt2", "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}  # what config.json says of our model
SHAPE = {"max_seq_len": "n_positions", "d_model": "n_embd", "n_heads": "n_head", "n_layers": "n_layer",
         "tie_weights": "tie_word_embeddings"}  # and of its shape
NAMES = {"tok_emb": "transformer.wte", "pos_emb": "transformer.wpe", "blocks": "transformer.h", "qkv": "c_attn",
         "proj": "c_proj", "mlp.0": "mlp.c_fc", "mlp.2": "mlp.c_proj", "ln_f": "transformer.ln_f", "head": "lm_head"}
END, WORDS = "<|endoftext|>", {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"  # prepare.py's
others = map(chr, range(256, 512))  # for the bytes that Latin-1 shows as nothing, or as a space
ALPHABET = "".join(shown if shown.isprintable() and shown != " " else next(others) for shown in map(chr, range(256)))


def merges_of(texts):
    """A BPE's merges, "left right", from its tokens by rank: the two parts are what lower ranks leave of a token."""
    ranks, merges = {text: rank for rank, text in enumerate(texts)}, []
    for rank, text in enumerate(texts):
        parts = list(text)
        while len(parts) > 2:
            pairs = [ranks.get(left + right, rank) for left, right in zip(parts, parts[1:])]
            i = pairs.index(min(pairs))
            parts[i:i + 2] = [parts[i] + parts[i + 1]]
        merges += [" ".join(parts)] * (len(parts) == 2)
    return merges


def gpt2_names(model):
    """Yield each weight's name, Hugging Face's name of it and whether it is transposed there; not a tied head."""
    for name, weight in model.named_parameters():
        theirs = re.sub("|".join(NAMES), lambda part: NAMES[part[0]], name)
        yield name, theirs, ".c_" in theirs and weight.dim() == 2


def make_folder(path):
    """Make a folder and return its Path; UserError where there is something in it."""
    Path(path).mkdir(parents=True, exist_ok=True)
    if os.listdir(path):
        raise UserError(f"{path} is not empty: name a new folder")
    return Path(path)


def export(run, folder):
    """
    Write a run, its folder or a .pt file, to a new folder, for transformers' AutoModelForCausalLM and AutoTokenizer.
    UserError where that is not empty, or the tokenizer is no byte-level BPE, the only kind that their GPT-2 has.
    """
    model, tokenizer = load(run)
    c, end, spec = model.config, tokenizer.endoftext, tokenizer.spec
    if spec["pattern"] != GPT2_PATTERN:
        raise UserError(f"{run} has a {spec['name']!s:.99} tokenizer, transformers' GPT-2 byte-level BPE alone: "
                        f"prepare.py --tokenizer=bpe makes data for a run that can be exported")
    texts = [base64.b64decode(token).decode("latin-1").translate(ALPHABET) for token in spec["tokens"]]
    files = {
        "config.json": GPT2 | {theirs: getattr(c, ours) for ours, theirs in SHAPE.items()} | {
            "architectures": ["GPT2LMHeadModel"], "vocab_size": c.vocab_size, "n_inner": c.mlp_ratio * c.d_model,
            "bos_token_id": end, "eos_token_id": end, "embd_pdrop": c.dropout, "attn_pdrop": c.dropout,
            "resid_pdrop": c.dropout},
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "model_max_length": c.max_seq_len,
                                  "clean_up_tokenization_spaces": False},
        "vocab.json": {text: rank for rank, text in enumerate([*texts, END])}}
    full = GPT(replace(c, bias=True))  # theirs has biases: where ours has none, the zeros that they start as
    full.load_state_dict(model.state_dict(), strict=False)
    header, arrays, n_bytes = {"__metadata__": {"format": "pt"}}, [], 0
    for name, theirs, transposed in gpt2_names(full):
        weight = full.state_dict()[name]
        arrays.append((weight.T if transposed else weight).numpy().astype("<f4", copy=False))
        places = [n_bytes, n_bytes := n_bytes + arrays[-1].nbytes]
        header[theirs] = {"dtype": "F32", "shape": arrays[-1].shape, "data_offsets": places}
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)  # aligns the numbers
    folder = make_folder(folder)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges_of(texts), ""]), encoding="utf-8")
    with open(folder / "model.safetensors", "wb") as file:
        file.writelines([len(header).to_bytes(8, "little"), header, *(array.tobytes() for array in arrays)])


def read_safetensors(path):
    """A file's tensors by name, mapped to memory: 8 bytes, the header's length; the header, JSON; then numbers."""
    data = np.memmap(path, np.uint8, "c")
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    kinds = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    return {name: torch.from_numpy(data[start:][slice(*of["data_offsets"])]).view(kinds[of["dtype"]]).view(of["shape"])
            for name, of in json.loads(data[8:start].tobytes()).items() if of.get("dtype") in kinds}


def read_tokenizer(folder):
    """(the tokenizer in Hugging Face's files as meta.json has it, the ids there of its tokens and <|endoftext|>)"""
    found = {"added_tokens": [], "normalizer": None, "pre_tokenizer": WORDS}
    if (folder / "tokenizer.json").exists():
        found |= json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    else:
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        found["model"] = {"merges": [line for line in lines if not line.startswith("#version")],
                          "vocab": json.loads((folder / "vocab.json").read_text(encoding="utf-8"))}
    ids = found["model"]["vocab"] | {token["content"]: token["id"] for token in found["added_tokens"]}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in found["model"]["merges"]]
    texts = sorted(ALPHABET, key=lambda byte: ids.get(byte, 0)) + [merge.replace(" ", "") for merge in merges]
    if (sorted(ids) != sorted([*texts, END]) or merges != merges_of(texts) or found["normalizer"]
            or WORDS | found["pre_tokenizer"] != WORDS):
        raise UserError(f"{folder} has another kind of tokenizer than GPT-2's: 256 bytes, a token a merge, and {END}")
    tokens = [base64.b64encode(bytes(map(ALPHABET.index, text))).decode() for text in texts]
    spec = {"name": "gpt2" if len(tokens) == 50256 else "bpe", "pattern": GPT2_PATTERN, "tokens": tokens}
    return spec, [ids[text] for text in [*texts, END]]


def import_gpt2(folder, out_dir):
    """
    Make a new run of a GPT-2 in Hugging Face's files: config.json, model.safetensors or pytorch_model.bin, and
    tokenizer.json or vocab.json and merges.txt. Its best.pt is to be sampled or finetuned, its meta.json holds the
    tokenizer for prepare.py --tokenizer=OUT_DIR; <|endoftext|> becomes the last id. Returns the GPTConfig. UserError
    where out_dir is not empty, or the files are another model's or damaged; OSError where one is missing.
    """
    folder = Path(folder)
    try:
        given = {"tie_word_embeddings": True} | json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if unlike := [f"{name} {given[name]}" for name, ours in GPT2.items() if given.get(name, ours) != ours]:
            raise UserError(f"{folder} holds no GPT-2 but a model with {', '.join(unlike):.99}")
        spec, ids = read_tokenizer(folder)
        shape = {ours: given[theirs] for ours, theirs in SHAPE.items()}
        if any(type(value) not in (int, bool) or value < 0 for value in shape.values()):
            raise ValueError("no shape")
        ratio = (given.get("n_inner") or 4 * shape["d_model"]) // shape["d_model"]  # if rounded, no weight fits
        config = GPTConfig(vocab_size=len(ids), mlp_ratio=ratio, **shape)
        path = folder / "model.safetensors"
        path = path if path.exists() else folder / "pytorch_model.bin"
        found = torch.load(path, "cpu", weights_only=True) if path.suffix == ".bin" else read_safetensors(path)
        if config.n_layers > len(found):
            raise ValueError("more layers than weights")
        with torch.device("meta"):
            model = GPT(config)
        weights = {}
        for name, theirs, transposed in gpt2_names(model):
            weight = found[theirs] if theirs in found else found[theirs.removeprefix("transformer.")]
            weights[name] = weight.T if transposed else weight
        if sum(weight.numel() for weight in weights.values()) > path.stat().st_size:
            raise ValueError("a few numbers stretched to large tensors")
        for name in {"tok_emb.weight", "head.weight"} & weights.keys():
            weights[name] = weights[name][ids]  # leaves out rows that are no token's
        weights = {name: weight.float().contiguous() for name, weight in weights.items()}
        model.load_state_dict({"head.weight": weights["tok_emb.weight"]} | weights, assign=True)
    except (UserError, OSError):
        raise
    except Exception as error:  # a dozen kinds, as any field may be wrong
        raise UserError(f"{folder} is damaged, or not what its config.json says ({type(error).__name__})") from None
    checkpoint = {"format": 1, "model": model.state_dict(), "config": asdict(config), "tokenizer": spec,
                  "settings": train.same_model(config, spec)}  # which init_from compares
    if not train.save_checkpoint(make_folder(out_dir) / "best.pt", checkpoint):
        raise UserError(f"{out_dir} could not be written")
    Path(out_dir, "meta.json").write_text(json.dumps({"tokenizer": spec}))
    return config


# -----------------------------------------------------------------------------------------------------------------
# Curves, and the law that they follow.

def read_log(run):
    """(name, columns by their names) of a run's log.csv, or of a .csv; an empty field is NaN. UserError, OSError."""
    path = Path(run) if str(run).endswith(".csv") else Path(checkpoint_file(run)).parent / "log.csv"
    try:
        log = np.genfromtxt(path, delimiter=",", names=True, ndmin=1)
        if "flops" not in log.dtype.names and "tokens" in log.dtype.names:
            raise ValueError("its train.py did not write flops yet")
        log = {name: log[name] for name in ("val_loss", "loss", "tokens", "flops", "seconds")}
        if not np.isfinite(log["val_loss"]).any():
            raise ValueError("no val_loss")
    except (ValueError, IndexError) as error:
        raise UserError(f"{path} is damaged, or no log of today's train.py ({error})") from None
    return path.resolve().parent.name if path.name == "log.csv" else path.stem, log


def plot(*runs):
    """
    A matplotlib figure of the losses in runs' log.csv, nats a token, against tokens, training FLOPs and seconds: of
    validation with dots, of training faint. A run is a folder, a .pt or a .csv. UserError where matplotlib is missing
    or a log.csv is damaged, OSError where there is none.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise UserError("curves are drawn by matplotlib, which is not installed: pip install matplotlib") from None
    figure, axes = plt.subplots(1, 3, figsize=(15, 5), sharey=True, layout="constrained")
    plt.close(figure)  # else a notebook would show it twice
    for name, log in map(read_log, runs):
        evals = np.isfinite(log["val_loss"]) & (log["tokens"] > 0)
        for axis, cost in zip(axes, ("tokens", "flops", "seconds")):
            line, = axis.plot(log[cost][evals], log["val_loss"][evals], marker="o", markersize=3, label=name)
            axis.plot(log[cost], log["loss"], color=line.get_color(), alpha=0.3)
    for axis, label in zip(axes, ("training tokens", "training FLOPs", "training time, seconds")):
        axis.set_xscale("log")
        axis.set_xlabel(label)
    axes[0].set_ylabel("loss, nats a token (dots: validation, faint: training)")
    axes[0].legend()
    return figure


def law(N, D, E, A, alpha, B, beta):
    """The loss of a model of N parameters after D tokens (Hoffmann et al. 2022, equation 10)."""
    return E + A / N**alpha + B / D**beta


def fit_law(N, D, losses):
    """
    (E, A, alpha, B, beta), error: the law that is closest to n losses, of arrays (n,), and its root mean square error.
    Of each pair of exponents from 0.02 to 1.5 the best factors are known; the pair with the least error is taken.
    """
    def fit(alpha, beta):
        terms = np.stack((np.ones(len(N)), N**-alpha, D**-beta), axis=1)  # (n, 3)
        E, A, B = np.linalg.lstsq(terms, losses, rcond=None)[0]
        error = np.sqrt(np.mean((law(N, D, E, A, alpha, B, beta) - losses)**2))
        return error if min(E, A, B) > 0 else np.inf, (E, A, alpha, B, beta)

    error, numbers = min(itertools.starmap(fit, itertools.product(np.arange(0.02, 1.51, 0.02), repeat=2)))
    if error == np.inf:
        raise UserError("these runs follow no such law: their losses must fall with size and with tokens, in both")
    return numbers, error


def describe_fit(runs, others=()):
    """Text: the law that runs' last val losses follow; beside each what the law of the rest says; then others."""
    points = []
    for name, log in map(read_log, [*runs, *others]):
        end = {key: column[np.isfinite(log["val_loss"])][-1] for key, column in log.items()}  # the last eval
        if not end["tokens"]:
            raise UserError(f"{name} has no eval but that of its first weights")
        points.append((name, end["flops"] / end["tokens"] / 6e6, end["tokens"] / 1e6, end["val_loss"]))
    names, n, (N, D, losses) = [point[0] for point in points], len(runs), np.array([point[1:] for point in points]).T
    if n < 6:
        raise UserError(f"--fit takes six runs or more, of several sizes and lengths, not {n}: a law has five numbers")
    fit, error = fit_law(N[:n], D[:n], losses[:n])
    E, A, alpha, B, beta = fit
    text = [f"loss = {E:.2f} + {A:.2f} / N^{alpha:.2f} + {B:.2f} / D^{beta:.2f}, off by {error:.3f} nats (root mean "
            f"square of {n} runs)", "N: millions of training FLOPs a token, over 6; D: millions of tokens",
            "", f"{'run':24}{'N':>8}{'D':>8}{'loss':>8}{'law':>8}{'off':>8}"]
    for i, name in enumerate(names):
        numbers = fit_law(*(np.delete(x[:n], i) for x in (N, D, losses)))[0] if i < n else fit
        told = law(N[i], D[i], *numbers)
        text.append(f"{name:24}{N[i]:8.2f}{D[i]:8.2f}{losses[i]:8.3f}{told:8.3f}{told - losses[i]:+8.3f}")
    return "\n".join(text)


# -----------------------------------------------------------------------------------------------------------------
# The sizes on paper.

PRICES = {"T4": 0.35, "A100": 1.80, "H200": 4.00}  # USD an hour of one card: assumed, as offers differ
MEMORY = {"T4": 16, "V100": 16, "L4": 24, "A10": 24, "RTX 3090": 24, "RTX 4090": 24, "A100": 40, "L40": 48, "L40S": 48,
          "H100": 80, "H200": 141}  # GB: the makers' data sheets, of two sizes the smaller

PARTS = {"tok_emb": "token embeddings", "pos_emb": "position embeddings", "attn": "attention", "mlp": "MLP",
         "ln_": "LayerNorms", "head": "head"}  # by what the names of their parameters contain


def activation_bytes(config, half=True, grad_checkpoint=False):
    """
    (kept, peak), bytes a token: what autograd keeps for the backward pass, and the most that activations and their
    gradients take during it. half: under autocast to bfloat16 or float16. Without dropout, not compiled.
    """
    d, size, logits = config.d_model, 2 if half else 4, 4 * config.vocab_size  # log-probabilities: float32
    hidden = size * config.mlp_ratio * d              # the MLP's width
    layer_norm = 4 * d + 2 * 4 + size * d             # its input (float32), mean and 1/std, then its output
    attention = 4 * size * d + 4 * config.n_heads     # q, k, v and what proj reads; a log-sum-exp a head
    block = 2 * layer_norm + attention + 2 * hidden   # before GELU, for its slope, and after it, for mlp.2
    head = layer_norm + logits + 2 * 8                # ids of inputs and targets: int64
    blocks = config.n_layers * (4 * d if grad_checkpoint else block)
    in_head = head + 2 * logits                       # gradients of log-probabilities and logits
    in_block = (block if grad_checkpoint else 0) + 4 * d + 2 * hidden  # made again, and its gradients
    return blocks + head, blocks + max(in_head, in_block)


def training_bytes(model, sequences, optimizer="muon", half=True, grad_checkpoint=False):
    """
    The most memory that a step takes with so many sequences at once, by its parts, in bytes, without what a card's
    driver takes. half and grad_checkpoint: as in activation_bytes.
    """
    c, n_params = model.config, train.count(model)
    in_blocks = sum(p.numel() for p in model.blocks.parameters() if p.dim() == 2)  # the matrices
    copied = train.count(model.head) + in_blocks // (c.n_layers if grad_checkpoint else 1)  # then one block at a time
    activations = sequences * c.max_seq_len * activation_bytes(c, half, grad_checkpoint)[1]
    products = 13 * c.n_layers * c.mlp_ratio * c.d_model**2 if optimizer == "muon" else 0  # of the largest shape
    return {"weights, float32": 4 * n_params,
            "their copies in half precision": 2 * copied if half else 0,
            "gradients, float32": 4 * n_params,
            "the optimizer's moments, float32": 8 * n_params - (4 * in_blocks if optimizer == "muon" else 0),
            "activations, or later Muon's products": max(activations, products)}


def largest_micro_batch(model, sequences, n_bytes, **how):
    """The most of `sequences`, a divisor of them, whose training fits n_bytes; 0: not one does."""
    sizes = reversed(train.divisors(sequences, sequences))
    return next((n for n in sizes if sum(training_bytes(model, n, **how).values()) <= n_bytes), 0)


def predict_loss(n_params, tokens):
    """Nats a token by Hoffmann et al. 2022, equation 10 (approach 3), for n_params trained on so many tokens."""
    return 1.69 + 406.4 / n_params**0.34 + 410.7 / tokens**0.28


def describe(size, config, mfu=0.4, optimizer="muon", card="T4", half=True):
    """What follows from a size: a dict from labels to text, which is "" beside a heading. Builds no weights."""
    with torch.device("meta"):
        model = GPT(config)
    parts = {part: sum(p.numel() for name, p in model.named_parameters() if key in name) for key, part in PARTS.items()}
    n_params, T, sequences = sum(parts.values()), config.max_seq_len, train.SEQUENCES[size]
    lr, steps = train.recipe(config, n_params, sequences, train.LR_SCALES[optimizer])
    tokens = 20 * n_params
    flops = train.flops_per_token(model)
    gpu = SimpleNamespace(device=torch.device("cuda"), batch_size=None, grad_accum_steps=None)
    micro_batch, _ = train.split_batch(gpu, sequences, T)
    memory = training_bytes(model, micro_batch, optimizer, half)
    less_memory = training_bytes(model, micro_batch, optimizer, half, grad_checkpoint=True)
    room = 0.9e9 * MEMORY[card]  # the rest: the driver's, and what lies between tensors
    largest, larger = (largest_micro_batch(model, sequences, room, optimizer=optimizer, half=half, grad_checkpoint=less)
                       for less in (False, True))
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
        "memory at this micro-batch, MB": "",
        **{f"  {part}": f"{n / 1e6:,.1f}" for part, n in memory.items()},
        "  all of these": f"{sum(memory.values()) / 1e6:,.1f}",
        "  all with --grad_checkpoint": f"{sum(less_memory.values()) / 1e6:,.1f}",
        f"largest micro-batch on one {card} ({MEMORY[card]} GB)": f"{largest} x {T:,}" if largest else "none",
        "  with --grad_checkpoint": f"{larger} x {T:,}" if larger else "none",
        f"time and money at {mfu:.0%} of a card's peak in half precision": ""}
    for name in dict.fromkeys([*PRICES, card]) if half else ():
        peak, price = train.PEAK_FLOPS[name], PRICES.get(name)
        hours = flops * tokens / (mfu * peak) / 3600
        label = f"  {name}: {peak / 1e12:.0f} TFLOP/s" + (f", ${price:.2f} an hour" if price else "")
        time = f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:,.1f} min"
        table[label] = time + (f", ${price * hours:,.2f}" if price else "")
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
        how = {"type": kind} if callable(kind) else {"choices": kind}
        parser.add_argument(f"--{name}", default=default, metavar="X", help=f"{meaning} [{default}]", **how)

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
    parser = argparse.ArgumentParser(usage="python gpt.py [--name=value ...] [RUN ...]", allow_abbrev=False,
                                     description="The sizes on paper, as they are or with a shape of your own (None: "
                                     "the size's); or, with one of the first four flags, what it says of runs.")
    parser.add_argument("runs", nargs="*", metavar="RUN", help="a run's folder or .pt file, or (--plot, --fit) log.csv")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--plot", action="store_true", help="draw RUNs' losses against tokens, FLOPs and seconds")
    action.add_argument("--fit", action="store_true", help="the scaling law that RUNs' last val losses follow")
    action.add_argument("--export", metavar="FOLDER", help="write RUN to a new folder that transformers opens")
    action.add_argument("--import", metavar="FOLDER", help="make a new RUN of a GPT-2 in Hugging Face's files")
    parser.add_argument("--predict", metavar="RUN", action="append", default=[], help="a run to try the fit's law on")
    flags = read_flags(parser, [
        ("save", str, "loss.png", "the plot, a .png, .svg or .pdf"),
        ("size", train.SIZES, None, "toy, tiny, small or medium alone"),
        ("optimizer", train.LR_SCALES, "muon", "muon keeps one moment of the blocks' weights, adamw two"),
        ("gpu", MEMORY, "T4", f"the card whose memory is to be filled: {', '.join(MEMORY)}"),
        ("dtype", ("half", "float32"), "half", "of products: bfloat16 or, on a T4 or V100, float16; or float32"),
        ("vocab_size", number(int, 1, 10**7), 4096, "tokens, <|endoftext|> counted"),
        ("max_seq_len", number(int, 1, 10**7), None, "context, in tokens"),
        ("d_model", number(int, 1, 10**5), None, "width"),
        ("n_heads", number(int, 1, 10**5), None, "attention heads; they divide d_model"),
        ("n_layers", number(int, 1, 1000), None, "transformer blocks"),
        ("bias", true_or_false, True, "biases in linear layers and LayerNorms"),
        ("tie_weights", true_or_false, True, "the head shares the token embedding's weights"),
        ("mfu", number(float, 0.001, 1), 0.4, "share of a card's peak FLOP/s that training reaches")])
    source, runs = vars(flags)["import"], flags.runs
    many = flags.plot or flags.fit
    if flags.predict and not flags.fit:
        raise UserError("--predict tries the law of --fit on a run: give both")
    if bool(runs) != bool(many or flags.export or source) or len(runs) > 1 and not many:
        raise UserError(f"--plot and --fit take runs, --export and --import one run, the sizes none: {' '.join(runs)}")
    try:
        if flags.plot:
            plot(*runs).savefig(flags.save)
            return print(f"{flags.save} is drawn")
        if flags.fit:
            return print(describe_fit(runs, flags.predict))
        if flags.export:
            export(*runs, flags.export)
            return print(f"{flags.export} is ready: AutoModelForCausalLM.from_pretrained({flags.export!r})")
        if source:
            config, run = import_gpt2(source, *runs), runs[0]
            dataset = f"my-{Path(run).name}"
            shape = " ".join(f"--{name}={getattr(config, name)}" for name in SHAPE)
            return print(f"{run} is ready: python sample.py {run} writes text. To finetune it:\n"
                         f"python prepare.py --input=my.txt --dataset={dataset} --tokenizer={run}\n"
                         f"python train.py --dataset={dataset} --init_from={run} --lr_scale=0.4 --max_steps=50 {shape}")
    except (OSError, ValueError) if flags.plot else OSError as error:  # ValueError: no kind of picture that there is
        raise UserError(str(error).split("] ")[-1]) from None
    shape = {name: value for name, value in vars(flags).items() if value is not None and hasattr(TINY, name)}
    sizes = [flags.size] if flags.size else train.SIZES
    tables = [describe(size, replace(train.SIZES[size], **shape), flags.mfu, flags.optimizer, flags.gpu,
                       flags.dtype == "half") for size in sizes]
    for label in tables[0]:
        texts = [table[label] for table in tables]
        print(f"{label:<44}{''.join(f'{text:>18}' for text in texts)}" if any(texts) else f"\n{label}")
    print("""
Activations: the most that a backward pass takes, without dropout, not compiled. 1 MB is 1e6 bytes. A micro-batch fits
where all takes 90% of the card. Prices and the share of the peak are assumptions; toy and tiny reach far less. The
loss is 1.69 + 406.4 / parameters^0.34 + 410.7 / tokens^0.28 (Hoffmann et al. 2022, equation 10), fitted to 44M to 16B
parameters on MassiveText in a vocabulary of 32,000: another text or tokenizer cannot be compared. Besiroglu et al. 2024
made another fit.""")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
