"""
Tokens a second of train.py's steps, and of sampling, beside its peers', by turns in one process, on a CPU in float32.

    git clone https://github.com/karpathy/nanoGPT  # into the folder that holds data/stories
    pip install transformers accelerate            # for trainer
    python assets/peers.py train tiny              # or small --steps=1
    python assets/peers.py sample small --batch=8  # 500 tokens after each prompt

A peer is adamw or muon (ours), nanogpt (its model, its optimizer, without biases as by its default) or trainer (Hugging
Face's, with GPT2LMHeadModel), then :8 for micro-batches of 8 sequences, +compile for torch.compile. The batch is the
recipe's for all, and so is our loader, but for trainer, which has its own. The learning rate, which no speed depends
on, is 1e-3. Ratios: our tokens/s over theirs, the median of the rounds and the lowest and the highest.
"""
import argparse, re, statistics, sys, time
from pathlib import Path
from types import SimpleNamespace

import torch

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), "nanoGPT"]
import train

CPU = torch.device("cpu")


def nanogpt_model(config, bias):
    from model import GPT, GPTConfig
    return GPT(GPTConfig(block_size=config.max_seq_len, vocab_size=config.vocab_size, n_layer=config.n_layers,
                         n_head=config.n_heads, n_embd=config.d_model, dropout=0.0, bias=bias))


def trainer_of(kind, micro_batch, compiled, config, sequences, tokens, steps):
    """A function that takes `steps` steps of `sequences` sequences and returns their seconds."""
    if kind == "trainer":
        return hugging_face(micro_batch, compiled, config, sequences, tokens, steps)
    done, n = 0, sequences // micro_batch
    if kind == "nanogpt":
        model = nanogpt_model(config, bias=False)
        optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.95), "cpu")
    else:
        model = train.GPT(config)
        s = SimpleNamespace(optimizer=kind, weight_decay=0.1, dtype="float32", dropout=0, seed=1,
                            batch_size=micro_batch, grad_clip=1.0)
        learner = train.Learner(model, s, CPU)
    net = torch.compile(model, dynamic=False) if compiled else model
    if kind != "nanogpt":
        learner.net = net

    def nanogpt_step(windows):
        total = 0
        for part in windows.split(micro_batch):
            _, loss = net(part[:, :-1].contiguous(), part[:, 1:].contiguous())
            (loss / n).backward()
            total += loss.detach() / n
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.zero_grad(set_to_none=True)
        total.item()

    def go():
        nonlocal done
        start = time.perf_counter()
        for done in range(done + 1, done + 1 + steps):
            starts = train.window_starts(len(tokens), config.max_seq_len, 1, done * sequences, sequences)
            windows = train.read_windows(tokens, starts, config.max_seq_len, CPU)
            nanogpt_step(windows) if kind == "nanogpt" else learner.step(windows, done, 1e-3)
        return time.perf_counter() - start
    return go


def hugging_face(micro_batch, compiled, config, sequences, tokens, steps):
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
    T, ends = config.max_seq_len, []
    model = GPT2LMHeadModel(GPT2Config(vocab_size=config.vocab_size, n_positions=T, n_embd=config.d_model,
                                       n_layer=config.n_layers, n_head=config.n_heads, resid_pdrop=0, embd_pdrop=0,
                                       attn_pdrop=0, bos_token_id=None, eos_token_id=None))

    class Windows(torch.utils.data.Dataset):
        def __len__(self):
            return len(tokens) // T

        def __getitem__(self, i):
            ids = torch.from_numpy(tokens[i * T:(i + 1) * T].astype("int64"))
            return {"input_ids": ids, "labels": ids}

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            ends.append(time.perf_counter())

    def go():
        ends.clear()
        settings = TrainingArguments("out/peers", max_steps=steps + 1, per_device_train_batch_size=micro_batch,
                                     gradient_accumulation_steps=sequences // micro_batch, learning_rate=1e-3,
                                     weight_decay=0.1, torch_compile=compiled, save_strategy="no", report_to=[],
                                     use_cpu=True, disable_tqdm=True)
        Trainer(model, settings, train_dataset=Windows(), callbacks=[Clock()]).train()
        return ends[-1] - ends[0]  # the first step, with the set-up, left out
    return go


def sampler_of(kind, config, batch):
    """A function that writes 500 tokens after a prompt of 8 in each of `batch` rows and returns the seconds."""
    model = (train.GPT(config) if kind == "ours" else nanogpt_model(config, bias=True)).eval()

    @torch.no_grad()
    def go():
        start = time.perf_counter()
        prompts = torch.randint(config.vocab_size - 1, (batch, 8))
        list(model.generate(prompts, 500)) if kind == "ours" else model.generate(prompts, 500, temperature=0.8)
        return time.perf_counter() - start
    return go


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "sample"))
    parser.add_argument("size", choices=train.SIZES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="of training, a round")
    parser.add_argument("--batch", type=int, default=1, help="prompts sampled from at once")
    parser.add_argument("--peers", help="to train, with commas; None: ours, nanogpt with one micro-batch and with ours")
    flags = parser.parse_args()
    config, sequences = train.SIZES[flags.size], train.SEQUENCES[flags.size]
    runs, speeds = {}, {}
    if flags.what == "train":
        tokens = train.load_data(SimpleNamespace(data_dir="data", dataset="stories", eval_tokens=0))[2]
        work, ours = flags.steps * sequences * config.max_seq_len, 2048 // config.max_seq_len
        for name in (flags.peers or f"adamw,muon,nanogpt:{sequences},nanogpt:{ours}").split(","):
            found = re.fullmatch(r"(adamw|muon|nanogpt|trainer)(?::(\d+))?(\+compile)?", name)
            micro_batch = int(found[2] or ours) if found else 0
            if not micro_batch or sequences % micro_batch:
                raise train.UserError(f"peers={name}: adamw, muon, nanogpt or trainer, then a divisor of {sequences} "
                                      f"as in :{ours}, then +compile or nothing")
            runs[name] = trainer_of(found[1], micro_batch, bool(found[3]), config, sequences, tokens, flags.steps)
            runs[name]()  # warm: compiled, and its memory taken
    else:
        if config.max_seq_len < 508:
            raise train.UserError(f"{flags.size}'s context of {config.max_seq_len} is short of 508 tokens: take small")
        runs, work = {kind: sampler_of(kind, config, flags.batch) for kind in ("ours", "nanogpt")}, 500 * flags.batch
    for i in range(flags.rounds):
        for name, go in runs.items():
            speeds.setdefault(name, []).append(work / go())
        told = ", ".join(f"{name} {of[-1]:,.0f}" for name, of in speeds.items())
        print(f"round {i + 1}: {told} tokens/s", flush=True)
    for peer in (name for name in speeds if name.startswith(("nanogpt", "trainer"))):
        for name in (name for name in speeds if not name.startswith(("nanogpt", "trainer"))):
            ratios = [a / b for a, b in zip(speeds[name], speeds[peer])]
            print(f"{name} over {peer}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    try:
        main()
    except (train.UserError, ImportError) as error:  # nanoGPT's model, or transformers, is not here
        sys.exit(f"error: {error}")
