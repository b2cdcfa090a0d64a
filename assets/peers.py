"""
Tokens a second of train.py's steps beside nanoGPT's and Hugging Face's Trainer's, by turns in one process.

    git clone https://github.com/karpathy/nanoGPT  # and: pip install transformers accelerate
    python assets/peers.py train tiny --steps=4    # or small --steps=1; --peers=adamw,nanogpt:32 for a choice
    python assets/peers.py sample small --batch=8  # 500 tokens each

nanogpt:8 is nanoGPT's model and optimizer with micro-batches of 8, +compile after torch.compile. The text is
data/stories/train.bin; the learning rate, which does not matter here, is 1e-3.
"""
import argparse, statistics, sys, time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), "nanoGPT"]
import train

CPU = torch.device("cpu")


def nanogpt_model(config, bias):
    from model import GPT, GPTConfig
    return GPT(GPTConfig(config.max_seq_len, config.vocab_size, config.n_layers, config.n_heads, config.d_model, 0.0, bias))


def trainer_of(name, config, sequences, tokens, steps):
    """A function that takes `steps` steps and returns their seconds."""
    name, _, compiled = name.partition("+")
    name, _, micro_batch = name.partition(":")
    ours = SimpleNamespace(device=CPU, batch_size=None, grad_accum_steps=None)
    micro_batch = int(micro_batch or train.split_batch(ours, sequences, config.max_seq_len)[0])
    if name == "trainer":
        return hugging_face(config, sequences, micro_batch, tokens, steps)
    s = SimpleNamespace(optimizer=name, weight_decay=0.1, lr=1e-3, device=CPU, dropout=0, seed=1, zero=False,
                        grad_accum_steps=sequences // micro_batch, autocast=lambda: torch.autocast("cpu", enabled=False))
    scaler, done = torch.amp.GradScaler("cpu", enabled=False), 0
    if name == "nanogpt":
        model = nanogpt_model(config, bias=False)
        optimizers = [model.configure_optimizers(0.1, 1e-3, (0.9, 0.95), "cpu")]
    else:
        model = train.GPT(config)
        optimizers = train.make_optimizers(model, s).values()
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = s.lr
    step_model = torch.compile(model, dynamic=False) if compiled else model

    def step():
        starts = train.window_starts(len(tokens), config.max_seq_len, s.seed, done * sequences, sequences)
        batch, total = train.read_windows(tokens, starts, config, CPU), 0
        for i, windows in enumerate(batch.split(micro_batch)):
            if name == "nanogpt":
                loss = step_model(windows[:, :-1].contiguous(), windows[:, 1:].contiguous())[1] / s.grad_accum_steps
                loss.backward()
                total += loss.detach()
            else:
                total += train.micro_step(step_model, windows, s, scaler, done, i)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        return total.item()

    def go():
        nonlocal done
        start = time.perf_counter()
        for _ in range(steps):
            step()
            done += 1
        return time.perf_counter() - start
    return go


def hugging_face(config, sequences, micro_batch, tokens, steps):
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
    model = GPT2LMHeadModel(GPT2Config(vocab_size=config.vocab_size, n_positions=config.max_seq_len, n_embd=config.d_model,
                                       n_layer=config.n_layers, n_head=config.n_heads, resid_pdrop=0, embd_pdrop=0,
                                       attn_pdrop=0))
    T, ends = config.max_seq_len, []

    class Windows(torch.utils.data.Dataset):
        def __len__(self):
            return len(tokens) // T

        def __getitem__(self, i):
            ids = torch.from_numpy(tokens[i * T:(i + 1) * T].astype(np.int64))
            return {"input_ids": ids, "labels": ids}

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            ends.append(time.perf_counter())

    def go():
        ends.clear()
        settings = TrainingArguments("out/peers", max_steps=steps + 1, per_device_train_batch_size=micro_batch,
                                     gradient_accumulation_steps=sequences // micro_batch, learning_rate=1e-3,
                                     save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True)
        Trainer(model, settings, train_dataset=Windows(), callbacks=[Clock()]).train()
        return ends[-1] - ends[0]  # the first step, with the set-up, left out
    return go


def sampler_of(name, config, batch):
    """A function that writes 500 tokens after a prompt of 8, in each of `batch` rows, and returns the seconds."""
    model = (train.GPT(config) if name == "ours" else nanogpt_model(config, bias=True)).eval()

    @torch.no_grad()
    def go():
        start = time.perf_counter()
        prompts = torch.randint(config.vocab_size, (batch, 8))
        list(model.generate(prompts, 500)) if name == "ours" else model.generate(prompts, 500, temperature=0.8)
        return time.perf_counter() - start
    return go


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("what", choices=("train", "sample"))
parser.add_argument("size", choices=train.SIZES)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--steps", type=int, default=4, help="of training, a round")
parser.add_argument("--batch", type=int, default=1, help="prompts sampled from at once")
parser.add_argument("--peers", help="by default ours with both optimizers and nanoGPT in its own way and in ours")
flags = parser.parse_args()
config, sequences = train.SIZES[flags.size], train.SEQUENCES[flags.size]
if flags.what == "train":
    data = np.memmap("data/stories/train.bin", "<u2", mode="r")
    ours = train.split_batch(SimpleNamespace(device=CPU, batch_size=None, grad_accum_steps=None), sequences, config.max_seq_len)[0]
    names = (flags.peers or f"adamw,muon,nanogpt:{sequences},nanogpt:{ours}").split(",")
    runs = {name: trainer_of(name, config, sequences, data, flags.steps) for name in names}
    work = flags.steps * sequences * config.max_seq_len
else:
    runs = {name: sampler_of(name, config, flags.batch) for name in ("ours", "nanogpt")}
    work = 500 * flags.batch
if flags.what == "train":
    for go in runs.values():
        go()  # warm: compiled, and its memory taken
speeds = {name: [] for name in runs}
for i in range(flags.rounds):
    for name, go in runs.items():
        speeds[name].append(work / go())
    print(f"round {i + 1}: " + ", ".join(f"{name} {of[-1]:,.0f}" for name, of in speeds.items()) + " tokens/s", flush=True)
for peer in (name for name in speeds if name.startswith(("nanogpt", "trainer"))):
    for name in (name for name in speeds if name.startswith(("adamw", "muon", "ours"))):
        ratios = [a / b for a, b in zip(speeds[name], speeds[peer])]
        print(f"{name} over {peer}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
