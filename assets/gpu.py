"""
Tokens a second, MFU and memory of train.py's steps on this machine, beside nanoGPT's where its folder is given.

    python assets/gpu.py                                      # toy, tiny, small and medium by Muon
    python assets/gpu.py small medium --nanogpt=../nanoGPT    # a clone of github.com/karpathy/nanoGPT
    python assets/gpu.py toy --device=cpu --steps=2

Both take whole steps of their own loops by turns in one process: read the windows, forward, backward, clip, update,
read the loss. The tokens are random; tokens a step, micro-batch, context, dtype and compiling are train.py's for both.
nanoGPT has AdamW and no biases, as by its default. Figures are the median of the rounds, with the lowest and the
highest in brackets. MFU: the model's FLOPs over the card's dense peak in half precision.
"""
import argparse, contextlib, copy, re, statistics, sys, time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import gpt, train
from peers import nanogpt_model

PEAKS = {card: teraflops for card, (_, teraflops, _) in gpt.CARDS.items()}  # by data sheets
STEPS = {"toy": 200, "tiny": 200, "small": 60, "medium": 6}  # in a round


def ours(config, sequences, tokens, s, device):
    """A function of a step's number that takes it. Sets s.batch_size to what fits."""
    learner = train.Learner(train.GPT(config, s.grad_checkpoint).to(device), s, device)

    def read(step):
        starts = train.window_starts(len(tokens), config.max_seq_len, 1, step * sequences, sequences)
        return train.read_windows(tokens, starts, config.max_seq_len, device)

    train.rehearse(learner, read(0), copy.deepcopy(learner.state()))
    return lambda step: learner.step(read(step), step, 1e-4)


def nanogpts(config, sequences, tokens, s, device):
    """The same of nanoGPT, with ours' micro-batch. As there, the next one is read while the GPU works."""
    T, B = config.max_seq_len, s.batch_size
    with contextlib.redirect_stdout(None):
        model = nanogpt_model(config, bias=False).to(device)
        optimizer = model.configure_optimizers(0.1, 1e-4, (0.9, 0.95), device.type)
    net = torch.compile(model) if s.compile else model
    autocast = torch.autocast(device.type, getattr(torch, s.dtype), s.dtype != "float32")
    n = sequences // B

    def read():
        return train.read_windows(tokens, torch.randint(len(tokens) - T, (B,)).tolist(), T, device)

    windows = read()

    def step(_):
        nonlocal windows
        for _ in range(n):
            with autocast:
                loss = net(windows[:, :-1].contiguous(), windows[:, 1:].contiguous())[1] / n
            windows = read()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
    return step


def measure(size, flags):
    """One row of the table."""
    device, machine, best_dtype, room = train.choose_device(flags.device)
    config, sequences = train.SIZES[size], train.SEQUENCES[size]
    tokens = np.random.default_rng(0).integers(config.vocab_size, size=10_000_000, dtype=np.uint16)
    s = SimpleNamespace(
        optimizer=flags.optimizer, weight_decay=0.1, grad_clip=1.0, seed=1, dropout=0.0,
        dtype=flags.dtype or best_dtype, batch_size=min(sequences, max(1, room // config.max_seq_len)),
        compile=best_dtype == "bfloat16" and not flags.eager, grad_checkpoint=flags.grad_checkpoint)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    go = {"ours": ours(config, sequences, tokens, s, device)}
    for step in range(3):
        go["ours"](step)
    peak = f"{torch.cuda.max_memory_allocated() / 1e9:.2f}" if cuda else ""
    if flags.nanogpt:
        go["nanogpt"] = nanogpts(config, sequences, tokens, s, device)
        for step in range(3):
            go["nanogpt"](step)

    speeds = {name: [] for name in go}  # tokens a second
    steps = flags.steps or STEPS[size]
    for i in range(flags.rounds):
        for name, take in go.items():
            start = time.perf_counter()
            for step in range(steps):
                take(i * steps + step)
            if cuda:
                torch.cuda.synchronize()
            speeds[name].append(steps * sequences * config.max_seq_len / (time.perf_counter() - start))

    def row(values, form):
        return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"

    with torch.device("meta"):
        model = train.GPT(config)
    paper = sum(gpt.training_bytes(model, s.batch_size, s.optimizer, s.dtype != "float32",
                                   s.grad_checkpoint).values()) / 1e9
    tflops = statistics.median(speeds["ours"]) * train.flops_per_token(model) / 1e12
    mfu = next((f"{tflops / most:.1%}" for card, most in PEAKS.items() if re.search(rf"\b{card}\b", machine)), "")
    ratios = [a / b for a, b in zip(speeds["ours"], speeds.get("nanogpt", []))]
    return [size, f"{s.batch_size} of {sequences}", s.dtype, str(s.compile), row(speeds["ours"], ",.0f"),
            mfu, row(ratios, ".2f") if ratios else "", peak, f"{paper:.2f}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("sizes", nargs="*", help="[toy tiny small medium]")
    add("--nanogpt", metavar="FOLDER", help="a clone of nanoGPT")
    add("--device", help="[the best there is]")
    add("--dtype", choices=("float32", "bfloat16", "float16"), help="[what suits the device]")
    add("--optimizer", choices=train.LR_SCALES, default="muon", help="[muon]")
    add("--eager", action="store_true", help="without torch.compile")
    add("--grad_checkpoint", action="store_true")
    add("--steps", type=int, help="in a round [200 to 6, by size]")
    add("--rounds", type=int, default=5, help="[5]")
    flags = parser.parse_args()
    if flags.nanogpt:
        sys.path.insert(0, flags.nanogpt)
    _, machine, *_ = train.choose_device(flags.device)
    print(f"{machine}, torch {torch.__version__}\n")
    heads = ["", "sequences at once", "dtype", "compiled", "tokens/s", "MFU", "over nanoGPT", "GB", "GB on paper"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for size in flags.sizes or train.SIZES:
        print(f"| {' | '.join(measure(size, flags))} |", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (train.UserError, ImportError, OSError) as error:
        sys.exit(f"error: {error}")
