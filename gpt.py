"""
A GPT from the outside: the name to import, trained models, their curves, and sizes on paper.

    from gpt import GPT, GPTConfig, TOY, TINY, SMALL, MEDIUM, load
    model, tokenizer = load("out/python-tiny")

    python gpt.py                                   # each size: parameters, recipe, memory, time
    python gpt.py --size=medium --vocab_size=32000 --gpu=T4   # a size of your own, on a card
    python gpt.py --calculator                      # the same with sliders, in the browser
    python gpt.py --plot out/a out/b                # loss.png: losses by tokens, FLOPs, seconds
    python gpt.py --isoflop out/a out/b ...         # the best size for each budget of FLOPs
    python gpt.py --fit out/a out/b ...             # the scaling law of six runs or more
    python gpt.py --export=FOLDER out/a             # a run for Hugging Face's transformers
    python gpt.py --import=gpt2 out/gpt2            # a GPT-2 of theirs as a run: a folder or a name
"""
import base64, builtins, json, os, signal, sys, webbrowser
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

import train
from prepare import BPE_PATTERN, GPT2_PATTERN, PrepareError, Settings as Parser, switch
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
    for depth in ("", "*/"):
        files = [file for name in ("best.pt", "ckpt.pt", "ckpt_prev.pt")
                 for file in Path(path).glob(depth + name)]
        if files:
            newest = max(files, key=os.path.getmtime).parent
            return str(next(file for file in files if file.parent == newest))
    raise UserError(f"there is no checkpoint in {path}: prepare.py, then train.py, make one")

def load(path, device="cpu"):
    """(model, tokenizer) of a run's folder or a .pt file: a GPT in eval mode with float32 weights
    on the device, and a Tokenizer. UserError: it is missing or damaged; OSError: unreadable."""
    path = checkpoint_file(path)
    checkpoint = train.load_checkpoint(path)
    shape = {name: value for name, value in checkpoint["config"].items() if hasattr(TINY, name)}
    model = GPT(GPTConfig(**shape))  # old files lack fields, newer ones may have more
    try:
        model.load_state_dict(checkpoint["model"])
    except RuntimeError:
        raise UserError(f"{path} does not have the weights of its config") from None
    return model.to(device).eval(), Tokenizer(checkpoint["tokenizer"])

# ---- Hugging Face: a run as their files, and their GPT-2 as a run ------------------------------
def hugging_face():
    """The package transformers, without its progress bars and warnings."""
    import transformers
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers

def weight_pairs(ours, theirs):
    """Yield the weights of a GPT beside a GPT2LMHeadModel's, whose blocks have their transposes."""
    for p, (name, q) in zip(ours.parameters(), theirs.named_parameters(), strict=True):
        yield p.data, q.data.T if ".c_" in name and q.dim() == 2 else q.data

def export(run, folder):
    """Write a run (its folder or a .pt file) to a new folder for transformers' AutoModelForCausalLM
    and AutoTokenizer. UserError: it has no byte-level BPE; OSError: the folder exists."""
    model, tokenizer = load(run)
    c, spec, end = model.config, tokenizer.spec, tokenizer.endoftext
    if spec["pattern"] not in (BPE_PATTERN, GPT2_PATTERN):
        raise UserError(f"{run} has a {spec['name']} tokenizer and a GPT-2 has a byte-level BPE: "
                        "prepare.py --tokenizer=bpe makes data for a run that can be exported")
    transformers = hugging_face()
    from transformers.convert_slow_tokenizer import TikTokenConverter

    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=c.vocab_size, n_positions=c.max_seq_len, n_embd=c.d_model, n_head=c.n_heads,
        n_layer=c.n_layers, n_inner=c.mlp_ratio * c.d_model, tie_word_embeddings=c.tie_weights,
        bos_token_id=end, eos_token_id=end))
    ours = GPT(replace(c, bias=True))  # theirs always has biases: zeros where ours has none
    ours.load_state_dict(model.state_dict(), strict=False)
    for p, q in weight_pairs(ours, theirs):
        q.copy_(p)

    Path(folder).mkdir(parents=True)
    ranks = Path(folder, "tokens.tiktoken")  # the tokens as tiktoken keeps them
    ranks.write_text("".join(f"{token} {i}\n" for i, token in enumerate(spec["tokens"])))
    split = spec["pattern"].replace(r"|\s++$", "")  # $ is the end of a line in their engine
    bpe = TikTokenConverter(str(ranks), split).converted()
    bpe.add_special_tokens([END])
    theirs.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=END, eos_token=END, model_max_length=c.max_seq_len,
        clean_up_tokenization_spaces=False).save_pretrained(folder)

def read_tokenizer(theirs):
    """(spec, ids) of a tokenizer of transformers: the spec as meta.json has it, and the ids there
    of its tokens and, last, of <|endoftext|>. ValueError: it is not GPT-2's kind of BPE."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    ids = theirs.get_vocab()
    end = ids.pop(END)
    texts = sorted(ids, key=ids.get)  # the order in which its training found them
    tokens = [bytes(byte_of[c] for c in text) for text in texts]
    pattern = BPE_PATTERN if "p{M}" in theirs.backend_tokenizer.to_str() else GPT2_PATTERN
    spec = {"name": "gpt2" if len(tokens) == 50_256 else "bpe",  # as prepare.py calls them
            "pattern": pattern, "tokens": [base64.b64encode(token).decode() for token in tokens]}
    order = [*map(ids.get, texts), end]
    sample = theirs.decode(range(len(theirs)))  # any text on which the two might differ
    if [order[i] for i in Tokenizer(spec).encode(sample)] != theirs.encode(sample):
        raise ValueError(f"its tokenizer is not a byte-level BPE of GPT-2's kind with {END}")
    return spec, order

def import_gpt2(source, out_dir):
    """Make a GPT-2 of transformers, a folder or a name on their hub, a run; <|endoftext|> is its
    last id. Returns its GPTConfig. UserError: it is no GPT-2; OSError: out_dir exists."""
    transformers = hugging_face()
    try:
        given = transformers.AutoConfig.from_pretrained(source)
        for name in ("model_type", "activation_function", "layer_norm_epsilon",
                     "scale_attn_weights", "scale_attn_by_inverse_layer_idx",
                     "add_cross_attention"):
            if getattr(given, name, None) != getattr(transformers.GPT2Config(), name):
                raise ValueError(f"its {name} is {getattr(given, name, None)}")
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
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{source} is not a GPT-2 to import: {reason:.200}") from None
    Path(out_dir).mkdir(parents=True)
    train.save_checkpoint(Path(out_dir, "best.pt"), {
        "format": 2, "model": weights, "config": asdict(config), "tokenizer": spec})
    Path(out_dir, "meta.json").write_text(json.dumps({"tokenizer": spec}), encoding="utf-8")
    return config

# ---- Curves, and the laws that they follow -------------------------------------------------------
def read_log(run):
    """(name, log): a run's log.csv, or a .csv file, as an array of named rows; NaN: no value."""
    path = Path(run)
    if path.suffix != ".csv":
        path = Path(checkpoint_file(run)).with_name("log.csv")
    try:
        log = np.genfromtxt(path, delimiter=",", names=True, ndmin=1)
        if not np.isfinite(log["val_loss"]).any():
            raise ValueError("it has no val_loss")
    except (ValueError, IndexError) as error:
        raise UserError(f"{path} is not a log of train.py: {str(error).splitlines()[0]}") from None
    return path.resolve().parent.name if path.name == "log.csv" else path.stem, log

def plot(*runs):
    """A matplotlib figure: losses, nats per token, against tokens, training FLOPs and seconds. A
    run is a folder, a .pt or a .csv file. UserError: a log is damaged; OSError."""
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(1, 3, figsize=(15, 5), sharey=True, layout="constrained")
    plt.close(figure)  # otherwise a notebook shows it twice
    for name, log in map(read_log, runs):
        evals = np.isfinite(log["val_loss"]) & (log["tokens"] > 0)  # a log axis has no place for 0
        for axis, cost in zip(axes, ("tokens", "flops", "seconds")):
            line, = axis.plot(log[cost][evals], log["val_loss"][evals], "o-", ms=3, label=name)
            axis.plot(log[cost], log["loss"], color=line.get_color(), alpha=0.3)
            axis.set(xscale="log", xlabel=f"training {cost}".replace("flops", "FLOPs"))
    axes[0].set_ylabel("loss, nats per token (dots: validation, faint: training)")
    axes[0].legend()
    return figure

def law(N, D, E, A, alpha, B, beta):
    """The loss of N parameters trained on D tokens (Hoffmann et al. 2022, equation 10)."""
    return E + A / N**alpha + B / D**beta

LAWS = {  # E, A, alpha, B, beta; the second is a new fit to the first one's runs
    "Hoffmann et al. 2022": (1.69, 406.4, 0.34, 410.7, 0.28),
    "Besiroglu et al. 2024": (1.8172, 482.01, 0.3478, 2085.43, 0.3658)}

def best_size(flops, E, A, alpha, B, beta):
    """The N with the lowest loss by a law, where 6 N D FLOPs are to be spent (equation 4 there)."""
    return (alpha * A / (beta * B) * (flops / 6)**beta)**(1 / (alpha + beta))

def results(runs):
    """Arrays over finished runs, by their size: all parameters, those in the blocks, tokens, FLOPs
    in two digits, the last val loss, and the name. UserError: a run has not come to its end."""
    rows = []
    for name, log in map(read_log, runs):
        at_end = log["lr"][-1] * log["step"][-1] < 2 * np.nanmax(log["lr"])  # one step above zero
        if "params" not in log.dtype.names or not at_end or np.isnan(log["val_loss"][-1]):
            raise UserError(f"{name} is not the log of a finished run of this edition")
        tokens, flops, loss = log[["tokens", "flops", "val_loss"]][-1]
        rows.append((*log[["params", "blocks"]][0], tokens, float(f"{flops:.1e}"), loss, name))
    return map(np.array, zip(*sorted(rows)))

def resamples(n, seed=0):
    """Weights of n runs, (301, n): equal in the first row, random in the others. How far a fit
    varies with them says how much hangs on single runs (a Bayesian bootstrap, Rubin 1981)."""
    weights = np.random.default_rng(seed).dirichlet(np.ones(n), 300)
    return np.vstack([np.full(n, 1 / n), weights])

def interval(values):
    """Text: the first of the values, and between which bounds the middle 90 % of the others lie."""
    low, high = np.percentile(values[1:], (5, 95))
    return f"{values[0]:.3g} [{low:.3g}, {high:.3g}]"

def aligned(rows):
    """Text: rows of texts in columns."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

def isoflop(*runs):
    """(figure, text): at each budget of FLOPs, equal in two digits, the N where a parabola through
    the losses over log N is lowest (Hoffmann et al. 2022, approach 2), if two sizes lie on either
    side of it; and the exponents with which that N and its D grow with the budget."""
    import matplotlib.pyplot as plt
    N, blocks, D, budgets, losses, _ = results(runs)
    figure, axis = plt.subplots(figsize=(9, 5), layout="constrained")
    plt.close(figure)
    rows = [["FLOPs, not Muon's", "N, millions", "in the blocks", "D, millions", "D / N", "loss"]]
    minima = {}
    for i, budget in enumerate(np.unique(budgets)):
        name, color = f"{budget:.2g}", f"C{i}"
        at = budgets == budget
        sizes = N[at]
        x, distinct = np.log(sizes), np.unique(sizes)
        row = [name, "none: two sizes must lie on either side", "", "", "", ""]
        axis.plot(sizes, losses[at], "o", color=color, label=f"{name} FLOPs")
        if len(distinct) >= 4:
            curves = [np.polyfit(x, losses[at], 2, w=w**0.5) for w in resamples(len(x), i)]
            a, b, _ = np.transpose(curves)
            best = np.exp(np.where(a > 0, -b / (2 * a), x[-1]))                # (301,)
            lowest = best[0]
            grid = np.linspace(x[0], x[-1])
            axis.plot(np.exp(grid), np.polyval(curves[0], grid), color=color)
            if distinct[1] < lowest < distinct[-2]:
                loss = np.polyval(curves[0], np.log(lowest))
                axis.plot(lowest, loss, "*", color=color, ms=15)
                axis.hlines(loss, *np.percentile(best, (5, 95)), lw=5, color=color)
                values = [np.interp(best, sizes, numbers[at]) / 1e6 for numbers in (N, blocks, D)]
                ratio = values[2] / values[0]
                axis.text(lowest, loss + 0.07, f"{ratio[0]:.1f} tokens per parameter", ha="center")
                minima[budget] = [*values, ratio]
                row = [name, *map(interval, minima[budget]), f"{loss:.3f}"]
        rows.append(row)
    axis.set(xscale="log", xlabel="parameters", ylabel="validation loss, nats per token")
    axis.legend()
    if len(minima) > 1:
        logs = np.log([*minima.values()])                                      # (budgets, 4, 301)
        slopes = np.polyfit(np.log([*minima]), logs.reshape(len(logs), -1), 1)[0]
        rows.append(["exponent", *map(interval, slopes.reshape(4, -1)), ""])
    return figure, aligned(rows) + "\n"

def fit_law(N, D, losses, weights=1.0):
    """(E, A, alpha, B, beta) with the least squares over n runs, arrays (n,), which count by their
    weights. For each pair of exponents from 0.02 to 1.5 the best E, A and B are linear."""
    exponents = np.mgrid[0.02:1.51:0.02, 0.02:1.51:0.02].reshape(2, -1, 1)   # of 5,625 pairs
    alpha, beta = exponents
    terms = np.broadcast_arrays(1.0, (N / 1e6)**-alpha, (D / 1e6)**-beta)    # 3 of (pairs, n)
    squares = np.einsum("ipn,jpn->pij", np.multiply(weights, terms), terms)
    products = np.einsum("ipn,n->pi", terms, weights * losses)
    EAB = np.linalg.solve(squares, products[..., None])[..., 0]              # (pairs, 3)
    errors = np.sum(weights * (np.einsum("pi,ipn->pn", EAB, terms) - losses)**2, axis=1)
    errors[(EAB <= 0).any(axis=1)] = np.inf
    best = errors.argmin()
    if errors[best] == np.inf:
        raise UserError("these runs follow no such law: losses must fall with size and with tokens")
    (E, A, B), (alpha, beta) = EAB[best], exponents[:, best, 0]
    return E, A * 1e6**alpha, alpha, B * 1e6**beta, beta

def describe_fit(runs, others=()):
    """Text: the law of the runs' last val losses beside the published ones, a prediction to test
    it by, and by how much it missed other runs."""
    N, _, D, flops, losses, _ = results(runs)
    if len(N) < 6 or min(len(set(N)), len(set(D))) < 3:
        raise UserError("--fit takes six runs or more, of three sizes and three lengths at least")
    fits = np.transpose([fit_law(N, D, losses, w) for w in resamples(len(N))])        # (5, 301)
    rows = [["loss = E + A / N^alpha + B / D^beta", f"these {len(N)} runs", *LAWS]]
    for label, ours, *theirs in zip("E A alpha B beta".split(), fits, *LAWS.values()):
        rows.append([label, interval(ours), *map(str, theirs)])
    for C in (max(flops), 5.76e23):  # the second is Chinchilla's
        ours, *theirs = (C / 6 / best_size(C, *law)**2 for law in (fits, *LAWS.values()))
        rows.append([f"best D / N at {C:.3g} FLOPs", interval(ours), *(f"{x:.3g}" for x in theirs)])
    off = np.sqrt(np.mean((law(N, D, *fits[:, 0]) - losses)**2))

    with torch.device("meta"):
        models = {size: GPT(config) for size, config in train.SIZES.items()}
    budget = 5 * max(flops)
    best = best_size(budget, *fits[:, 0])
    size = min(models, key=lambda size: abs(np.log(train.count(models[size]) / best)))
    N, D = train.count(models[size]), budget / train.flops_per_token(models[size])
    text = (f"{aligned(rows)}\n\n"
            f"Next, five times the compute, on {D / 1e6:.1f}M tokens of the same text:\n"
            f"python train.py --size={size} --flops={budget:g}\n"
            f"expected loss: {interval(law(N, D, *fits))}, and runs are off by {off:.3f}")
    for N, _, D, _, loss, name in zip(*results(others)):
        text += f"\n{name}: {loss:.3f}, expected {interval(law(N, D, *fits))}"
    return text

# ---- The sizes on paper --------------------------------------------------------------------------
CARDS = {  # GB, dense TFLOP/s in half precision (by data sheets), USD per hour (an assumption)
    "T4": (16, 65, 0.35), "L4": (24, 121, 0.70), "RTX 4090": (24, 165, 0.40),
    "A100": (40, 312, 1.80), "H100": (80, 989, 3.00), "H200": (141, 989, 4.00)}
LAYER_TIME = 0.0035  # seconds of a step in which Python starts a layer's kernels, by an H100's host

def activation_bytes(config, half=True, grad_checkpoint=False):
    """(kept, peak), bytes per token: what autograd keeps for the backward pass, and the most that
    activations and their gradients take in it. half: with autocast to bfloat16 or float16."""
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
    """The parts, in bytes, of the most memory that a step takes with this many sequences at once,
    without a GPU's driver. half and grad_checkpoint: as in activation_bytes."""
    c, n_params = model.config, train.count(model)
    matrices = sum(p.numel() for p in model.blocks.parameters() if p.dim() == 2)
    moments, products = 8 * n_params, 0
    if optimizer == "muon":
        moments -= 4 * matrices  # one moment instead of two
        of_largest_shape = c.n_layers * c.mlp_ratio * c.d_model**2
        products = (19 if half else 17) * of_largest_shape  # measured: the copies in Muon's step
    copied = train.count(model.head) + matrices // (c.n_layers if grad_checkpoint else 1)
    activations = sequences * c.max_seq_len * activation_bytes(c, half, grad_checkpoint)[1]
    return {"weights, float32": 4 * n_params,
            "their copies in half precision": 2 * copied if half else 0,
            "gradients, float32": 4 * n_params,
            "the optimizer's moments, float32": moments,
            "activations, or later Muon's products": max(activations, products)}

def describe(size, config, tokens_per_param=20, mfu=0.4, card="T4", optimizer="muon", *how):
    """What follows from a size: a dict from labels to texts; of headings, to empty ones."""
    with torch.device("meta"):
        model = GPT(config)
    keys = {"token embeddings": "tok_emb", "position embeddings": "pos_emb", "attention": "attn",
            "MLP": "mlp", "LayerNorms": "ln_", "head": "head"}  # what names of parameters contain
    parts = {label: sum(p.numel() for name, p in model.named_parameters() if key in name)
             for label, key in keys.items()}
    n_params, T, gigabytes = train.count(model), config.max_seq_len, CARDS[card][0]
    flops, tokens = train.flops_per_token(model), tokens_per_param * n_params
    sequences, lr = train.recipe(config, tokens, train.SEQUENCES[size], optimizer)
    micro_batch = min(sequences, max(1, (65_536 if gigabytes > 39 else 16_384) // T))
    memory = training_bytes(model, micro_batch, optimizer, *how)
    most = sequences
    while most and sum(training_bytes(model, most, optimizer, *how).values()) > 0.9e9 * gigabytes:
        most //= 2  # as train.py does; the driver takes the rest of the memory
    table = {
        "": size,
        "layers x width, heads": f"{config.n_layers} x {config.d_model}, {config.n_heads}",
        "vocabulary, context": f"{config.vocab_size:,}, {T:,}",
        "parameters": "",
        **{f"  {label}": f"{n:,}" if n else "0 (tied)" for label, n in parts.items()},
        "  total": f"{n_params:,}",
        "recipe": "",
        "  training FLOPs a token": f"{flops / 1e6:,.1f} M",
        f"  tokens, {tokens_per_param:g} per parameter": f"{tokens / 1e6:,.1f} M",
        f"  peak learning rate of {optimizer}": f"{lr:.2e}",
        "  batch: sequences x context": f"{sequences} x {T:,}",
        "  tokens per step": f"{sequences * T:,}",
        "  steps": f"{-(-tokens // (sequences * T)):,.0f}",
        "  micro-batch on a GPU": f"{micro_batch} x {T:,}",
        "memory at this micro-batch, MB": "",
        **{f"  {label}": f"{n / 1e6:,.1f}" for label, n in memory.items()},
        "  all of these": f"{sum(memory.values()) / 1e6:,.1f}",
        f"largest micro-batch on one {card} ({gigabytes} GB)": f"{most} x {T:,}",
        f"time and money at {mfu:.0%} of a card's peak in half precision": ""}
    for name, (_, teraflops, price) in CARDS.items():
        computing = flops * tokens / (mfu * teraflops * 1e12)
        starting = LAYER_TIME * config.n_layers * tokens / (sequences * T)
        hours = max(computing, starting) / 3600
        time = f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:,.1f} min"
        label = f"  {name}: {teraflops} TFLOP/s, ${price:.2f} an hour"
        table[label] = f"{time}, ${price * hours:,.2f}"
    return table

NOTE = """Memory: without dropout, not compiled; it fits if it takes 90% of a card or less. 1 MB is
1e6 bytes. Prices and the share of the peak are assumed; a step takes 3.5 ms per layer at least."""

# ---- The command line, and what sample.py shares of it -------------------------------------------
def number(kind, least, most):
    """A parser of a flag's number. argparse makes one line of its ValueError and its name."""
    def parse(text):
        if not least <= kind(text) <= most:
            raise ValueError
        return kind(text)
    parse.__name__ = f"number from {least:,} to {most:,}:"
    return parse

def parse_flags():
    """The command line as a namespace. UserError: there is a mistake in it."""
    parser = Parser("python gpt.py", allow_abbrev=False)
    add, whole = parser.add_argument, number(int, 1, 100_000)
    add("runs", nargs="*", metavar="RUN", help="a run's folder, a .pt file, or a log.csv")
    add("--plot", action="store_true", help="draw the losses of RUNs")
    add("--save", default="loss.png", help="in this file: .png, .svg or .pdf [loss.png]")
    add("--isoflop", action="store_true", help="find the best size for each budget of FLOPs")
    add("--fit", action="store_true", help="fit a scaling law to RUNs")
    add("--predict", metavar="RUN", action="append", default=[], help="a run to try the law on")
    add("--export", metavar="FOLDER", help="write RUN for transformers")
    add("--import", dest="source", metavar="SOURCE", help="make a GPT-2 of transformers a new RUN")
    add("--calculator", action="store_true", help="open assets/calculator.html with these flags:")
    add("--size", choices=train.SIZES, help="this size alone")
    add("--tokens_per_param", type=number(float, 1e-6, 1e6), default=20, help="a run's length [20]")
    add("--optimizer", choices=train.LR_SCALES, default="muon", help="[muon]")
    add("--gpu", choices=CARDS, default="T4", help="the card whose memory is to be filled [T4]")
    add("--dtype", choices=("half", "float32"), default="half", help="of matrix products [half]")
    for name in ("vocab_size", "max_seq_len", "d_model", "n_heads", "n_layers"):
        add(f"--{name}", type=whole, help="another shape, as in train.py")
    for name in ("bias", "tie_weights", "grad_checkpoint"):
        add(f"--{name}", **switch, help="as in train.py")
    add("--mfu", type=number(float, 0.001, 1), default=0.4, help="share of a card's peak [0.4]")
    flags = parser.parse_intermixed_args()
    many, one = flags.plot + flags.isoflop + flags.fit, bool(flags.export) + bool(flags.source)
    if many + one > 1 or bool(flags.runs) != many + one or len(flags.runs) > 1 and one:
        parser.error("--plot, --isoflop or --fit go with runs, --export or --import with one")
    return flags

def run_script(main):
    """Call a script's main(). A user's mistake is one line, in a terminal with exit status 2."""
    notebook = hasattr(builtins, "get_ipython")
    if not notebook and hasattr(signal, "SIGPIPE"):  # a closed pipe, as of `| head`, just ends it
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        main()
    except (UserError, PrepareError, OSError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError):
            error = f"this needs a package: pip install {error.name}"
        if notebook:
            raise UserError(error) from None
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

def main():
    flags = parse_flags()
    if flags.plot or flags.isoflop:
        figure, text = (plot(*flags.runs), "") if flags.plot else isoflop(*flags.runs)
        try:
            figure.savefig(flags.save)
        except ValueError as error:  # a format that matplotlib does not know
            raise UserError(error) from None
        print(f"{text}{flags.save} is drawn")
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
    elif flags.calculator:
        page = Path(__file__).resolve().with_name("assets") / "calculator.html"
        chosen = [f"{name}={value}" for name, value in vars(flags).items() if value is not None
                  and name in (*train.SETTINGS, "vocab_size", "gpu", "mfu")]
        address = f"{page.as_uri()}#{'&'.join(chosen)}".replace(" ", "+")
        print(f"opening {address}")  # to paste, where a system cuts it at the #
        webbrowser.open(address)
    else:
        sizes = [flags.size] if flags.size else train.SIZES
        shape = {name: value for name, value in vars(flags).items()
                 if value is not None and hasattr(TINY, name)}
        how = (flags.tokens_per_param, flags.mfu, flags.gpu, flags.optimizer,
               flags.dtype == "half", flags.grad_checkpoint)
        tables = [describe(size, replace(train.SIZES[size], **shape), *how) for size in sizes]
        for label in tables[0]:
            row = "".join(f"{table[label]:>18}" for table in tables)
            print(f"{label:<44}{row}" if row.strip() else f"\n{label}")
        print(f"\n{NOTE}")

if __name__ == "__main__":
    run_script(main)
