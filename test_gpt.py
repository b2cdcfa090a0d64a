"""
What this project promises, as tests on real text, real files and real processes.

    python -m pytest -q                    # in a few minutes on two cores
    SLOW=1 python -m pytest -q -k slow     # what takes longer
"""
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; in toy models threads wait for each other
import argparse, base64, bz2, csv, ctypes, gzip, hashlib, http.server, io, itertools, json, lzma, math, multiprocessing, random, re, resource, shlex
import shutil, signal, socket, subprocess, sys, sysconfig, threading, time, urllib.error, urllib.request
import zipfile, zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiktoken
import torch
from hypothesis import given, settings as hypothesis_settings, strategies as st

import gpt, prepare, sample
import train as T
from gpt import load
from prepare import GPT2_PATTERN, train_bpe
from train import GPT, GPTConfig, MEDIUM, SMALL, TINY, TOY, UserError, train

HERE = Path(__file__).parent.resolve()
ENV = os.environ | {"PYTHONIOENCODING": "utf-8", "COLUMNS": "80", "PYTHONUNBUFFERED": ""}  # "": flushing is ours
BYTES = [bytes([b]) for b in range(256)]
EOT = "<|endoftext|>"
STORY = "One day, Lily's dog ran to the sea.\n\n\"Come back!\" she said. It didn't; it swam 20 miles.\r\n  The end \u2014 or not?\n"
SHARED = HERE.parent / "shared" / "data"
SMALL_RUN = dict(size="toy", d_model=32, max_seq_len=64, eval_tokens=2048, log_interval=1, device="cpu")


def python(script, *flags, cwd, **options):
    """Run one of the scripts as a user would; its finished process, stdout and stderr as text."""
    return subprocess.run([sys.executable, HERE / script, *map(str, flags)], cwd=cwd, env=ENV, capture_output=True,
                          timeout=300, **({"text": True, "encoding": "utf-8"} | options))


def run(script, *flags, cwd):
    """The same, of a command that must succeed."""
    done = python(script, *flags, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def complaint(script, flags, monkeypatch, cwd):
    """What a script says of a user's mistake: one line. In this process, as there are many mistakes to try."""
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", [script.__file__, *flags])
    with pytest.raises(UserError) as error:
        script.main()
    assert "\n" not in str(error.value)
    return str(error.value)


def flags(**settings):
    return [f"--{name}={value}" for name, value in settings.items()]


def wait_for(condition, seconds=120):
    """Return when condition() is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


slow = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 runs it")


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A folder with data/python in it, made by `python prepare.py` as it stands."""
    folder = tmp_path_factory.mktemp("home")
    run("prepare.py", cwd=folder)
    return folder


def rows(out_dir):
    """log.csv without its columns that tell the clock."""
    with open(out_dir / "log.csv", newline="") as file:
        return [{name: row[name] for name in ("step", "tokens", "loss", "val_loss", "bpb", "lr", "flops")}
                for row in csv.DictReader(file)]


def same(a, b):
    """Whether two checkpoints' parts are equal, bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_same_run(a, b):
    """Two runs ended alike: weights, optimizer, best loss and log.csv, bit for bit."""
    first, second = T.load_checkpoint(a / "ckpt.pt"), T.load_checkpoint(b / "ckpt.pt")
    for key in ("model", "optimizer", "step", "best_val_loss", "result", "config"):
        assert same(first[key], second[key]), key
    assert same(T.load_checkpoint(a / "best.pt")["model"], T.load_checkpoint(b / "best.pt")["model"])
    assert rows(a) == rows(b)


# ----------------------------------------------------------------------------------------------------------------
# The model

def test_logits_and_gradients_are_those_of_transformers_gpt2():
    transformers = pytest.importorskip("transformers")
    config = GPTConfig(vocab_size=311, max_seq_len=32, d_model=48, n_heads=4, n_layers=3)
    torch.manual_seed(0)
    ours = GPT(config)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=311, n_positions=32, n_embd=48, n_head=4, n_layer=3, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0))
    names = {"transformer.wte": "tok_emb", "transformer.wpe": "pos_emb", "transformer.h": "blocks", "transformer.ln_f": "ln_f",
             "attn.c_attn": "attn.qkv", "attn.c_proj": "attn.proj", "mlp.c_fc": "mlp.0", "mlp.c_proj": "mlp.2", "lm_head": "head"}

    def our_name(name):
        for old, new in names.items():
            name = name.replace(old, new)
        return name

    with torch.no_grad():
        for p in ours.parameters():
            p.normal_(std=0.2)  # far from the small first weights: biases, LayerNorms, all of it
        ours_by_name = dict(ours.named_parameters())
        for name, p in theirs.named_parameters():
            source = ours_by_name[our_name(name)]
            p.copy_(source.T if re.search(r"c_(attn|proj|fc).weight", name) else source)  # theirs are transposed
    ids = torch.randint(311, (2, 33), generator=torch.Generator().manual_seed(0))
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        ours, theirs = ours.to(dtype).eval(), theirs.to(dtype).eval()
        a, b = ours(ids[:, :-1]), theirs(ids[:, :-1]).logits
        assert (a - b).abs().max() < tolerance * max(1, b.abs().max())
    ours(ids[:, :-1], ids[:, 1:]).backward()
    torch.nn.functional.cross_entropy(theirs(ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
    for name, p in theirs.named_parameters():
        grad = dict(ours.named_parameters())[our_name(name)].grad
        assert (p.grad - (grad.T if re.search(r"c_(attn|proj|fc).weight", name) else grad)).abs().max() < 1e-9, name


def test_first_weights_have_gpt2s_scale():
    torch.manual_seed(0)
    model = GPT(TINY)
    assert model.tok_emb.weight.std().item() == pytest.approx(0.02, rel=0.02)
    for block in model.blocks:
        assert block.attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.02)
        for into_residual in (block.attn.proj, block.mlp[2]):
            assert into_residual.weight.std().item() == pytest.approx(0.02 / math.sqrt(12), rel=0.02)
    assert model(torch.randint(4096, (2, 64)), torch.randint(4096, (2, 64))).item() == pytest.approx(math.log(4096), abs=0.1)


def plain_generate(model, ids, n):
    """What generate promises, without a cache: the whole window is read for each token."""
    window, out = ids[:, -model.config.max_seq_len:], []
    for _ in range(n):
        if window.size(1) > model.config.max_seq_len:
            window = window[:, -(model.config.max_seq_len // 2):]
        token = model(window)[:, -1].argmax(-1)
        out.append(token)
        window = torch.cat((window, token[:, None]), dim=1)
    return torch.stack(out)


@pytest.mark.parametrize("batch,prompt", [(1, 1), (3, 5), (2, 16), (1, 40)])
def test_generate_with_its_cache_equals_a_plain_loop_through_and_past_a_full_context(batch, prompt):
    torch.manual_seed(prompt)
    model = GPT(GPTConfig(vocab_size=97, max_seq_len=16, d_model=32, n_heads=4, n_layers=2, tie_weights=False)).double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.3)
        model.pos_emb.weight.normal_(std=3)  # so that the text depends on where it is and does not repeat itself
    ids = torch.randint(97, (batch, prompt))
    with torch.no_grad():
        expected = plain_generate(model, ids, 60)
    got = torch.stack(list(model.generate(ids, 60, temperature=0)))
    assert torch.equal(got, expected) and len(set(got.flatten().tolist())) >= 5


def test_generate_draws_the_same_from_a_seed_and_leaves_the_global_generator_and_the_mode_alone():
    model = GPT(GPTConfig(vocab_size=50, max_seq_len=16, d_model=16, n_heads=2, n_layers=1, dropout=0.5)).train()
    ids, state = torch.zeros(2, 3, dtype=torch.int64), torch.get_rng_state()
    first = [t.tolist() for t in model.generate(ids, 20, seed=5)]
    assert first == [t.tolist() for t in model.generate(ids, 20, seed=5)]
    assert first != [t.tolist() for t in model.generate(ids, 20, seed=6)]
    assert torch.equal(torch.get_rng_state(), state) and model.training


def test_top_k_and_top_p_keep_the_tokens_that_they_say():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.15, 0.1]])).repeat(4000, 1)

    def kept(**how):
        generator = torch.Generator().manual_seed(0)
        return T.choose(logits.clone(), **{"temperature": 1.0, "top_k": None, "top_p": None, **how}, generator=generator)

    assert set(kept(top_k=2).tolist()) == {0, 1} and set(kept(top_k=99).tolist()) == {0, 1, 2, 3}
    assert set(kept(top_p=0.5).tolist()) == {0} and set(kept(top_p=0.51).tolist()) == {0, 1}
    assert set(kept(top_p=0.76).tolist()) == {0, 1, 2} and set(kept(temperature=0).tolist()) == {0}
    assert (kept() == 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    for wrong in (dict(temperature=-1), dict(temperature=math.nan), dict(top_k=0), dict(top_p=0), dict(top_p=1.1)):
        with pytest.raises(UserError):
            next(GPT(GPTConfig(vocab_size=9, max_seq_len=8, d_model=8, n_heads=2, n_layers=1)).generate(
                torch.zeros(1, 1, dtype=torch.int64), 1, **wrong))


# ----------------------------------------------------------------------------------------------------------------
# The recipe

def test_the_learning_rate_warms_up_and_falls_to_a_tenth():
    s = type("S", (), dict(lr=1.0, warmup_steps=10, max_steps=110))
    rates = [T.lr_at(step, s) for step in range(110)]
    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)]) and rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55) and rates[-1] == pytest.approx(0.1, abs=0.001)
    assert all(a > b for a, b in zip(rates[10:], rates[11:]))


def test_the_recipe_is_that_of_the_design():
    lr, steps = T.recipe(MEDIUM, 1_000_000, 128, 0.46)  # GPT-3's
    assert lr == pytest.approx(6e-4, rel=0.01) and steps == math.ceil(20_000_000 / (128 * 1024))
    assert T.recipe(TINY, 1, 1, T.LR_SCALES["muon"])[0] == pytest.approx(2.5 / 192)
    assert T.recipe(TINY, 1, 1, T.LR_SCALES["adamw"])[0] == pytest.approx(0.3 / 192)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_each_weight_has_one_optimizer_and_only_matrices_decay(name, tied):
    model = GPT(replace(TOY, tie_weights=tied))
    optimizers = T.make_optimizers(model, SimpleNamespace(optimizer=name, weight_decay=0.1, zero=False))
    groups = [group for optimizer in optimizers.values() for group in optimizer.param_groups]
    assert Counter(p for group in groups for p in group["params"]) == Counter(model.parameters())
    assert all(group["weight_decay"] == (0.1 if p.dim() == 2 else 0) for group in groups for p in group["params"])
    assert all(group["betas"] == (0.9, 0.95) for group in optimizers["adamw"].param_groups)
    blocks = {p for p in model.blocks.parameters() if p.dim() == 2}
    in_muon = {p for group in optimizers["muon"].param_groups for p in group["params"]} if name == "muon" else blocks
    assert in_muon == blocks and len(optimizers) == (2 if name == "muon" else 1)


@pytest.mark.parametrize("autocast", [False, True])
def test_muon_steps_as_torchs_own_does(autocast):
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    ours, theirs = (GPT(TOY) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    before = {name: p.detach().clone() for name, p in ours.named_parameters()}
    muon = T.make_optimizers(ours, SimpleNamespace(optimizer="muon", weight_decay=0.1, zero=False))["muon"]
    peer = torch.optim.Muon([p for p in theirs.blocks.parameters() if p.dim() == 2], weight_decay=0.1,
                            adjust_lr_fn="match_rms_adamw")
    generator = torch.Generator().manual_seed(0)
    for step in range(3):
        ids = torch.randint(4096, (2, 33), generator=generator)
        for model, optimizer in ((ours, muon), (theirs, peer)):
            for group in optimizer.param_groups:
                group["lr"] = 0.02
            model.zero_grad()
            model(ids[:, :-1], ids[:, 1:]).backward()
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                optimizer.step()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters()):
        moved, moved_there = p - before[name], q - before[name]
        if name.startswith("blocks.") and p.dim() == 2:  # theirs is in bfloat16 always
            assert (moved - moved_there).norm() < 0.1 * moved_there.norm() > 0, name
        else:
            assert torch.equal(p, before[name])


@pytest.mark.parametrize("shape", [(3, 20, 50), (2, 50, 20), (1, 30, 30)])
def test_orthogonal_brings_singular_values_near_one_and_keeps_the_directions(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, sizes, v = torch.linalg.svd(x, full_matrices=False)
    in_its_directions = u.mT @ T.orthogonal(x) @ v.mT  # diagonal
    diagonal = in_its_directions.diagonal(dim1=1, dim2=2)
    assert ((diagonal > 0.5) & (diagonal < 1.3))[sizes > 0.05 * sizes.amax(1, keepdim=True)].all()
    assert (in_its_directions - torch.diag_embed(diagonal)).abs().max() < 1e-3


def test_flops_count_the_head_but_not_the_input_embeddings():
    for tied in (True, False):
        model = GPT(replace(TINY, tie_weights=tied))
        n = sum(p.numel() for p in model.parameters()) - 256 * 192 - (0 if tied else 4096 * 192)
        assert T.flops_per_token(model) == 6 * n + 12 * 6 * 192 * 256


# ----------------------------------------------------------------------------------------------------------------
# The data

@hypothesis_settings(max_examples=200, deadline=None)
@given(n_tokens=st.integers(2, 3000), context=st.integers(1, 200), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 5))
def test_in_an_epoch_no_token_is_a_target_twice_and_fewer_than_a_window_are_left_out(n_tokens, context, seed, epoch):
    if n_tokens < context + 1:
        return
    n_windows = n_tokens // context
    starts = T.window_starts(n_tokens, context, seed, epoch * n_windows, n_windows)
    targets = ((starts[:, None] + 1 + np.arange(context)) % n_tokens).ravel()
    assert len(set(targets.tolist())) == len(targets) > n_tokens - context


@hypothesis_settings(max_examples=100, deadline=None)
@given(n_tokens=st.integers(20, 500), context=st.integers(1, 19), first=st.integers(0, 300), cuts=st.lists(st.integers(1, 30)))
def test_windows_do_not_depend_on_how_they_are_asked_for(n_tokens, context, first, cuts):
    whole = T.window_starts(n_tokens, context, 7, first, sum(cuts)).tolist()
    parts = []
    for count in cuts:
        parts += T.window_starts(n_tokens, context, 7, first + len(parts), count).tolist()
    assert parts == whole


def test_epochs_and_seeds_differ_in_order_and_offset():
    orders = {tuple(T.window_starts(1001, 10, seed, epoch * 100, 100).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9 and len({min(order) % 10 for order in orders}) > 2


def test_the_order_of_the_data_is_the_same_on_any_machine_for_ever():
    assert T.window_starts(100_003, 256, 1337, 0, 4).tolist() == WINDOWS_OF_SEED_1337
    assert T.window_starts(100_003, 256, 1337, 5_000, 2).tolist() == WINDOWS_LATER


WINDOWS_OF_SEED_1337 = [68634, 117018, 113690, 141082]
WINDOWS_LATER = [114263, 79959]


def test_windows_wrap_around_the_end_of_the_text():
    config = replace(TOY, vocab_size=10, max_seq_len=4)
    tokens = np.arange(10, dtype="<u2")
    assert T.read_windows(tokens, np.array([0, 8]), config, torch.device("cpu")).tolist() == [[0, 1, 2, 3, 4], [8, 9, 0, 1, 2]]


# ----------------------------------------------------------------------------------------------------------------
# Training

# The most memory that a process took, in MB. (ru_maxrss of a child starts with what its parent took.)
PEAK = """peak = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024"""


def test_text_larger_than_memory_costs_neither_the_loader_nor_an_epochs_order_memory(runs, tmp_path):
    """On a train.bin of 4 GB (a sparse file): 4 bytes a window, and what was read does not stay in memory."""
    n_tokens, folder = 2_000_000_000, tmp_path / "data" / "sparse"
    shutil.copytree(runs / "data" / "bytes", folder)
    os.truncate(folder / "train.bin", 2 * n_tokens)
    meta = json.loads((folder / "meta.json").read_text())
    meta["splits"]["train"]["tokens"] = n_tokens
    (folder / "meta.json").write_text(json.dumps(meta))
    read_much = f"""
import numpy as np, torch, train as T
{PEAK}
tokens = np.memmap({str(folder / "train.bin")!r}, "<u2", mode="r")
before = peak()
T.window_starts(len(tokens), 256, 1, 0, 1)
in_order = peak()
for i in range(500):
    T.read_windows(tokens, T.window_starts(len(tokens), 256, 1, 64 * i, 64), T.TINY, torch.device("cpu"))
print(in_order - before, peak() - in_order)"""
    done = subprocess.run([sys.executable, "-c", read_much], cwd=HERE, env=ENV, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    of_order, of_reading = map(int, done.stdout.split())  # MB
    assert of_order <= 1.2 * 4 * n_tokens / 256 / 1e6 + 5 and of_reading <= 10


def test_any_split_into_micro_batches_reads_the_same_windows_and_finds_the_same_losses(home, tmp_path, monkeypatch):
    monkeypatch.chdir(home)
    losses = {}
    for batch_size, accumulation in ((32, 1), (8, 4), (1, 32)):
        train(**SMALL_RUN, batch_size=batch_size, grad_accum_steps=accumulation, max_steps=20, eval_interval=10,
              out_dir=tmp_path / str(batch_size))
        losses[batch_size] = [float(row[name]) for row in rows(tmp_path / str(batch_size)) for name in ("loss", "val_loss")
                              if row[name]]
    assert len(losses[32]) == 23 and losses[32][0] > losses[32][-1] + 0.5
    end, model = rows(tmp_path / "32")[-1], load(tmp_path / "32")[0]
    assert int(end["flops"]) == int(end["tokens"]) * T.flops_per_token(model) > 0
    assert losses[8] == pytest.approx(losses[32], abs=1e-5) and losses[1] == pytest.approx(losses[32], abs=1e-5)


def test_the_same_command_gives_the_same_bits(home, tmp_path, monkeypatch):
    monkeypatch.chdir(home)
    for name in ("a", "b"):
        train(**SMALL_RUN, max_steps=12, dropout=0.2, out_dir=tmp_path / name)
    assert_same_run(tmp_path / "a", tmp_path / "b")


@pytest.fixture(scope="session")
def processes():
    """A way to start train() in a process of its own in no time: each is forked from one that has imported torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["train", "torch._dynamo"])  # the second AdamW would import
    return lambda **settings: context.Process(target=train, kwargs=settings)


KILLS = int(os.environ.get("KILLS", 40))  # of all four tests below together


@pytest.mark.parametrize("length", ["max_steps", "minutes"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_run_killed_at_random_moments_ends_with_the_bits_of_one_that_was_not(runs, tmp_path, processes, length, dropout):
    """SIGKILL at random: in a step, in the middle of its micro-batches, in an eval, in a save, before the first."""
    given = dict(size="toy", d_model=32, max_seq_len=64, eval_tokens=0, device="cpu", data_dir=runs / "data", dropout=dropout,
                 dataset="bytes", log_interval=1, eval_interval=4, batch_size=4, grad_accum_steps=4)
    how_long = {"max_steps": 80} if length == "max_steps" else {"minutes": 0.07}
    kills, run_number, dice, whole = 0, 0, random.Random(), {}
    while kills < KILLS / 4:
        run_number += 1
        out_dir, life, saved = tmp_path / f"killed{run_number}", 0.3, -1
        while True:
            process = processes(**given, **how_long, out_dir=out_dir)
            process.start()
            process.join(dice.uniform(0, life))
            process.kill()
            process.join()
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL
            kills, life = kills + 1, life * 1.15  # so that the run ends some day, whatever machine this is
            checkpoint = T.newest_checkpoint(out_dir) or {"step": -1}
            assert checkpoint["step"] >= saved, "a checkpoint was lost"
            saved = checkpoint["step"]
        max_steps = T.load_checkpoint(out_dir / "ckpt.pt")["schedule"][0]
        if max_steps not in whole:
            train(**given, max_steps=max_steps, out_dir=tmp_path / f"whole{max_steps}")
            whole[max_steps] = tmp_path / f"whole{max_steps}"
        assert_same_run(out_dir, whole[max_steps])
        shutil.rmtree(out_dir)
    print(f"{length}, dropout {dropout}: {kills} kills in {run_number} runs")


def one_of_several(rank, world_size, port, settings, float64=False, until=None, room=None):
    """
    train() as torchrun would start it; the last process gets SIGTERM in the step after `until`, and no more memory than
    `room` bytes. Gradients must travel once a step, and with zero each process hold its part of the moments alone.
    """
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with open(f"{settings['out_dir']}.log", "w" if rank == 0 else "a") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    T.RANK = T.LOCAL_RANK = rank
    T.WORLD_SIZE = world_size
    micro_step, make_optimizers, sent, steps, made = T.micro_step, T.make_optimizers, [], [], []

    def micro_step_and_signal(model, batch, s, scaler, step, i, last=False):
        if step == until and rank == world_size - 1 and last:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # as a batch system and torchrun may both do
        steps.append(step) if last else None
        return micro_step(model, batch, s, scaler, step, i, last)

    class Counting(torch.nn.parallel.DistributedDataParallel):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.register_comm_hook(None, self.send)

        @staticmethod
        def send(state, bucket):
            sent.append(bucket.index())
            return allreduce_hook(None, bucket)

    T.micro_step, torch.nn.parallel.DistributedDataParallel = micro_step_and_signal, Counting
    T.make_optimizers = lambda model, s: made.append((model, make_optimizers(model, s))) or made[-1][1]
    if float64:
        torch.set_default_dtype(torch.float64)
    if room:
        ctypes.CDLL(None).mallopt(-3, 1 << 16)  # M_MMAP_THRESHOLD: what is freed goes back to the system at once
        with open("/proc/self/status") as file:
            used = 1024 * int(re.search(r"VmData:\s+(\d+)", file.read())[1])
        resource.setrlimit(resource.RLIMIT_DATA, (used + room, resource.RLIM_INFINITY))
    train(**settings)
    assert world_size == 1 or sent.count(0) == len(steps)
    model, optimizers = made[0]
    if settings.get("zero") and world_size > 1:
        for optimizer in optimizers.values():
            held = sum(len(state) for state in optimizer.optim.state.values())
            assert len(optimizer.state) == 0 and 0 < held < sum(
                len(group["params"]) for group in optimizer.param_groups) * max(map(len, optimizer.optim.state.values()))


@pytest.fixture
def together(processes, runs):
    """A way to train in several processes, connected by gloo; `rooms` are their limits of memory."""
    group = []

    def start(world_size, out_dir, float64=False, until=None, rooms=(None,) * 4, **settings):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        settings = SMALL_RUN | dict(data_dir=runs / "data", dataset="bytes", out_dir=out_dir, log_interval=1) | settings
        group[:] = [multiprocessing.get_context("forkserver").Process(target=one_of_several, daemon=True, args=(
            rank, world_size, port, settings, float64, until, rooms[rank])) for rank in range(world_size)]
        for process in group:
            process.start()
        for process in group:
            process.join(120)
        return [process.exitcode for process in group]

    yield start
    for process in group:
        process.kill()


def told(out_dir):
    """What the processes that trained together there last printed."""
    return Path(f"{out_dir}.log").read_text(encoding="utf-8")


def losses(out_dir):
    return [float(row[name]) for row in rows(out_dir) for name in ("loss", "val_loss") if row[name]]


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float16", 1e-3)])
def test_two_and_four_processes_with_and_without_zero_find_the_losses_of_one(together, tmp_path, dtype, tolerance):
    given = dict(batch_size=8, max_steps=20, eval_interval=10, dropout=0.1, dtype=dtype, lr=0.03)  # more: rounding grows
    assert together(1, tmp_path / "one", **given) == [0]
    one = losses(tmp_path / "one")
    assert len(one) == 23 and one[0] > one[-1] + 0.5
    for world_size in (2, 4):
        for zero in (False, True):
            out_dir = tmp_path / f"{world_size}{zero}"
            assert together(world_size, out_dir, zero=zero, **given) == [0] * world_size
            assert losses(out_dir) == pytest.approx(one, abs=tolerance)
            checkpoints = [T.load_checkpoint(folder / "ckpt.pt") for folder in (tmp_path / "one", out_dir)]
            assert checkpoints[0].keys() == checkpoints[1].keys()
            for name, states in checkpoints[0]["optimizer"].items():
                assert {i: {key: value.shape for key, value in state.items()} for i, state in states["state"].items()} == {
                    i: {key: value.shape for key, value in state.items()}
                    for i, state in checkpoints[1]["optimizer"][name]["state"].items()}


def test_a_checkpoint_goes_from_one_process_to_two_with_zero_to_four_to_one(together, tmp_path):
    """In float64: in float32 the key bias, whose true gradient is 0, would drift by rounding that Adam makes large."""
    given = dict(float64=True, batch_size=4, max_steps=20, eval_interval=5, dropout=0.1, optimizer="muon")
    assert together(1, tmp_path / "one", **given) == [0]
    for world_size, zero, until in ((1, False, 5), (2, True, 10), (4, False, 15), (1, False, None)):
        assert together(world_size, tmp_path / "chain", zero=zero, until=until, **given) == [0] * world_size
        step = T.load_checkpoint(tmp_path / "chain" / "ckpt.pt")["step"]
        assert step == 20 if until is None else step == until + (world_size > 1)  # all left after the same step
    one, chain = (T.load_checkpoint(tmp_path / name / "ckpt.pt") for name in ("one", "chain"))
    assert losses(tmp_path / "chain") == pytest.approx(losses(tmp_path / "one"), abs=1e-9)
    for name, weight in one["model"].items():
        assert weight.dtype == torch.float64 and (weight - chain["model"][name]).abs().max() < 1e-9, name


def test_where_memory_runs_out_the_micro_batch_shrinks_and_the_losses_stay(together, tmp_path):
    given = dict(batch_size=256, grad_accum_steps=1, max_steps=2, eval_interval=2, d_model=64, max_seq_len=256)  # 1 GB
    much, little, two = (tmp_path / name for name in ("much", "little", "two"))
    assert together(1, much, **given) == [0] and "does not fit" not in told(much)
    assert together(1, little, rooms=[380 << 20], **given) == [0]
    size, accumulation = re.search(r"batch_size=256 does not fit: batch_size=(\d+), grad_accum_steps=(\d+) ", told(little)).groups()
    assert int(size) * int(accumulation) == 256 and int(size) < 256
    assert losses(little) == pytest.approx(losses(much), abs=1e-5)
    given["batch_size"] = 128  # of two processes, the second has little: both take what fits there
    assert together(2, two, rooms=[None, 340 << 20], **given) == [0, 0]
    size, accumulation = re.search(r"batch_size=128 does not fit: batch_size=(\d+), grad_accum_steps=(\d+) ", told(two)).groups()
    assert int(size) * int(accumulation) == 128 and losses(two) == pytest.approx(losses(much), abs=1e-5)


def test_where_not_one_sequence_fits_or_memory_runs_out_later_one_line_says_what_to_try(runs, tmp_path, monkeypatch):
    given = SMALL_RUN | dict(data_dir=runs / "data", dataset="bytes", out_dir=tmp_path, max_steps=5)

    def micro_step(model, batch, s, scaler, step, i, last=False):
        if len(batch) > room or step > 2:
            torch.empty(1 << 60)  # more than any machine has
        return real_micro_step(model, batch, s, scaler, step, i, last)

    real_micro_step, room = T.micro_step, 0
    monkeypatch.setattr(T, "micro_step", micro_step)
    with pytest.raises(UserError, match="one sequence of 64 tokens .*--grad_checkpoint=True"):
        train(**given)
    room = 8
    with pytest.raises(UserError, match="out of memory at batch_size=8: try --batch_size=4 --grad_accum_steps=8, or --grad"):
        train(**given)
    monkeypatch.setattr(T, "micro_step", real_micro_step)
    assert train(**given, batch_size=4, grad_accum_steps=8)["step"] == 5  # what the line says goes on
    assert T.load_checkpoint(tmp_path / "ckpt.pt")["step"] == 5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_checkpointing_changes_no_bit(home, tmp_path, monkeypatch, dtype):
    monkeypatch.chdir(home)
    for name in (False, True):
        train(**SMALL_RUN, max_steps=8, dropout=0.2, dtype=dtype, grad_checkpoint=name, out_dir=tmp_path / str(name))
    assert_same_run(tmp_path / "False", tmp_path / "True")


def test_processes_that_do_not_divide_the_batch_are_told_which_number_does(runs, tmp_path, monkeypatch):
    given = SMALL_RUN | dict(data_dir=runs / "data", dataset="bytes", out_dir=tmp_path / "new", max_steps=5)
    monkeypatch.setattr(T, "WORLD_SIZE", 5)
    with pytest.raises(UserError, match="^5 processes do not divide the recipe's 32 sequences a step, 4 do"):
        train(**given)
    monkeypatch.setattr(T, "WORLD_SIZE", 4)
    with pytest.raises(UserError, match="batch_size=16 does not divide the recipe's 8 sequences a step a process: take a divisor of 8"):
        train(**given, batch_size=16)
    assert not (tmp_path / "new").exists()


def test_two_processes_keep_to_the_minutes_stop_finish_overwrite_and_start_from_weights(together, tmp_path):
    run, second = tmp_path / "run", tmp_path / "next"
    assert together(2, run, minutes=0.05, zero=True) == [0, 0] and told(run).count("machine    2 x cpu") == 1
    steps = T.load_checkpoint(run / "ckpt.pt")["step"]
    assert together(2, run, minutes=0.05) == [0, 0] and "finished already" in told(run)
    assert rows(run)[-1]["step"] == str(steps)
    assert together(2, run, max_steps=3, overwrite=True) == [0, 0] and T.load_checkpoint(run / "ckpt.pt")["step"] == 3
    assert together(2, second, max_steps=100_000, init_from=run, stop_after=0.08) == [0, 0]
    step = T.load_checkpoint(second / "ckpt.pt")["step"]
    assert f"stop_after=0.08: stopped at step {step:,}; " in told(second) and 0 < step < 100_000
    assert together(2, second, max_steps=5, init_from=run) == [1, 1]  # both end with the first one's mistake
    assert told(second).count("holds another run: max_steps was 100000 and is now 5") == 2


def test_a_run_that_memory_held_goes_on_in_the_same_memory(together, tmp_path):
    given = dict(d_model=512, batch_size=8, grad_accum_steps=1, max_steps=6, eval_interval=3, optimizer="adamw")
    for until in (3, None):  # 6.5M parameters: their moments, 52 MB, would not fit twice
        assert together(1, tmp_path / "run", until=until, rooms=[275 << 20], **given) == [0]
        assert "does not fit" not in told(tmp_path / "run")


def test_killing_one_process_ends_the_others_within_30_s_and_the_same_command_goes_on(runs, tmp_path):
    """With torchrun: on two machines, as far as it can tell, then on one."""
    def start(*how):
        log = tmp_path / f"log{len(started)}"
        command = [sys.executable, "-m", "torch.distributed.run", *how, HERE / "train.py", *flags(**settings)]
        started.append(subprocess.Popen(command, stdout=log.open("wb"), stderr=subprocess.STDOUT, env=ENV))
        return log

    def workers():  # in sessions of their own
        words = subprocess.run(["pgrep", "-f", f"^{re.escape(sys.executable)} -u .*{re.escape(str(tmp_path))}"],
                               capture_output=True, text=True).stdout.split()
        return list(map(int, words))

    settings = SMALL_RUN | dict(data_dir=runs / "data", dataset="bytes", max_steps=20_000, eval_interval=10_000, out_dir=tmp_path / "run")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    started = []
    try:
        logs = [start("--nproc_per_node=1", "--nnodes=2", "--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{port}")
                for _ in range(2)]
        wait_for(lambda: any("step 10/" in log.read_text() for log in logs))
        assert len(workers()) == 2
        os.kill(workers()[0], signal.SIGKILL)
        assert [node.wait(30) != 0 for node in started] == [True, True] and not workers()
        told = "".join(log.read_text() for log in logs)
        assert "SIGKILL" in told and told.count("run        ") == 1  # one process prints

        log = start("--standalone", "--nproc_per_node=2")
        wait_for(lambda: "step 20/" in log.read_text())
        started[-1].send_signal(signal.SIGINT)
        assert started[-1].wait(60) != 0 and not workers()
        step = T.load_checkpoint(tmp_path / "run" / "ckpt.pt")["step"]
        assert "goes on at step 0" in log.read_text() and step >= 20
        assert f"SIGINT: stopped at step {step}; " in log.read_text().replace(",", "")
    finally:
        for process in [node.pid for node in started if node.poll() is None] + workers():
            os.kill(process, signal.SIGKILL)


def test_a_second_run_in_the_same_folder_refuses_until_the_first_ends(runs, tmp_path, processes):
    given = dict(SMALL_RUN, data_dir=runs / "data", dataset="bytes", max_steps=10_000, out_dir=tmp_path)
    process = processes(**given)
    process.start()
    while not (tmp_path / "ckpt.pt").exists():
        time.sleep(0.01)
    with pytest.raises(UserError, match="another process trains in out_dir="):
        train(**given)
    with pytest.raises(UserError, match="another process trains in out_dir="):
        train(**given, overwrite=True)
    assert T.load_checkpoint(tmp_path / "ckpt.pt")
    process.kill()  # the operating system ends the lock with the process
    process.join()
    assert train(**given, stop_after=0.02)["step"] < 10_000


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_goes_on_to_the_same_bits(home, tmp_path, how):
    given = dict(SMALL_RUN, max_steps=40, eval_interval=1000)
    command = [sys.executable, HERE / "train.py", *flags(**given, out_dir=tmp_path / "a")]
    process = subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if line.startswith("step 10/"):
            process.send_signal(how)
            break
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + how and f"{how.name}: stopped at step" in output and "goes on from step" in output
    step = T.load_checkpoint(tmp_path / "a" / "ckpt.pt")["step"]
    assert 10 <= step < 40
    assert f"goes on at step {step}" in run("train.py", *flags(**given, out_dir=tmp_path / "a"), cwd=home).stdout
    run("train.py", *flags(**given, out_dir=tmp_path / "b"), cwd=home)
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_stop_after_leaves_in_time_and_the_same_command_finishes(home, tmp_path, monkeypatch):
    monkeypatch.chdir(home)
    given = dict(SMALL_RUN, max_steps=3000, eval_interval=1000, out_dir=tmp_path)
    start = time.monotonic()
    result = train(**given, stop_after=0.05)
    assert time.monotonic() - start < 8 and 0 < result["step"] < 3000
    assert train(**given, stop_after=0.05)["step"] > result["step"]


def test_minutes_fits_the_whole_run_and_its_schedule_into_the_time(home, tmp_path, monkeypatch):
    monkeypatch.chdir(home)
    start = time.monotonic()
    result = train(**SMALL_RUN | dict(log_interval=50), minutes=0.25, out_dir=tmp_path)
    seconds = time.monotonic() - start
    checkpoint = T.load_checkpoint(tmp_path / "ckpt.pt")
    assert result["step"] == checkpoint["schedule"][0] and 5 < seconds < 35
    assert float(rows(tmp_path)[-1]["lr"]) < 0.11 * T.recipe(GPTConfig(d_model=32), 1, 1, T.LR_SCALES["muon"])[0]


def test_a_finished_run_says_so_and_trains_no_further(home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(home)
    first = train(**SMALL_RUN, max_steps=5, out_dir=tmp_path)
    before = (tmp_path / "ckpt.pt").read_bytes()
    capsys.readouterr()
    assert train(**SMALL_RUN, max_steps=5, out_dir=tmp_path) == first
    assert "finished already" in capsys.readouterr().out and (tmp_path / "ckpt.pt").read_bytes() == before


@pytest.mark.parametrize("name,value", [("lr", 0.5), ("seed", 1), ("d_model", 16), ("max_steps", 9), ("weight_decay", 0.0),
                                        ("dropout", 0.1), ("batch_size", 64), ("grad_clip", 2.0), ("eval_tokens", 128)])
def test_another_run_is_never_overwritten_unasked(home, tmp_path, monkeypatch, name, value):
    monkeypatch.chdir(home)
    given = SMALL_RUN | dict(max_steps=3, batch_size=32, grad_accum_steps=1, out_dir=tmp_path)
    train(**given)
    before = (tmp_path / "ckpt.pt").read_bytes()
    with pytest.raises(UserError, match="grad_accum_steps was 32" if name == "batch_size" else name):
        train(**given | {name: value})
    assert (tmp_path / "ckpt.pt").read_bytes() == before
    assert train(**given | {name: value}, overwrite=True)["step"] in (3, 9)


def test_device_micro_batch_and_intervals_may_change_on_resume(home, tmp_path, monkeypatch):
    monkeypatch.chdir(home)
    given = SMALL_RUN | dict(max_steps=150, out_dir=tmp_path)
    train(**given, batch_size=32, stop_after=0.03)
    result = train(**given | dict(log_interval=7, eval_interval=50, dtype="bfloat16"), batch_size=8, stop_after=0.04)
    assert result["step"] < 150 and train(**given, batch_size=16)["step"] == 150
    steps = [int(row["step"]) for row in rows(tmp_path)]
    assert steps == sorted(set(steps))


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_is_taken(home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(home)
    given = SMALL_RUN | dict(max_steps=30, eval_interval=10)
    train(**given, out_dir=tmp_path / "whole")
    train(**given, out_dir=tmp_path / "torn")
    data = bytearray((tmp_path / "torn" / "ckpt.pt").read_bytes())
    data[len(data) // 2] ^= 1  # one flipped bit in a tensor
    (tmp_path / "torn" / "ckpt.pt").write_bytes(data)
    capsys.readouterr()
    train(**given, out_dir=tmp_path / "torn")
    output = capsys.readouterr().out
    assert "ckpt.pt is damaged" in output and "goes on at step 20" in output
    assert [path.read_bytes() for path in (tmp_path / "torn").glob("ckpt.pt.damaged-*")] == [data]
    assert_same_run(tmp_path / "torn", tmp_path / "whole")


def test_a_checkpoint_cut_anywhere_or_with_a_flipped_byte_loads_soundly_or_the_one_before_it_is_taken(runs, tmp_path, capsys):
    sound, before = (runs / "out" / "bytes" / name for name in ("ckpt.pt", "ckpt_prev.pt"))
    data, expected, dice = sound.read_bytes(), T.load_checkpoint(sound), random.Random(0)
    step_before, outcomes = T.load_checkpoint(before)["step"], Counter()
    cases = [("cut", data[:len(data) * i // 50]) for i in range(50)]
    for _ in range(100):
        place = dice.randrange(len(data))
        cases.append(("flip", data[:place] + bytes([data[place] ^ dice.randrange(1, 256)]) + data[place + 1:]))
    for number, (kind, damaged) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "ckpt.pt").write_bytes(damaged)
        shutil.copy(before, folder / "ckpt_prev.pt")
        checkpoint = T.newest_checkpoint(folder)
        message = capsys.readouterr().out
        if message:  # one line, and nothing is lost
            assert checkpoint["step"] == step_before and message.count("\n") == 1 and "ckpt.pt is damaged" in message
            assert [path.read_bytes() for path in folder.glob("ckpt.pt.damaged-*")] == [damaged]
        else:
            assert same(checkpoint["model"], expected["model"]) and same(checkpoint["optimizer"], expected["optimizer"])
        outcomes[kind, "fell back" if message else "sound"] += 1
        shutil.rmtree(folder)
    assert outcomes["cut", "fell back"] == 50 and outcomes["flip", "fell back"] > 80
    print(dict(outcomes))


def test_where_no_checkpoint_can_be_read_nothing_is_overwritten(runs, tmp_path, monkeypatch):
    given = dict(SMALL_RUN, data_dir=runs / "data", dataset="bytes", max_steps=20, out_dir=tmp_path)
    for name in ("ckpt.pt", "ckpt_prev.pt"):
        (tmp_path / name).write_bytes(b"torn")
    for _ in range(2):
        with pytest.raises(UserError, match="cannot be resumed"):
            train(**given)
    assert [path.read_bytes() for path in tmp_path.glob("*.damaged-*")] == [b"torn", b"torn"]
    assert train(**given, overwrite=True)["step"] == 20 and len(list(tmp_path.glob("*.damaged-*"))) == 2


def limit_files(size):
    """Make the disk full, for files of this process past `size` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_is_told_the_old_checkpoint_stays_and_the_same_command_goes_on(runs, tmp_path):
    given = flags(**SMALL_RUN, data_dir=runs / "data", dataset="bytes", max_steps=20, eval_interval=5)
    run("train.py", *given, f"--out_dir={tmp_path / 'whole'}", cwd=tmp_path)
    run("train.py", *given, f"--out_dir={tmp_path / 'full'}", "--stop_after=0.001", cwd=tmp_path)
    before = (tmp_path / "full" / "ckpt.pt").read_bytes()
    full = python("train.py", *given, f"--out_dir={tmp_path / 'full'}", cwd=tmp_path, preexec_fn=lambda: limit_files(len(before) // 2))
    assert full.returncode == 2 and "Traceback" not in full.stderr
    assert full.stderr.startswith("error: ") and "the end could not be saved" in full.stderr and full.stderr.count("\n") == 1
    assert full.stdout.count("ckpt.pt could not be saved") == 5 and "step 20/20" in full.stdout  # tried each time
    assert (tmp_path / "full" / "ckpt.pt").read_bytes() == before
    assert not list((tmp_path / "full").glob("*.tmp"))
    run("train.py", *given, f"--out_dir={tmp_path / 'full'}", cwd=tmp_path)
    assert_same_run(tmp_path / "full", tmp_path / "whole")


def test_a_folder_that_goes_away_for_a_while_is_told_and_saved_to_when_it_is_back(runs, tmp_path):
    given = flags(**SMALL_RUN, data_dir=runs / "data", dataset="bytes", max_steps=60, eval_interval=10)
    run("train.py", *given, f"--out_dir={tmp_path / 'whole'}", cwd=tmp_path)
    command = [sys.executable, HERE / "train.py", *given, f"--out_dir={tmp_path / 'drive'}"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = ""
    for line in process.stdout:
        output += line
        if line.startswith("step 15/"):
            (tmp_path / "drive").rename(tmp_path / "away")
        elif "could not be saved" in line and (tmp_path / "away").exists():
            (tmp_path / "away").rename(tmp_path / "drive")
    assert process.wait(60) == 0 and "could not be saved" in output, output
    assert_same_run(tmp_path / "drive", tmp_path / "whole")


@pytest.mark.parametrize("without", ["", "log", "result", "best_val_loss", "scaler", "settings", "config.mlp_ratio",
                                     "config.bias", "settings.seed", "settings.eval_tokens"])
def test_files_of_the_first_version_load_for_ever(tmp_path, without):
    """assets/v1: a dataset, and step 10 of 20 of a run on it, also without fields and with fields to come."""
    given = dict(size="toy", d_model=16, n_heads=2, max_seq_len=32, max_steps=20, eval_interval=10, device="cpu",
                 dataset="readme", data_dir=tmp_path, out_dir=tmp_path / "run")
    shutil.copytree(HERE / "assets" / "v1" / "readme", tmp_path / "readme")
    meta = json.loads((tmp_path / "readme" / "meta.json").read_text())
    (tmp_path / "readme" / "meta.json").write_text(json.dumps(meta | {"license": "unknown as yet"}))
    checkpoint = T.load_checkpoint(HERE / "assets" / "v1" / "ckpt.pt") | {"new": 1}
    checkpoint["config"]["rotary"] = checkpoint["settings"]["schedule"] = None
    part, _, field = without.rpartition(".")
    (checkpoint[part] if part else checkpoint).pop(field, None)
    (tmp_path / "run").mkdir()
    torch.save(checkpoint, tmp_path / "run" / "ckpt.pt")
    model, tokenizer = load(tmp_path / "run")
    assert tokenizer.decode(tokenizer.encode("A GPT trainer")) == "A GPT trainer" and model.config.d_model == 16
    result = train(**given)
    assert result["step"] == 20 and result["val_loss"] == pytest.approx(3.2469, abs=0.01)


def test_a_strangers_checkpoint_takes_no_more_memory_than_its_file(tmp_path):
    """One that is packed could be a thousand times as large, and nested lists a thousand times as long when printed."""
    sound = HERE / "assets" / "v1" / "ckpt.pt"
    with zipfile.ZipFile(sound) as old, zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    torch.save(T.load_checkpoint(sound) | {"settings": {"lr": [[1] * 10] * 10}}, tmp_path / "nested.pt")
    for name in ("packed.pt", "nested.pt"):
        with pytest.raises(UserError, match=f"{name} is damaged, or no checkpoint"):
            T.load_checkpoint(tmp_path / name)


def test_a_signal_while_stop_after_saves_does_not_tear_the_save():
    with T.caught_signals() as stopping:
        stopping.append(0)  # stop_after's time is over
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # within a second: the same
        assert stopping == [0, signal.SIGTERM, signal.SIGTERM]
        time.sleep(1.1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)


def test_another_projects_weights_are_refused_with_a_reason(tmp_path):
    nanogpt = {"model": {"transformer.wte.weight": torch.zeros(3, 3)}, "model_args": {"n_layer": 1}, "iter_num": 5}
    for name, thing in (("nanogpt.pt", nanogpt), ("list.pt", [1, 2]), ("tensor.pt", torch.zeros(3))):
        torch.save(thing, tmp_path / name)
        with pytest.raises(UserError, match=f"{name} is damaged, or no checkpoint of train.py"):
            T.load_checkpoint(tmp_path / name)


def test_a_checkpoint_whose_parts_do_not_fit_is_one_line(runs, tmp_path, monkeypatch):
    given = dict(SMALL_RUN, data_dir=runs / "data", dataset="bytes", max_steps=4)
    train(**given, out_dir=tmp_path / "run")
    sound = T.load_checkpoint(tmp_path / "run" / "ckpt.pt")
    (tmp_path / "run" / "ckpt_prev.pt").unlink()
    adamw = sound["optimizer"]["adamw"]
    short = {i: state | {"exp_avg": state["exp_avg"].flatten()[:3]} for i, state in adamw["state"].items()}
    stretched = {i: state | {"exp_avg": torch.zeros(1).expand(state["exp_avg"].shape)} for i, state in adamw["state"].items()}
    for change in ({"model": {}}, {"model": 5}, {"optimizer": None}, {"optimizer": {"state": {}, "param_groups": []}},
                   {"model": {name: p[:1] for name, p in sound["model"].items()}}, {"settings": []}, {"format": 2},
                   {"optimizer": sound["optimizer"] | {"adamw": adamw | {"state": short}}},
                   {"optimizer": sound["optimizer"] | {"adamw": adamw | {"state": stretched}}}, {"optimizer": [1]},
                   {"step": "x"}, {"log": 5}, {"result": 5}, {"schedule": 5},
                   {"settings": sound["settings"] | {"lr": "\x1b[31m\nred"}},
                   {"settings": sound["settings"] | {"lr": torch.zeros(3)}}):
        torch.save(sound | change, tmp_path / "run" / "ckpt.pt")
        with pytest.raises(UserError) as error:
            train(**given, out_dir=tmp_path / "run")
        assert str(tmp_path / "run") in str(error.value) and not set("\n\x1b") & set(str(error.value)), change


@pytest.mark.parametrize("fault", [MemoryError(), OSError(5, "Input/output error")])
def test_a_checkpoint_that_cannot_be_read_just_now_is_not_set_aside(runs, monkeypatch, fault):
    def fail(*_, **__):
        raise fault

    before = sorted(os.listdir(runs / "out" / "bytes"))
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(UserError, match="ckpt.pt cannot be read: (out of memory|Input/output error)"):
        T.newest_checkpoint(runs / "out" / "bytes")
    assert sorted(os.listdir(runs / "out" / "bytes")) == before


def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    torch.save({"format": 1, "model": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(UserError, match="bomb.pt"):
        T.load_checkpoint(tmp_path / "bomb.pt")
    assert not (tmp_path / "exploded").exists()


def test_overwrite_removes_nothing_before_all_that_may_fail_has_been_tried(runs, tmp_path):
    given = dict(SMALL_RUN, data_dir=runs / "data", dataset="bytes", max_steps=4, out_dir=tmp_path / "run")
    train(**given)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.pt")}
    for wrong in ({"init_from": tmp_path / "bst.pt"}, {"init_from": runs / "out" / "chars" / "best.pt"},
                  {"init_from": tmp_path / "run" / "best.pt"}, {"init_from": tmp_path / "run"}, {"n_heads": 5}):
        with pytest.raises(UserError):
            train(**given | wrong, overwrite=True)
        assert {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.pt")} == before and len(before) == 3


def test_init_from_starts_a_new_run_from_another_runs_weights(home, tmp_path, monkeypatch):
    monkeypatch.chdir(home)
    train(**SMALL_RUN, max_steps=40, out_dir=tmp_path / "base")
    train(**SMALL_RUN, max_steps=5, init_from=tmp_path / "base", out_dir=tmp_path / "fine", seed=2)
    assert rows(tmp_path / "fine")[0]["val_loss"] == rows(tmp_path / "base")[-1]["val_loss"]
    with pytest.raises(UserError, match="init_from.*d_model"):
        train(**SMALL_RUN | dict(d_model=64), init_from=tmp_path / "base" / "best.pt", out_dir=tmp_path / "other")


def test_validation_is_the_same_for_any_micro_batch_and_bits_per_byte_count_the_bytes_of_its_tokens(home, tmp_path, monkeypatch):
    monkeypatch.chdir(home)
    results = [train(**SMALL_RUN, max_steps=2, batch_size=size, grad_accum_steps=32 // size, out_dir=tmp_path / str(size))
               for size in (32, 2)]
    assert results[0]["val_loss"] == pytest.approx(results[1]["val_loss"], abs=1e-6)
    meta = json.loads((home / "data/python/meta.json").read_text())
    tokenizer = T.load_tokenizer(meta["tokenizer"])
    val = np.fromfile(home / "data/python/val.bin", "<u2")
    n_windows = (2048 - 1) // 64
    text = tokenizer.decode_bytes([int(i) for i in val[1:n_windows * 64 + 1] if i != meta["vocab_size"] - 1])
    bits = results[0]["val_loss"] * n_windows * 64 / math.log(2)
    assert results[0]["bpb"] == pytest.approx(bits / len(text), rel=1e-9)


def test_steps_that_are_not_finite_are_skipped_and_ten_in_a_row_end_the_run(home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(home)
    given = SMALL_RUN | dict(max_steps=50, warmup_steps=0, out_dir=tmp_path)
    with pytest.raises(UserError, match="ten steps.*lr"):
        train(**given, lr=1e18, grad_clip=0)
    assert capsys.readouterr().out.count("skipped") == 10
    weights = T.load_checkpoint(tmp_path / "ckpt.pt")["model"]
    assert all(torch.isfinite(p).all() for p in weights.values())


def test_float16_runs_with_the_scaler_and_keeps_its_state(home, tmp_path, monkeypatch):
    monkeypatch.chdir(home)
    result = train(**SMALL_RUN, dtype="float16", max_steps=20, out_dir=tmp_path)
    assert result["loss"] < 8.2 and T.load_checkpoint(tmp_path / "ckpt.pt")["scaler"]["scale"] > 0


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_gradient_that_overflows_in_float16_moves_no_weight_of_any_optimizer(runs, tmp_path, monkeypatch, value):
    def overflow_in_the_last_step(model, batch, s, scaler, step, *rest, **last):
        loss = micro_step(model, batch, s, scaler, step, *rest, **last)
        if step == 2:
            model.blocks[0].attn.qkv.weight.grad[0, 0] = value
        return loss

    micro_step = T.micro_step
    monkeypatch.setattr(T, "micro_step", overflow_in_the_last_step)
    train(**SMALL_RUN, data_dir=runs / "data", dataset="bytes", dtype="float16", max_steps=3, eval_interval=1, out_dir=tmp_path)
    last, before = (T.load_checkpoint(tmp_path / name) for name in ("ckpt.pt", "ckpt_prev.pt"))
    assert last["step"] == before["step"] + 1 == 3 and same(last["model"], before["model"])
    assert last["scaler"]["scale"] == before["scaler"]["scale"] / 2


@pytest.mark.parametrize("steps", [1, 5])  # the first step's loss is still that of sound weights
def test_a_run_that_ends_in_numbers_that_are_not_finite_says_so(runs, tmp_path, steps):
    with pytest.raises(UserError, match="the end could not be saved, its checkpoint is of step 0"):
        train(**SMALL_RUN, data_dir=runs / "data", dataset="bytes", max_steps=steps, lr=1e18, warmup_steps=0, grad_clip=0,
              out_dir=tmp_path)
    assert all(torch.isfinite(p).all() for p in T.load_checkpoint(tmp_path / "ckpt.pt")["model"].values())


def test_a_signal_in_the_last_eval_does_not_say_finished_and_the_same_command_does_it_again(runs, tmp_path, monkeypatch, capsys):
    def cut_short(model, val, n_windows, s, tokenizer, stopping):
        if model.training and len(evals) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        evals.append(evaluate(model, val, n_windows, s, tokenizer, stopping))
        return evals[-1]

    evaluate, evals, given = T.evaluate, [], dict(SMALL_RUN, data_dir=runs / "data", dataset="bytes", max_steps=5, eval_interval=100)
    whole = train(**given, out_dir=tmp_path / "whole")
    capsys.readouterr()
    monkeypatch.setattr(T, "evaluate", cut_short)
    assert train(**given, out_dir=tmp_path / "cut")["stopped"] == "SIGINT" and evals[-1] is None
    out = capsys.readouterr().out
    assert "SIGINT: stopped at step 5; the same command" in out and "finished" not in out
    assert train(**given, out_dir=tmp_path / "cut") == whole and "finished: " in capsys.readouterr().out
    assert same(*(T.load_checkpoint(tmp_path / name / "best.pt")["model"] for name in ("whole", "cut")))


@pytest.mark.parametrize("stderr", [subprocess.PIPE, subprocess.STDOUT])
def test_ctrl_c_saves_although_the_pipe_to_tee_is_gone(runs, tmp_path, stderr):
    command = [sys.executable, HERE / "train.py", *flags(**SMALL_RUN, data_dir=runs / "data", dataset="bytes", max_steps=10**6)]
    process = subprocess.Popen([*command, f"--out_dir={tmp_path}"], stdout=subprocess.PIPE, stderr=stderr, text=True)
    for line in process.stdout:
        if line.startswith("step 10/"):
            break
    process.stdout.close()
    if process.stderr:
        process.stderr.close()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert T.load_checkpoint(tmp_path / "ckpt.pt")["step"] >= 10


def test_a_terminal_that_lacks_characters_ends_no_run(runs, tmp_path):
    command = [sys.executable, HERE / "train.py", *flags(**SMALL_RUN, data_dir=runs / "data", dataset="bytes", max_steps=4)]
    done = subprocess.run([*command, "--out_dir=caf\u00e9"], cwd=tmp_path, env=ENV | {"PYTHONIOENCODING": "ascii"}, capture_output=True)
    assert done.returncode == 0 and b"run        caf?, new" in done.stdout and done.stdout.isascii()


def test_train_leaves_globals_and_signal_handlers_as_it_found_them(home, tmp_path, monkeypatch):
    monkeypatch.chdir(home)
    before = {name: getattr(T, name) for name in T.SETTINGS}
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(**SMALL_RUN, max_steps=2, out_dir=tmp_path)
    assert {name: getattr(T, name) for name in T.SETTINGS} == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_train_py_alone_beside_data_trains(home, tmp_path):
    shutil.copy(HERE / "train.py", tmp_path)
    shutil.copytree(home / "data", tmp_path / "data")
    done = subprocess.run([sys.executable, "train.py", *flags(**SMALL_RUN, max_steps=3)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "out" / "python-toy" / "best.pt").exists(), done.stderr


def test_train_py_pasted_into_a_notebook_cell_trains_and_prints_a_sample(home, tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    source = (HERE / "train.py").read_text()
    for name, value in dict(size="toy", d_model=32, max_seq_len=64, eval_tokens=2048, max_steps=10, data_dir=str(home / "data")).items():
        source, n = re.subn(rf"^{name} = \S+", f"{name} = {value!r}", source, count=1, flags=re.M)
        assert n == 1
    cells = [nbformat.v4.new_code_cell(text) for text in ("size = 'a name of the user\\'s'", source, source)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    first, again = ("".join(o.get("text", "") for o in cell.outputs) for cell in notebook.cells[1:])
    assert "step 10/10" in first and "sample: " in first and "finished already" in again


def readme_cells():
    """The Python of README's notebook section, cell by cell."""
    section = (HERE / "README.md").read_text(encoding="utf-8").split("## Notebooks and Colab")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.S)


def test_the_readmes_three_cells_prepare_train_and_generate_from_an_empty_folder_and_may_all_be_run_again(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    sources = [(HERE / name).read_text() for name in ("prepare.py", "train.py")]
    for name, value in dict(size="toy", d_model=32, max_seq_len=64, eval_tokens=2048, max_steps=10).items():
        sources[1], n = re.subn(rf"^{name} = \S+", f"{name} = {value!r}", sources[1], count=1, flags=re.M)
        assert n == 1
    generate, = (cell for cell in readme_cells() if "model.generate" in cell)
    assert len(generate.splitlines()) == 3
    generate = generate.replace("python-tiny", "python-toy")
    cells = [nbformat.v4.new_code_cell(text) for text in (*sources, generate) * 2]  # run all, and run all again
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    prepared, trained, text, refused, finished, again = (
        "".join(o.get("text", "") for o in cell.outputs) for cell in notebook.cells)
    assert "data/python is ready" in prepared and "data/python is there already" in refused
    assert "step 10/10" in trained and "finished already" in finished
    assert len(text) > 30 and text == again


# ----------------------------------------------------------------------------------------------------------------
# Bad input

def test_the_command_line_ends_with_status_2_and_one_line(home):
    done = python("train.py", "--size=smal", cwd=home)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_a_token_past_the_vocabulary_and_a_torn_dataset_are_named(home, tmp_path, monkeypatch):
    shutil.copytree(home / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    tokens = np.memmap("data/python/train.bin", "<u2", mode="r+")
    tokens[:] = 60_000
    tokens.flush()
    with pytest.raises(UserError, match="token id 60000"):
        train(**SMALL_RUN, max_steps=2)
    with open("data/python/val.bin", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(UserError, match="val.bin"):
        train(**SMALL_RUN, max_steps=2)
    Path("data/python/meta.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        train(**SMALL_RUN, max_steps=2)


def test_help_tells_every_setting_with_its_comment(home):
    text = run("train.py", "--help", cwd=home).stdout
    for name in T.SETTINGS:
        assert re.search(rf"^--{name}=\S+ +# \w", text, re.M), name
    assert "vanish" not in text and "peak learning rate" in text


def test_settings_in_the_file_and_in_the_table_are_the_same():
    source = (HERE / "train.py").read_text().split("# ---- Settings")[1].split("KINDS = ")[0]
    assert re.findall(r"^(\w+) = .*?  # ", source, re.M) and set(re.findall(r"^(\w+) = .*?  # ", source, re.M)) == set(T.SETTINGS)


# -----------------------------------------------------------------------------------------------------------------
# gpt.py and sample.py

@pytest.mark.parametrize("script", ["gpt.py", "sample.py"])
def test_a_mistake_is_one_line_on_stderr_and_exit_status_2(tmp_path, script):
    result = python(script, "--sede=1", cwd=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("error: unknown flag --sede") and result.stderr.count("\n") == 1


def write_dataset(folder, name, text, tokens):
    """A dataset as DESIGN.md describes it: `tokens` are single bytes or the UTF-8 of single characters."""
    pieces = [bytes([b]) for b in text.encode()] if name == "bpe" else [c.encode() for c in text]
    ids, cut = np.array([tokens.index(piece) for piece in pieces], "<u2"), len(pieces) * 9 // 10
    os.makedirs(folder)
    splits = {}
    for split, part in (("train", ids[:cut]), ("val", ids[cut:])):
        part.tofile(os.path.join(folder, f"{split}.bin"))
        splits[split] = {"tokens": len(part), "bytes": len(part), "documents": 1, "crc32": zlib.crc32(part.tobytes())}
    spec = {"name": name, "pattern": "(?s:.)", "tokens": [base64.b64encode(token).decode() for token in tokens]}
    with open(os.path.join(folder, "meta.json"), "w") as file:
        json.dump({"format": 1, "dtype": "uint16", "vocab_size": len(tokens) + 1, "tokenizer": spec, "splits": splits,
                   "source": "os.py"}, file)


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A folder where train.py has made out/bytes, then out/chars: small models of one file of the standard library."""
    cwd = tmp_path_factory.mktemp("runs")
    with open(os.path.join(sysconfig.get_paths()["stdlib"], "textwrap.py"), encoding="utf-8") as file:
        text = file.read()
    write_dataset(cwd / "data" / "bytes", "bpe", text, BYTES)
    write_dataset(cwd / "data" / "chars", "char", text, sorted({c.encode() for c in text}))
    for name in ("bytes", "chars"):
        result = python("train.py", "--size=toy", "--d_model=32", "--max_seq_len=64", "--max_steps=20", "--device=cpu",
                        f"--dataset={name}", f"--out_dir=out/{name}", cwd=cwd)
        assert result.returncode == 0, result.stderr
    return cwd


@pytest.fixture
def call(runs, monkeypatch, capsys):
    """call(script, *flags): what gpt or sample, run in this process and in the folder of runs, prints: .out, .err"""
    def call(script, *flags):
        monkeypatch.chdir(runs)
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "argv", [script.__file__, *map(str, flags)])
        try:
            script.main()
        except SystemExit as done:  # --help
            assert done.code == 0
        return capsys.readouterr()
    return call


@pytest.mark.parametrize("script", ["train.py", "gpt.py", "sample.py"])
def test_ctrl_c_while_torch_is_being_imported_is_no_traceback(tmp_path, script):
    (tmp_path / "torch.py").write_text("import time; print('importing', flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, HERE / script], env=ENV | {"PYTHONPATH": str(tmp_path)},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == -signal.SIGINT and process.stderr.read() == b""


# -----------------------------------------------------------------------------------------------------------------
# gpt.py: the sizes on paper.

def table_of(printed):
    """The figures that gpt.py printed: a dict from labels to lists of the words beside them."""
    return {line[:44].strip(): line[44:].split() for line in printed.splitlines()}


def test_medium_at_32000_untied_counts_as_the_contract_says():
    config = replace(MEDIUM, vocab_size=32_000, max_seq_len=512, tie_weights=False)
    with torch.device("meta"):
        assert sum(p.numel() for p in GPT(config).parameters()) == 134_601_216
    table = gpt.describe("medium", config, mfu=0.4)
    assert table["  total"] == "134,601,216" and table["  head"] == f"{32_000 * 768:,}"


def test_the_printed_counts_are_those_of_models_with_weights(tmp_path):
    table = table_of(run("gpt.py", cwd=tmp_path).stdout)
    for i, config in enumerate((TOY, TINY, SMALL, MEDIUM)):
        model = GPT(config)
        total = sum(p.numel() for p in model.parameters())
        assert table["total"][i] == f"{total:,}"
        assert table["MLP"][i] == f"{sum(p.numel() for block in model.blocks for p in block.mlp.parameters()):,}"
        embeddings = model.tok_emb.weight.numel() + model.pos_emb.weight.numel()
        assert table["without embeddings"][i] == f"{total - embeddings:,}"


def test_the_table_fits_120_columns_and_the_help_a_screen(call):
    table = call(gpt).out
    assert all(name in table for name in ("toy", "tiny", "small", "medium", "T4", "A100", "H200"))
    assert max(map(len, table.splitlines())) <= 120
    for script in (gpt, sample):
        assert 10 < len(call(script, "--help").out.splitlines()) <= 40


@pytest.mark.parametrize("half", [True, False], ids=["half", "float32"])
@pytest.mark.parametrize("config", [TOY, TINY, SMALL], ids=["toy", "tiny", "small"])
def test_the_activations_on_paper_are_what_autograd_keeps(config, half):
    model, kept = GPT(config), {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor):  # tensors are kept alive, so that no address is used twice
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def bytes_kept(grad_checkpoint):
        kept.clear()
        model.grad_checkpoint = grad_checkpoint
        ids = torch.randint(config.vocab_size, (2, config.max_seq_len + 1))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = model(ids[:, :-1], ids[:, 1:])
        n_bytes = sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in weights)
        loss.backward()
        matrices = model.parameters() if not grad_checkpoint else model.head.parameters()
        copies = 2 * sum(p.numel() for p in matrices if p.dim() == 2 and p is not model.pos_emb.weight) if half else 0
        return (n_bytes - copies) / (2 * config.max_seq_len)  # the half copies of the matrices belong to no token

    for grad_checkpoint in (False, True):
        on_paper = gpt.activation_bytes(config, half, grad_checkpoint)[0]
        assert on_paper == pytest.approx(bytes_kept(grad_checkpoint), rel=0.01)


def peak_bytes(function):
    """The most memory that torch's tensors take on the CPU during function(), above what they took before it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    taken = np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
    return taken.max()


@pytest.mark.parametrize("grad_checkpoint", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("size, optimizer", [("toy", "adamw"), ("toy", "muon"), ("tiny", "adamw"), ("tiny", "muon")])
def test_the_memory_on_paper_is_what_training_takes(home, tmp_path, monkeypatch, size, optimizer, dtype, grad_checkpoint):
    monkeypatch.chdir(home)
    monkeypatch.setattr(T, "fit_memory", lambda *everything: None)  # whose own room is not what is meant here
    measured = peak_bytes(lambda: train(
        size=size, optimizer=optimizer, dtype=dtype, grad_checkpoint=grad_checkpoint, device="cpu", batch_size=2,
        grad_accum_steps=2, max_steps=2, eval_interval=9, eval_tokens=512, out_dir=tmp_path))
    with torch.device("meta"):
        model = GPT(T.SIZES[size])
    on_paper = gpt.training_bytes(model, 2, optimizer, dtype == "bfloat16", grad_checkpoint)
    print(f"{size} {optimizer} {dtype} {grad_checkpoint}: {sum(on_paper.values()) / measured - 1:+.1%}")
    assert sum(on_paper.values()) == pytest.approx(measured, rel=0.15)


@slow
def test_slow_gradient_checkpointing_saves_memory_for_less_than_half_more_time():
    """Prints scaling.md's table: alternating passes over 2,048 tokens, and the peak of all tensors beside gpt.py's sum."""
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count())
    for size, rounds in (("tiny", 9), ("small", 7), ("medium", 5)):
        config, seconds, memory = T.SIZES[size], {False: [], True: []}, []
        model, sequences = GPT(config), 2048 // config.max_seq_len
        optimizers = T.make_optimizers(model, SimpleNamespace(optimizer="muon", weight_decay=0.1, zero=False)).values()
        ids = torch.randint(config.vocab_size, (sequences, config.max_seq_len + 1))

        def work(half=False, grad_checkpoint=False):
            model.grad_checkpoint = grad_checkpoint
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = model(ids[:, :-1], ids[:, 1:])
            loss.backward()

        def step(*how):
            work(*how)
            for optimizer in optimizers:
                optimizer.step()

        step()  # gradients and moments are there from now on
        for _ in range(rounds):
            for how in (False, True):
                start = time.perf_counter()
                work(False, how)
                seconds[how].append(time.perf_counter() - start)
        for half in (False, True):
            for how in (False, True):
                on_paper = gpt.training_bytes(model, sequences, "muon", half, how)
                moments = on_paper["the optimizer's moments, float32"]
                measured = peak_bytes(lambda: step(half, how)) + 8 * T.count(model) + moments
                memory.append(f"{measured / 1e6:,.0f} MB ({sum(on_paper.values()) / measured - 1:+.1%})")
                assert sum(on_paper.values()) == pytest.approx(measured, rel=0.15)
        ratios = sorted(b / a for a, b in zip(*seconds.values()))
        median = [f"{np.median(seconds[how]):.2f}" for how in (False, True)]
        print(f"| {size}, {sequences} x {config.max_seq_len:,} | {' | '.join(median)} | {np.median(ratios):.2f} "
              f"({ratios[0]:.2f} to {ratios[-1]:.2f}) | {' | '.join(memory)} |", flush=True)
        assert np.median(ratios) < 1.5
    torch.set_num_threads(threads)


def test_the_largest_micro_batch_fits_and_the_next_does_not(call):
    with torch.device("meta"):
        model = GPT(MEDIUM)
    for grad_checkpoint in (False, True):
        n = gpt.largest_micro_batch(model, 128, 16e9, grad_checkpoint=grad_checkpoint)
        need = [sum(gpt.training_bytes(model, k, grad_checkpoint=grad_checkpoint).values()) for k in (n, 2 * n)]
        assert 128 % n == 0 and need[0] <= 16e9 and (need[1] > 16e9 or n == 128)
    assert gpt.largest_micro_batch(model, 128, 1e9) == 0
    table = table_of(call(gpt, "--size=medium", "--gpu=T4").out)
    small, large = (int(table[label][0]) for label in ("largest micro-batch on one T4 (16 GB)", "with --grad_checkpoint"))
    assert 1 <= small < large <= 128
    assert int(table_of(call(gpt, "--size=medium", "--dtype=float32").out)["largest micro-batch on one T4 (16 GB)"][0]) < small


def test_a_size_of_ones_own_takes_the_flags(call):
    printed = call(gpt, "--size=small", "--vocab_size=32000", "--tie_weights=False", "--bias=false", "--d_model=512",
                   "--max_seq_len=256", "--n_heads=8", "--n_layers=4", "--mfu=0.25").out
    table = table_of(printed)
    assert table["layers x width, heads"] == ["4", "x", "512,", "8"]
    assert table["vocabulary, context"] == ["32,000,", "256"]
    assert table["token embeddings"] == table["head"] == [f"{32_000 * 512:,}"]
    n_params = (2 * 32_000 + 256 + 4 * (12 * 512 + 2) + 1) * 512  # 12 d x d matrices and 2 LayerNorms a block
    assert table["total"] == [f"{n_params:,}"]
    blocks = 4 * 12 * 512**2  # weights of the matrices in four blocks: 3 + 1 in attention, 4 + 4 in the MLP
    assert table["the optimizer's moments, float32"] == [f"{(8 * n_params - 4 * blocks) / 1e6:,.1f}"]
    flops = 6 * (n_params - (32_000 + 256) * 512) + 12 * 4 * 512 * 256  # a token
    assert table["training FLOPs a token"] == [f"{flops / 1e6:,.1f}", "M"] and "25% of a card's peak" in printed
    hours = flops * 20 * n_params / (0.25 * 312e12) / 3600
    assert table["A100: 312 TFLOP/s, $1.80 an hour"] == [f"{60 * hours:,.1f}", "min,", f"${1.8 * hours:,.2f}"]
    assert "MassiveText" in printed and "Besiroglu" in printed


def test_the_law_of_hoffmann_gives_the_papers_loss_of_chinchilla():
    assert gpt.predict_loss(70e9, 1.4e12) == pytest.approx(1.69 + 0.0834 + 0.1631, abs=1e-3)


# -----------------------------------------------------------------------------------------------------------------
# gpt.py: load and the tokenizer.

def test_load_gives_the_trained_model_and_its_tokenizer(runs):
    model, tokenizer = load(runs / "out" / "bytes")
    assert not model.training and model.head.weight is model.tok_emb.weight and tokenizer.endoftext == 256
    weights = T.load_checkpoint(str(runs / "out" / "bytes" / "best.pt"))["model"]
    assert all(torch.equal(p, weights[name]) for name, p in model.state_dict().items())
    assert tokenizer.decode(tokenizer.encode("naïve 文字<|endoftext|>")) == "naïve 文字<|endoftext|>"
    model(torch.tensor([[1, 2]]), torch.tensor([[2, 3]])).backward()  # it can be trained on
    assert sum(p.numel() for p in model.parameters()) == len(weights["tok_emb.weight"]) * 32 + sum(
        w.numel() for name, w in weights.items() if name not in ("tok_emb.weight", "head.weight"))


def test_a_run_stands_for_its_best_weights_then_its_latest_and_a_folder_of_runs_for_the_newest(tmp_path):
    for time_written, folder in ((1e9, tmp_path / "b"), (2e9, tmp_path / "a")):
        folder.mkdir()
        for name in ("ckpt_prev.pt", "ckpt.pt", "best.pt"):  # each is taken before those that are there already
            (folder / name).touch()
            os.utime(folder / name, (time_written, time_written))
            for path in (folder, folder / name, tmp_path):
                assert gpt.checkpoint_file(str(path)) == str(folder / name)
    os.utime(tmp_path / "b" / "ckpt.pt", (3e9, 3e9))  # a run is as new as its latest file
    assert gpt.checkpoint_file(tmp_path) == str(tmp_path / "b" / "best.pt")


def test_load_reads_a_file_with_fields_missing_and_fields_unknown(runs, tmp_path):
    checkpoint = T.load_checkpoint(str(runs / "out" / "bytes" / "ckpt.pt"))
    for name in ("mlp_ratio", "bias", "dropout"):
        del checkpoint["config"][name]
    checkpoint["config"]["rotary"] = False
    torch.save({name: checkpoint[name] for name in ("format", "model", "config", "tokenizer")}, tmp_path / "old.pt")
    load(tmp_path / "old.pt")


@pytest.mark.parametrize("claim", [{"d_model": 2**40, "n_heads": 1}, {"n_layers": 10**12}, {"n_heads": 0},
                                   {"d_model": "32"}, {"vocab_size": 10**15}, {"max_seq_len": None}, {"d_model": -32}])
def test_a_file_that_claims_another_model_than_it_holds_is_refused_at_once(runs, tmp_path, claim):
    checkpoint = T.load_checkpoint(str(runs / "out" / "bytes" / "best.pt"))
    checkpoint["config"] |= claim
    torch.save(checkpoint, tmp_path / "claims.pt")
    started = time.monotonic()
    with pytest.raises(UserError, match="claims.pt"):
        load(tmp_path / "claims.pt")
    assert time.monotonic() - started < 5


def test_a_small_file_that_stretches_a_number_to_a_trillion_weights_is_refused_at_once(runs, tmp_path):
    checkpoint = T.load_checkpoint(str(runs / "out" / "bytes" / "best.pt"))
    config = GPTConfig(vocab_size=10**6, d_model=10**6, n_heads=1, n_layers=1)
    with torch.device("meta"):
        names = {name: p.shape for name, p in GPT(config).state_dict().items()}
    weights = {name: torch.zeros(1).expand(shape) for name, shape in names.items()}
    torch.save(checkpoint | {"config": vars(config), "model": weights}, tmp_path / "claims.pt")
    assert os.path.getsize(tmp_path / "claims.pt") < 100_000
    started = time.monotonic()
    with pytest.raises(UserError, match="claims.pt does not hold the model"):
        load(tmp_path / "claims.pt")
    assert time.monotonic() - started < 1


def test_decode_takes_any_ids(runs):
    for name in ("bytes", "chars"):
        _, tokenizer = load(runs / "out" / name)
        tokenizer.decode(range(tokenizer.endoftext + 1))
        assert tokenizer.decode([-1, 10**9, 2**70]) == "\ufffd" * 3 and tokenizer.decode([]) == ""
        assert tokenizer.decode(torch.tensor([tokenizer.endoftext])) == "<|endoftext|>"


def test_a_char_tokenizer_names_the_character_that_it_does_not_know(runs):
    _, tokenizer = load(runs / "out" / "chars")
    assert tokenizer.decode(tokenizer.encode("def f():<|endoftext|>\n")) == "def f():<|endoftext|>\n"
    for unknown, code in (("文", "U+6587"), ("\x07", "U+0007"), ("\ud800", "U+D800")):
        with pytest.raises(UserError) as error:
            tokenizer.encode("def " + unknown)
        assert code in str(error.value) and repr(unknown) in str(error.value)


TEXTS = ("All human beings are born free and equal.", "Todos os seres humanos nascem livres e iguais.",
         "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι.", "Все люди рождаются свободными.", "يولد جميع الناس أحرارًا",
         "सभी मनुष्यों को जन्मजात स्वतन्त्रता है।", "人人生而自由,在尊严和权利上一律平等。", "すべての人間は、生まれながらにして自由である。",
         "모든 인간은 태어날 때부터 자유로우며", "👩‍👩‍👧 \t\r\n\x00 \u200b end", (HERE / "train.py").read_text())


def test_text_of_any_script_comes_back_from_its_tokens(home):
    tokenizer = gpt.Tokenizer(json.loads((home / "data/python/meta.json").read_text())["tokenizer"])
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text


# -----------------------------------------------------------------------------------------------------------------
# gpt.py: Hugging Face's files

CODE_POINTS = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x20000)]))
TRICKY = (*TEXTS, "", " ", "a \n\n\n  b\t\t", "  x = 1\r\n\r\n\x85\u2028\u3000 y  ", f"{EOT}a{EOT}{EOT} b\n{EOT}\n", CODE_POINTS)


@pytest.fixture(scope="session")
def transformers():
    """The package, if it is there, without its progress bars and warnings on long texts."""
    package = pytest.importorskip("transformers")
    package.logging.set_verbosity_error()
    package.logging.disable_progress_bar()
    return package


@torch.no_grad()
def assert_same_in_transformers(transformers, run, folder):
    """An exported folder opens in transformers as what gpt.load gives: logits, tokens, greedy text, special ids."""
    (ours, tokenizer), end = load(run), load(run)[1].endoftext
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text in TRICKY:
        ids = tokenizer.encode(text)
        assert their_tokenizer(text)["input_ids"] == ids and their_tokenizer.decode(ids) == text
    assert {end} == {their_tokenizer.eos_token_id, their_tokenizer.bos_token_id, theirs.config.bos_token_id,
                     theirs.generation_config.eos_token_id} and len(their_tokenizer) == end + 1
    ids = torch.randint(end, (3, 32), generator=torch.Generator().manual_seed(0))
    text = [int(token) for token in ours.generate(ids[:1], 24, temperature=0)]
    assert end not in text and theirs.generate(ids[:1], max_new_tokens=24, do_sample=False)[0, 32:].tolist() == text
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        a, b = ours.to(dtype)(ids), theirs.to(dtype)(ids).logits
        assert a.shape == b.shape and (a - b).abs().max() < tolerance * max(1, b.abs().max())
    theirs.transformer.ln_f.weight.zero_(), theirs.transformer.ln_f.bias.fill_(1)
    theirs.lm_head.weight[end] = 9  # now <|endoftext|> is the likeliest: a text ends at it
    assert theirs.generate(ids[:1], max_new_tokens=24, do_sample=False)[0, 32:].tolist() == [end]


def test_an_exported_run_is_the_same_in_transformers(home, tmp_path, transformers):
    train(**SMALL_RUN, max_steps=10, dropout=0.1, data_dir=home / "data", out_dir=tmp_path / "run")
    printed = run("gpt.py", f"--export={tmp_path / 'new' / 'export'}", tmp_path / "run", cwd=tmp_path).stdout
    assert printed.startswith(str(tmp_path / "new" / "export")) and printed.count("\n") == 1
    assert json.loads((tmp_path / "new" / "export" / "config.json").read_text())["resid_pdrop"] == 0.1
    assert_same_in_transformers(transformers, tmp_path / "run", tmp_path / "new" / "export")


def checkpoint_of(path, tokens, **shape):
    """A .pt file of a model with random weights, far from the first ones, and a tokenizer of GPT-2's words."""
    torch.manual_seed(0)
    model = GPT(replace(TOY, vocab_size=len(tokens) + 1, d_model=32, max_seq_len=64, **shape))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape), alpha=0.1)
    spec = {"name": "bpe", "pattern": GPT2_PATTERN, "tokens": [base64.b64encode(token).decode() for token in tokens]}
    torch.save({"format": 1, "model": model.state_dict(), "config": vars(model.config), "tokenizer": spec}, path)
    return path


@pytest.mark.parametrize("shape", [{"tie_weights": False}, {"bias": False}, {"tie_weights": False, "bias": False, "mlp_ratio": 2}],
                         ids=lambda shape: "-".join(shape))
def test_an_exported_model_of_another_shape_is_the_same_in_transformers(home, tmp_path, transformers, shape):
    spec = json.loads((home / "data" / "python" / "meta.json").read_text())["tokenizer"]
    path = checkpoint_of(tmp_path / "shape.pt", list(map(base64.b64decode, spec["tokens"])), **shape)
    gpt.export(path, tmp_path / "export")
    assert_same_in_transformers(transformers, path, tmp_path / "export")


def test_a_vocabulary_of_32000_is_exported_with_its_merges(tmp_path, transformers):
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    tokens = train_bpe([path.read_text(encoding="utf-8", errors="ignore") for path in paths], 31_999)
    path = checkpoint_of(tmp_path / "32000.pt", tokens)
    gpt.export(path, tmp_path / "export")
    assert len((tmp_path / "export" / "merges.txt").read_text(encoding="utf-8").splitlines()) == 1 + 31_999 - 256
    assert_same_in_transformers(transformers, path, tmp_path / "export")


def test_the_merges_are_those_of_the_trainer():
    """As training leaves them: each pair that a naive trainer merged, where several splits of a token are tokens."""
    texts = ["".join(random.Random(seed).choices("ab", k=400)) for seed in range(3)]
    tokens = naive_bpe(texts, 320)
    spelled = [token.decode("latin-1").translate(gpt.ALPHABET) for token in tokens]
    merges = [merge.split(" ") for merge in gpt.merges_of(spelled)]
    assert ["".join(merge) for merge in merges] == spelled[256:]
    several = 0
    for merge, token in zip(merges, spelled[256:]):
        lower = spelled[:spelled.index(token)]
        encoding = tiktoken.Encoding("x", pat_str="(?s:.+)", special_tokens={}, mergeable_ranks={t: i for i, t in
                                     enumerate(tokens[:len(lower)])})
        assert [spelled[i] for i in encoding.encode(token)] == merge
        several += sum(token[:i] in lower and token[i:] in lower for i in range(1, len(token))) > 1
    assert several > 10


def test_nothing_is_written_over_and_what_cannot_be_exported_is_told(runs, tmp_path, monkeypatch):
    assert "char tokenizer" in complaint(gpt, [f"--export={tmp_path / 'x'}", "out/chars"], monkeypatch, runs)
    path = checkpoint_of(tmp_path / "bytes.pt", BYTES)
    for taken in (tmp_path, path):
        assert taken.name in complaint(gpt, [f"--export={taken}", str(path)], monkeypatch, runs)
    assert not (tmp_path / "x").exists() and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "empty").mkdir()
    gpt.export(path, tmp_path / "empty")
    assert "is not empty" in complaint(gpt, [f"--import={tmp_path / 'empty'}", "out/bytes"], monkeypatch, runs)


def gpt2_folder(transformers, folder, text, end_first=False, tokenizer_json=True, file="model.safetensors", prefix=True,
                dtype=torch.float32, rows=0, **config):
    """A random GPT-2 of transformers and a tokenizer trained by tokenizers, in a folder as they or older ones keep them."""
    tokenizers = pytest.importorskip("tokenizers")
    bpe = tokenizers.ByteLevelBPETokenizer()
    bpe.train_from_iterator([text], vocab_size=500, special_tokens=[EOT] if end_first else [])
    bpe.add_special_tokens([EOT])
    folder.mkdir()
    bpe.save_model(str(folder))
    if not end_first:  # the last id, which is not among what the trainer saves
        vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        (folder / "vocab.json").write_text(json.dumps(vocab | {EOT: len(vocab)}), encoding="utf-8")
    if tokenizer_json:
        whole = transformers.GPT2Tokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
        whole.save_pretrained(folder)
        (folder / "vocab.json").unlink(), (folder / "merges.txt").unlink()
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**{
        "vocab_size": bpe.get_vocab_size() + rows, "n_positions": 64, "n_embd": 32, "n_head": 4, "n_layer": 2} | config))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape), alpha=0.1)
    model.to(dtype).save_pretrained(folder)
    if file != "model.safetensors":
        (folder / "model.safetensors").unlink()
        weights = {name if prefix else name.removeprefix("transformer."): p for name, p in model.state_dict().items()}
        buffers = {f"h.{i}.attn.{name}": torch.ones(1, 1, 64, 64) for i in range(2) for name in ("bias", "masked_bias")}
        torch.save(weights | buffers, folder / file, _use_new_zipfile_serialization=prefix)
    return model.float().eval(), bpe


@pytest.mark.parametrize("how", [{}, {"end_first": True, "tie_word_embeddings": False, "n_inner": 64},
                                 {"file": "pytorch_model.bin", "tokenizer_json": False},
                                 {"file": "pytorch_model.bin", "tokenizer_json": False, "prefix": False, "rows": 9},
                                 {"dtype": torch.float16}, {"dtype": torch.bfloat16}], ids=lambda how: "-".join(how) or "new")
def test_an_imported_gpt2_is_the_same_here(transformers, tmp_path, how):
    theirs, bpe = gpt2_folder(transformers, tmp_path / "theirs", TEXTS[-1], **how)
    config = gpt.import_gpt2(tmp_path / "theirs", tmp_path / "run")
    ours, tokenizer = load(tmp_path / "run")
    assert ours.config == config and config.mlp_ratio == how.get("n_inner", 128) // 32
    assert tokenizer.endoftext == config.vocab_size - 1 == bpe.get_vocab_size() - 1
    meta = json.loads((tmp_path / "run" / "meta.json").read_text())["tokenizer"]
    spelled = [base64.b64decode(token).decode("latin-1").translate(gpt.ALPHABET) for token in meta["tokens"]] + [EOT]
    their_ids = torch.tensor([bpe.token_to_id(token) for token in spelled])
    for text in TRICKY:
        ids = tokenizer.encode(text)
        assert their_ids[ids].tolist() == bpe.encode(text).ids and tokenizer.decode(ids) == text
    ids = torch.randint(config.vocab_size, (3, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, b = ours(ids), theirs(their_ids[ids]).logits[..., their_ids]
    assert (a - b).abs().max() < 1e-5 * max(1, b.abs().max())


def test_an_imported_gpt2_is_sampled_finetuned_and_exported_again(transformers, home, tmp_path, monkeypatch):
    (tmp_path / "my.txt").write_text(STORY * 100, encoding="utf-8")
    theirs, _ = gpt2_folder(transformers, tmp_path / "theirs", STORY * 9 + TEXTS[-1])
    lines = run("gpt.py", "--import=theirs", "out/gpt2", cwd=tmp_path).stdout.splitlines()
    assert lines[0].startswith("out/gpt2 is ready: python sample.py out/gpt2") and len(lines) == 3
    assert run("sample.py", "out/gpt2", "--prompt=One day", "--max_new_tokens=9", cwd=tmp_path).stdout.startswith("One day")
    run(*shlex.split(lines[1])[1:], cwd=tmp_path)  # the commands that it printed
    fast = flags(device="cpu", eval_tokens=2048, batch_size=8, grad_accum_steps=1, out_dir="out/fine")
    started = run(*shlex.split(lines[2])[1:], *fast, "--max_steps=3", cwd=tmp_path).stdout
    assert "step 3/3" in started and rows(tmp_path / "out" / "fine")[-1]["step"] == "3"

    val = np.fromfile(tmp_path / "data" / "my-gpt2" / "val.bin", "<u2").astype(np.int64)
    windows = torch.from_numpy(val[:(len(val) - 1) // 64 * 64 + 1])
    batch = torch.stack([windows[i:i + 65] for i in range(0, len(windows) - 1, 64)])[:32]  # 2,048 tokens
    with torch.no_grad():
        logits = theirs(batch[:, :-1]).logits
    first = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).item()
    assert float(rows(tmp_path / "out" / "fine")[0]["val_loss"]) == pytest.approx(first, abs=1e-5)  # it began as theirs

    run("gpt.py", "--export=again", "out/fine", cwd=tmp_path)
    assert_same_in_transformers(transformers, tmp_path / "out" / "fine", tmp_path / "again")
    shape = dict(size="toy", d_model=32, max_seq_len=64, data_dir=tmp_path / "data", device="cpu")
    with pytest.raises(UserError, match="gpt2 holds a run that cannot be resumed"):
        train(**shape, dataset="my-gpt2", out_dir=tmp_path / "out" / "gpt2")
    with pytest.raises(UserError, match="is another model: vocab_size.*the tokenizer's checksum was"):
        train(**SMALL_RUN, data_dir=home / "data", out_dir=tmp_path / "other", init_from=tmp_path / "out" / "gpt2")


def test_what_was_exported_and_imported_is_the_same_checkpoint_and_trains_on_the_same_data(home, tmp_path):
    given = dict(SMALL_RUN, data_dir=home / "data", max_steps=2)
    train(**given, out_dir=tmp_path / "run")
    gpt.export(tmp_path / "run", tmp_path / "export")
    gpt.import_gpt2(tmp_path / "export", tmp_path / "back")
    first, back = (T.load_checkpoint(tmp_path / name / "best.pt") for name in ("run", "back"))
    assert all(same(first[key], back[key]) for key in ("model", "tokenizer", "config"))
    train(**given, init_from=tmp_path / "back", out_dir=tmp_path / "fine")


def test_an_imported_gpt2_has_to_the_letter_the_tokenizer_that_prepare_gives_gpt2(transformers, tmp_path, monkeypatch):
    """As tiktoken's gpt2 is a download, with a stand-in of its size, in GPT-2's order of bytes and spelling of them."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]  # Radford et al. 2019: printable, shown as themselves
    order = own + [byte for byte in range(256) if byte not in own]
    spelling = {byte: chr(byte) if i < len(own) else chr(256 + i - len(own)) for i, byte in enumerate(order)}
    pairs = [(left, right) for left in order for right in order][:50_000]
    tokens = [bytes([byte]) for byte in order] + [bytes(pair) for pair in pairs]
    stand_in = tiktoken.Encoding("gpt2", pat_str=GPT2_PATTERN, special_tokens={EOT: 50256},
                                 mergeable_ranks={token: rank for rank, token in enumerate(tokens)})
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: stand_in)
    (tmp_path / "my.txt").write_text(STORY * 40)
    prepare.prepare(input=tmp_path / "my.txt", tokenizer="gpt2", data_dir=tmp_path)

    config = transformers.GPT2Config(n_positions=64, n_embd=8, n_head=2, n_layer=1)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "theirs")
    vocab = {"".join(spelling[byte] for byte in token): rank for rank, token in enumerate(tokens)} | {EOT: 50256}
    (tmp_path / "theirs" / "vocab.json").write_text(json.dumps(vocab))
    lines = ["#version: 0.2"] + [" ".join(spelling[byte] for byte in pair) for pair in pairs]
    (tmp_path / "theirs" / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    gpt.import_gpt2(tmp_path / "theirs", tmp_path / "gpt2")
    specs = [json.loads((tmp_path / name / "meta.json").read_text())["tokenizer"] for name in ("my", "gpt2")]
    assert json.dumps(specs[0]) == json.dumps(specs[1]) and specs[0]["name"] == "gpt2" and gpt.GPT2_PATTERN == GPT2_PATTERN
    train(data_dir=tmp_path, dataset="my", out_dir=tmp_path / "fine", init_from=tmp_path / "gpt2", size="toy", d_model=8,
          n_heads=2, n_layers=1, max_seq_len=64, batch_size=2, grad_accum_steps=1, max_steps=1, eval_tokens=64, device="cpu")


def test_folders_that_hold_no_gpt2_are_one_line_and_nothing_is_made(transformers, tmp_path, monkeypatch):
    theirs = tmp_path / "theirs"
    gpt2_folder(transformers, theirs, STORY * 50)
    files = {path.name: path.read_bytes() for path in theirs.iterdir()}
    config, tokenizer = (json.loads(files[name]) for name in ("config.json", "tokenizer.json"))
    safe, (length,) = files["model.safetensors"], np.frombuffer(files["model.safetensors"][:8], "<u8")
    header, numbers = json.loads(safe[8:8 + int(length)]), safe[8 + int(length):]
    wte = "transformer.wte.weight"

    def weights(**changes):
        """model.safetensors with another header."""
        text = json.dumps(header | {wte: header[wte] | changes}).encode()
        return {"model.safetensors": len(text).to_bytes(8, "little") + text + numbers}

    def settings(**changes):
        return {"config.json": json.dumps(config | changes).encode()}

    def words(**changes):
        return {"tokenizer.json": json.dumps(tokenizer | changes).encode()}

    def model(**changes):
        return words(model=tokenizer["model"] | changes)

    def saved(thing):
        torch.save(thing, tmp_path / "saved")
        return {"model.safetensors": None, "pytorch_model.bin": (tmp_path / "saved").read_bytes()}

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    big = {"transformer." * (name != "head.weight") + name: torch.zeros(1).expand(10**6, 10**6) for name in header}
    merges, vocab = tokenizer["model"]["merges"], tokenizer["model"]["vocab"]
    for changes, says in [
            ({"config.json": None}, "config.json"), ({"model.safetensors": None}, "pytorch_model.bin"),
            ({"tokenizer.json": None}, "merges.txt"), ({"config.json": b"{"}, "damaged"), ({"config.json": b"[]"}, "damaged"),
            ({"config.json": b"\xff"}, "damaged"), ({"config.json": b"{}"}, "damaged"), ({"config.json": b"[" * 10**5}, "damaged"),
            (settings(model_type="llama"), "holds no GPT-2 but a model with model_type llama"),
            (settings(activation_function="relu"), "activation_function relu"),
            (settings(scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx True"),
            (settings(scale_attn_weights=False), "scale_attn_weights False"), (settings(layer_norm_epsilon=1e-6), "1e-06"),
            (settings(add_cross_attention=True), "add_cross_attention"), (settings(model_type="a\nb\x1b[31m"), "model_type a b"),
            (settings(n_layer=3), "damaged"), (settings(n_layer=10**12), "damaged"), (settings(n_layer="2"), "damaged"),
            (settings(n_embd=2**40), "damaged"), (settings(n_head=0), "damaged"), (settings(n_head=5), "n_heads=5"),
            (settings(n_positions=10**9), "damaged"), (settings(n_inner=100), "damaged"), (settings(n_inner="x"), "damaged"),
            (settings(n_head=4.0), "damaged"), (settings(n_head=-4), "damaged"), (settings(tie_word_embeddings=False), "damaged"),
            (settings(tie_word_embeddings="\x1b[31m"), "damaged"),
            ({"tokenizer.json": b"{}"}, "damaged"), ({"tokenizer.json": b"5"}, "damaged"), (model(vocab=5), "damaged"),
            (model(merges=merges[:-1]), "tokenizer"), (model(merges=merges[::-1]), "tokenizer"),
            (model(merges=merges + merges[:1]), "tokenizer"), (model(merges=[[1, 2]]), "damaged"), (model(merges="x"), "tokenizer"),
            (model(vocab=vocab | {"<pad>": 500}), "tokenizer"), (model(vocab=dict(list(vocab.items())[1:])), "tokenizer"),
            (model(vocab=vocab | {list(vocab)[-2]: 10**6}), "damaged"), (words(pre_tokenizer=None), "damaged"),
            (words(pre_tokenizer={"type": "Whitespace"}), "tokenizer"), (words(normalizer={"type": "NFC"}), "tokenizer"),
            (words(pre_tokenizer=tokenizer["pre_tokenizer"] | {"add_prefix_space": True}), "tokenizer"),
            *[({"model.safetensors": safe[:n]}, "damaged") for n in (0, 4, 8, 100, int(length) + 8, len(safe) - 1)],
            *[({"model.safetensors": n.to_bytes(8, "little") + safe[8:]}, "damaged") for n in (0, 2**40, 2**63, 2**64 - 1)],
            ({"model.safetensors": b"\x02" + bytes(7) + b"[]"}, "damaged"),
            (weights(shape=[10**6, 10**6]), "damaged"), (weights(shape=[-1, 1]), "damaged"), (weights(dtype="I32"), "damaged"),
            (weights(data_offsets=[0, 10**15]), "damaged"), (weights(data_offsets=[-8, -4]), "damaged"),
            (weights(data_offsets="x"), "damaged"), (weights(data_offsets=None), "damaged"),
            (saved(big), "damaged"), (saved([1]), "damaged"), (saved({name: 1 for name in header}), "damaged"),
            (saved({wte: Bomb()}), "damaged"), ({"model.safetensors": None, "pytorch_model.bin": b"x"}, "damaged")]:
        for path in theirs.iterdir():
            path.unlink()
        for name, data in (files | changes).items():
            if data is not None:
                (theirs / name).write_bytes(data)
        started = time.monotonic()
        said = complaint(gpt, ["--import=theirs", "out"], monkeypatch, tmp_path)
        assert says in said and not set("\x1b\n") & set(said) and len(said) < 300, (said, list(changes))
        assert not (tmp_path / "out").exists() and not (tmp_path / "exploded").exists() and time.monotonic() - started < 5
    assert "none/config.json" in complaint(gpt, ["--import=none", "out"], monkeypatch, tmp_path)


def test_a_full_disk_is_one_line_from_export_and_import(tmp_path):
    path = checkpoint_of(tmp_path / "bytes.pt", BYTES)
    gpt.export(path, tmp_path / "export")
    for action in ([f"--export={tmp_path / 'a'}", path], [f"--import={tmp_path / 'export'}", tmp_path / "b"]):
        done = python("gpt.py", *action, cwd=tmp_path, preexec_fn=lambda: limit_files(10_000))
        last = done.stderr.splitlines()[-1]
        assert done.returncode == 2 and last.startswith("error: ") and "Traceback" not in done.stderr, done.stderr


# -----------------------------------------------------------------------------------------------------------------
# gpt.py: curves

def test_the_losses_of_runs_are_drawn_against_tokens_flops_and_seconds(runs, tmp_path, call):
    pytest.importorskip("matplotlib")
    assert str(tmp_path / "a.png") in call(gpt, "--plot", "out/bytes", "out/chars", f"--save={tmp_path / 'a.png'}").out
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    call(gpt, "--plot", "out/bytes/best.pt", f"--save={tmp_path / 'a.svg'}")
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    figure = gpt.plot(runs / "out" / "bytes", runs / "out" / "chars")
    assert [axis.get_xlabel() for axis in figure.axes] == ["training tokens", "training FLOPs", "training time, seconds"]
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["bytes", "chars"]
    log = rows(runs / "out" / "bytes")
    evals = [row for row in log if row["val_loss"] and int(row["step"])]  # on a logarithmic axis step 0 has no place
    flops = T.flops_per_token(load(runs / "out" / "bytes")[0])
    assert len(evals) < len(log)
    for axis, factor in zip(figure.axes[:2], (1, flops)):
        val, loss = axis.lines[:2]
        assert val.get_xdata().tolist() == [factor * float(row["tokens"]) for row in evals]
        assert val.get_ydata().tolist() == [float(row["val_loss"]) for row in evals] and len(loss.get_xdata()) == len(log)
        assert loss.get_alpha() < 0.5 and loss.get_color() == val.get_color() and val.get_marker() == "o"


def test_what_cannot_be_drawn_is_one_line(runs, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    shutil.copytree(runs / "out" / "bytes", tmp_path / "run")
    for file, says in (("loss.xyz", "'xyz' is not supported"), ("no/folder.png", "No such file")):
        assert says in complaint(gpt, ["--plot", "run", f"--save={file}"], monkeypatch, tmp_path)
    log = tmp_path / "run" / "log.csv"
    for data, says in ((b"tokens,flops\n1,2\n", "val_loss"), (b"a,b\n1\n1,2,3\n", "columns"), (b"\xff\n", "damaged")):
        log.write_bytes(data)
        assert str(log.relative_to(tmp_path)) in (said := complaint(gpt, ["--plot", "run"], monkeypatch, tmp_path)) and says in said
    log.unlink()
    assert "log.csv not found" in complaint(gpt, ["--plot", "run"], monkeypatch, tmp_path)


def test_the_law_that_runs_follow_is_found_again_from_their_logs(tmp_path, monkeypatch):
    for N, D in itertools.product((0.2, 0.5, 1, 3), (0.5, 1, 2, 8)):
        loss = 1.5 + 0.8 / N**0.3 + 1.9 / D**0.4
        (tmp_path / f"{N}-{D}.csv").write_text("step,tokens,loss,val_loss,seconds,flops\n0,0,9,9,1,0\n"
                                               f"1,{1e6 * D},{loss},{loss},2,{6e12 * N * D}\n2,{2e6 * D},1,,3,{1e13 * N * D}\n")
    monkeypatch.chdir(tmp_path)
    told = gpt.describe_fit(sorted(set(os.listdir()) - {"3-8.csv"}), ["3-8.csv"])
    assert told.startswith("loss = 1.50 + 0.80 / N^0.30 + 1.90 / D^0.40, off by 0.000 nats (root mean square of 15 runs)")
    assert re.search(r"^3-8 +3.00 +8.00 +2.902 +2.902 +[+-]0.000$", told, re.M)
    assert "--fit takes six runs" in complaint(gpt, ["--fit", "3-8.csv"], monkeypatch, tmp_path)


def test_runs_that_follow_no_law_and_logs_without_flops_are_one_line(tmp_path, monkeypatch):
    for i in range(6):
        (tmp_path / f"{i}.csv").write_text(f"tokens,loss,val_loss,seconds,flops\n{1e6 * (i + 1)},1,{1 + i},1,{1e13 * (i + 1)}\n")
        (tmp_path / f"{i}old.csv").write_text("tokens,loss,val_loss,seconds\n1,1,1,1\n")
        (tmp_path / f"{i}new.csv").write_text("tokens,loss,val_loss,seconds,flops\n0,9,9,1,0\n")
    for kind, says in (("", "follow no such law"), ("old", "0old.csv.*did not write flops yet"), ("new", "no eval but that of")):
        assert re.search(says, complaint(gpt, ["--fit", *(f"{i}{kind}.csv" for i in range(6))], monkeypatch, tmp_path))
    assert "--predict" in complaint(gpt, ["--predict=0.csv"], monkeypatch, tmp_path)


def test_without_matplotlib_one_line_says_how_to_get_it(monkeypatch, runs):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert "pip install matplotlib" in complaint(gpt, ["--plot", "out/bytes"], monkeypatch, runs)


# -----------------------------------------------------------------------------------------------------------------
# sample.py

def test_the_newest_run_writes_a_document(runs):
    done = run("sample.py", "--max_new_tokens=40", cwd=runs)
    assert 10 < len(done.stdout) <= 41 and "<|endoftext|>" not in done.stdout
    assert re.fullmatch(r"\n--- out.chars.best\.pt, [\d,]+ parameters on cpu, seed 1337\n", done.stderr)


def test_it_runs_from_any_folder_and_takes_the_newest_of_a_folder_of_runs(runs, tmp_path, call):
    away = run("sample.py", runs / "out", "--max_new_tokens=20", cwd=tmp_path).stdout
    assert away == call(sample, "out/chars", "--max_new_tokens=20").out == call(sample, "--max_new_tokens=20").out


def test_the_same_command_writes_the_same_text_and_each_sample_differs(call):
    prompt = ("out/bytes", "--prompt=import os", "--max_new_tokens=30")
    first = call(sample, *prompt, "--num_samples=3", "--seed=5").out
    assert first == call(sample, *prompt, "--num_samples=3", "--seed=5").out
    texts = [part.split("\n", 1)[1] for part in first.split("\n--- ")[1:]]
    assert len(set(texts)) == 3 and all(text.startswith("import os") for text in texts)
    assert call(sample, *prompt, "--seed=7").out == texts[2]  # sample i has seed + i


def test_several_models_continue_one_prompt_under_headings(call):
    printed = call(sample, "out/bytes", "--prompt=import os", "out/chars", "--max_new_tokens=9").out
    assert printed.index("out/bytes") < printed.index("out/chars") and printed.count("\nimport os") == 2


def test_greedy_text_is_what_generate_gives(runs, call):
    model, tokenizer = load(runs / "out" / "chars")
    ids = tokenizer.encode("import os")
    expected = tokenizer.decode([int(token) for token in model.generate(torch.tensor([ids]), 20, temperature=0)])
    for flag in ("--temperature=0", "--top_k=1", "--top_p=1e-6"):
        printed = call(sample, "out/chars", "--prompt=import os", flag, "--max_new_tokens=20").out
        assert printed == "import os" + expected.split("<|endoftext|>")[0] + "\n"


def test_a_prompt_comes_from_a_file_or_from_standard_input(runs, tmp_path, call):
    (tmp_path / "prompt.txt").write_text("import os\n", encoding="utf-8")
    expected = call(sample, "out/bytes", "--prompt=import os", "--max_new_tokens=5").out
    assert call(sample, "out/bytes", f"--prompt=FILE:{tmp_path / 'prompt.txt'}", "--max_new_tokens=5").out == expected
    done = python("sample.py", "out/bytes", "--prompt=-", "--max_new_tokens=5", cwd=runs, input="import os\n")
    assert done.stdout == expected


def test_prompts_become_a_table_of_80_columns(tmp_path, call):
    file = tmp_path / "prompts.txt"
    file.write_text("def wrap(self, text):\n\nA line of quite a few words, is it not\n", encoding="utf-8")
    lines = call(sample, "out/bytes", "out/chars", f"--prompts={file}", "--max_new_tokens=60").out.splitlines()
    assert lines[0].split() == ["prompt", "out/bytes/best.pt", "out/chars/best.pt"] and max(map(len, lines)) <= 80
    assert sum(line.startswith(("def wrap(self,", "A line of")) for line in lines) == 2


def test_a_prompt_longer_than_the_context_is_cut_to_its_end_with_a_warning(call):
    printed = call(sample, "out/bytes", "--prompt=" + "x" * 100 + "y" * 64, "--max_new_tokens=3")
    assert printed.err.startswith("warning: the prompt has 164 tokens") and printed.out.startswith("y" * 64)


def one_token_model(tmp_path, name, tokens, successor):
    """A checkpoint whose model answers token i by successor[i]: its blocks add nothing, so the head alone decides."""
    config = replace(TOY, vocab_size=len(tokens) + 1, d_model=len(tokens) + 1, n_heads=1, n_layers=1, max_seq_len=8,
                     tie_weights=False)
    weights = {key: torch.zeros_like(p) for key, p in GPT(config).state_dict().items()}
    weights["ln_f.weight"] += 1
    weights["tok_emb.weight"] = torch.eye(config.vocab_size)
    for token, following in successor.items():
        weights["head.weight"][following, token] = 1
    spec = {"name": "bpe", "pattern": "(?s:.)", "tokens": [base64.b64encode(token).decode() for token in tokens]}
    torch.save({"format": 1, "model": weights, "config": vars(config), "tokenizer": spec}, tmp_path / name)
    return str(tmp_path / name)


def test_a_character_is_shown_when_its_last_byte_has_come_and_the_text_ends_at_endoftext(tmp_path, call):
    euro = "€".encode()
    model = one_token_model(tmp_path, "euro.pt", BYTES,
                            {256: euro[0], euro[0]: euro[1], euro[1]: euro[2], euro[2]: ord("!"), ord("!"): 256})
    assert call(sample, model, "--temperature=0").out == "€!\n"
    assert call(sample, model, "--temperature=0", "--max_new_tokens=2").out == "\ufffd\n"


def test_a_models_text_cannot_steer_the_terminal(tmp_path, call):
    model = one_token_model(tmp_path, "escape.pt", BYTES, {256: 27, 27: ord("["), ord("["): 256})
    assert call(sample, model, "--temperature=0").out == "\ufffd[\n"
    assert call(sample, model, "--temperature=0", "--prompt=\x1b[").out == "\ufffd[\n"


@pytest.fixture
def endless_text(tmp_path):
    """sample.py writing the letter a until it is stopped."""
    model = one_token_model(tmp_path, "endless.pt", BYTES, {256: 97, 97: 97})
    command = [sys.executable, os.path.join(HERE, "sample.py"), model, "--temperature=0", "--max_new_tokens=1e9"]
    pipes = {"bufsize": 0, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, env=ENV, **pipes) as process:
        yield process
        process.kill()


def test_text_appears_as_it_is_written_and_ctrl_c_ends_it_cleanly(endless_text):
    assert 0 < len(endless_text.stdout.read(10_000)) < 1000  # a few letters, not a buffer full of them
    endless_text.send_signal(signal.SIGINT)
    assert endless_text.wait(60) == -signal.SIGINT
    assert endless_text.stderr.read().endswith(b"seed 1337\n")  # its heading, and no traceback


def test_a_reader_that_has_seen_enough_is_no_error(endless_text):
    endless_text.stdout.read(5)
    endless_text.stdout.close()
    assert endless_text.wait(60) == -signal.SIGPIPE  # as `cat` ends, by which a shell knows
    assert endless_text.stderr.read().endswith(b"seed 1337\n")


def test_without_a_run_it_says_how_to_make_one(tmp_path, monkeypatch):
    assert "python train.py" in complaint(sample, [], monkeypatch, tmp_path)


# -----------------------------------------------------------------------------------------------------------------
# Bad input, of every script: a command, and what its one line must name

BAD_COMMANDS = """
train --lrr=1                              did you mean --lr?
train --sise=toy                           did you mean --size?
train size=toy                             did you mean --size?
train minutes=1                            did you mean --minutes?
train toy                                  there is no setting toy
train --size=smal                          size must be toy, tiny, small or medium
train --size=                              size
train --optimizer=sgd                      optimizer
train --optimizer=                         optimizer
train --lr=abc                             lr must be a number above 0
train --lr                                 lr
train --lr=                                lr
train --lr=nan                             lr
train --lr=inf                             lr
train --lr=-1                              lr
train --lr=0                               lr
train --lr_scale=-1                        lr_scale
train --lr_scale=None2                     lr_scale
train --max_steps=1.5                      max_steps must be a whole number
train --max_steps=0                        max_steps
train --max_steps=-7                       max_steps
train --max_steps=1e30                     max_steps
train --minutes=0                          minutes
train --minutes=-1                         minutes
train --minutes=1 --max_steps=5            minutes and max_steps
train --stop_after=0                       stop_after
train --stop_after=soon                    stop_after
train --batch_size=-3                      batch_size
train --batch_size=5                       batch_size=5 does not divide the recipe's 32 sequences
train --batch_size=0                       batch_size
train --batch_size=1e12 --grad_accum_steps=1   batch_size
train --grad_accum_steps=7                 grad_accum_steps=7 does not divide the recipe's 32 sequences
train --grad_accum_steps=two               grad_accum_steps
train --grad_accum_steps=1e15              grad_accum_steps
train --d_model=None2                      d_model
train --d_model=0                          d_model
train --d_model=1e12                       d_model
train --d_model=-128                       d_model
train --n_heads=5                          not divisible by n_heads=5
train --n_heads=0                          n_heads
train --n_layers=1e9                       n_layers
train --n_layers=0                         n_layers
train --n_layers=2.5                       n_layers
train --max_seq_len=5000                   max_seq_len
train --max_seq_len=1e8                    max_seq_len
train --max_seq_len=-1                     max_seq_len
train --dropout=1                          dropout
train --dropout=-0.1                       dropout
train --dropout=nan                        dropout
train --bias=None                          bias must be True or False
train --bias=2                             bias
train --tie_weights=yes                    tie_weights
train --compile=1                          compile
train --overwrite=maybe                    overwrite
train --warmup_steps=-1                    warmup_steps
train --warmup_steps=1e99                  warmup_steps
train --weight_decay=-0.1                  weight_decay
train --weight_decay=inf                   weight_decay
train --grad_clip=-1                       grad_clip
train --grad_clip=nan                      grad_clip
train --seed=-1                            seed
train --seed=5000000000                    seed
train --seed=0.5                           seed
train --eval_interval=0                    eval_interval
train --eval_tokens=-1                     eval_tokens
train --eval_tokens=many                   eval_tokens
train --log_interval=0                     log_interval
train --device=tpu9                        device=tpu9
train --device=cuda:99                     device=cuda:99
train --device=meta                        device=meta
train --dtype=float8                       dtype
train --dataset=nothing                    python prepare.py --dataset=nothing
train --dataset=                           dataset
train --dataset=../data                    data is not prepared
train --dataset=file                       file
train --data_dir=nowhere                   nowhere
train --data_dir=file                      file
train --data_dir=dead                      dead
train --out_dir=file                       out_dir=file cannot be written
train --out_dir=dead                       out_dir=dead cannot be written
train --out_dir=file/deeper                out_dir=file/deeper cannot be written
train --out_dir=                           out_dir
train --init_from=no.pt                    no.pt cannot be read
train --init_from=out                      out/best.pt cannot be read
train --init_from=data/bytes/train.bin     train.bin is damaged, or no checkpoint of train.py
train --init_from=empty.txt                empty.txt is damaged, or no checkpoint of train.py
train --init_from=out/chars/best.pt        init_from=out/chars/best.pt is another model
gpt --d_modl=5                             did you mean --d_model?
gpt --d_model=100 --n_heads=3              n_heads=3
gpt --d_model=1e99                         --d_model
gpt --d_model=nan                          --d_model
gpt --n_heads=0                            --n_heads
gpt --n_layers=0                           --n_layers
gpt --n_layers=2.5                         --n_layers
gpt --n_layers=1e9                         --n_layers
gpt --vocab_size=                          --vocab_size
gpt --vocab_size=-1                        --vocab_size
gpt --size=smal                            small
gpt --optimizer=sgd                        --optimizer
gpt --mfu=2                                --mfu
gpt --mfu=half                             --mfu
gpt --tie_weights=maybe                    --tie_weights
gpt small                                  small
gpt out/bytes                              out/bytes
gpt --plot                                 --fit take runs
gpt --fit out/bytes                        six runs or more
gpt --plot=out/bytes                       --plot
gpt --plot out/none                        out/none
gpt --export=out/new                       --export
gpt --export=out/new out/chars             char tokenizer
gpt --export=out/new out/none              out/none
gpt --export=out/new out/chars out/bytes   one run
gpt --export                               --export
gpt --import=none out/new                  none/config.json
gpt --import=data/bytes out/new            data/bytes/config.json
gpt --import=none                          one run
gpt --import=a --export=b out/new          not allowed with
gpt --max_seq_len=nan                      --max_seq_len
gpt --max_seq_len=inf                      --max_seq_len
sample --temprature=1                      --temperature
sample --temperature=nan                   --temperature
sample --temperature=-1                    --temperature
sample --temperature=inf                   --temperature
sample --top_p=1.5                         --top_p
sample --top_p=0                           --top_p
sample --top_p=nan                         --top_p
sample --top_k=0                           --top_k
sample --top_k=-1                          --top_k
sample --max_new_tokens=0                  --max_new_tokens
sample --max_new_tokens=-5                 --max_new_tokens
sample --seed=x                            --seed
sample --seed=-1                           --seed
sample --num_samples=1.5                   --num_samples
sample --num_samples                       --num_samples
sample --device=gpu                        device=gpu
sample 'import os'                         --prompt="
sample out/none                            out/none
sample dead                                dead
sample data/bytes                          data/bytes
sample data/bytes/meta.json                meta.json
sample empty.txt                           empty.txt
sample --prompt=FILE:none.txt              none.txt
sample --prompt=FILE:out                   out
sample --prompt=FILE:latin.txt             latin.txt cannot be read as UTF-8 text
sample --prompts=none.txt                  none.txt
sample --prompts=empty.txt                 empty.txt
sample --prompts=                          prompt
sample --prompts=latin.txt                 can't decode byte 0xe9 in position 3
sample --prompt=a --prompts=b              --prompt
sample out/bytes out/chars --prompt=文     U+6587
prepare --vocabsize=5                      did you mean --vocab_size?
prepare --vocab_size=many                  vocab_size
prepare --vocab_size                       vocab_size
prepare --vocab_size=256                   vocab_size
prepare --vocab_size=1e30                  vocab_size
prepare --val_fraction=nan                 val_fraction
prepare --val_fraction=1                   val_fraction
prepare --overwrite=maybe                  overwrite
prepare my.txt                             did you mean --input=my.txt?
prepare input=my.txt                       did you mean --input?
prepare dataset=python                     did you mean --dataset?
prepare --inp=x                            did you mean --input?
prepare --tokenizer                        tokenizer
prepare --tokenizer=data                   tokenizer
prepare --tokenizer=char --vocab_size=300  vocab_size is for tokenizer bpe
prepare --separator=                       separator
prepare --dataset=../x                     dataset
prepare --dataset=pyton                    dataset must be python
prepare --data_dir=file                    file
prepare --input                            input
prepare --input=gone.txt                   gone.txt: No such file
prepare --input=dead                       dead is no .txt
prepare --input=file                       file is no .txt
prepare --input=latin.txt                  latin.txt is not UTF-8: byte 3 is 0xe9
prepare --input=empty.txt                  empty.txt is empty
"""
COMMANDS = {"train": lambda: train(**T.command_line()), "gpt": gpt.main, "sample": sample.main,
            "prepare": lambda: prepare.prepare(**prepare.read_command_line())}


@pytest.mark.parametrize("line", [re.sub(r"\s{2,}", "  ", line) for line in BAD_COMMANDS.strip().splitlines()])
def test_a_users_mistake_is_one_line_that_names_it_and_nothing_is_made(runs, monkeypatch, capsys, line):
    (command, says), made = line.split("  "), set(os.listdir(runs / "out"))
    for name, data in (("latin.txt", b"caf\xe9"), ("empty.txt", b"\n\n"), ("file", b"")):
        (runs / name).write_bytes(data)
    if not (runs / "dead").is_symlink():
        (runs / "dead").symlink_to("nowhere/at/all")
    script, *arguments = shlex.split(command)
    defaults = ["--size=toy", "--dataset=bytes", "--d_model=32", "--max_seq_len=64", "--out_dir=out/new"]
    monkeypatch.chdir(runs)
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *(defaults if script == "train" else []), *arguments])
    with pytest.raises((UserError, prepare.UserError)) as error:
        COMMANDS[script]()
    message, printed = str(error.value), capsys.readouterr().out
    assert says in message and "\n" not in message
    assert set(os.listdir(runs / "out")) - made <= {"new"} and not list(runs.glob("out/new/*.pt"))
    assert script in ("train", "prepare") or not printed, printed


def test_a_name_that_is_not_utf8_is_no_trouble(runs):
    odd = os.fsdecode(b"out/caf\xe9")
    run("train.py", *flags(**SMALL_RUN, dataset="bytes", max_steps=2, out_dir=odd), cwd=runs)
    assert run("sample.py", odd, "--max_new_tokens=5", cwd=runs).stdout
    shutil.rmtree(runs / odd)
    assert b"caf" in python("train.py", "--dataset=" + os.fsdecode(b"caf\xe9"), cwd=runs, text=False, encoding=None).stderr


# -----------------------------------------------------------------------------------------------------------------
# prepare.py


def shared(name):
    if not (SHARED / name).exists():
        pytest.skip(f"../shared/data/{name} is absent")
    return SHARED / name


def encoding_of(meta):
    tokens = [base64.b64decode(token) for token in meta["tokenizer"]["tokens"]]
    return tiktoken.Encoding("x", pat_str=meta["tokenizer"]["pattern"], mergeable_ranks={t: i for i, t in enumerate(tokens)},
                             special_tokens={EOT: len(tokens)})


def read_back(folder):
    """The documents of each split, decoded; checks on the way that meta.json is true of the files."""
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["format"] == 1 and meta["dtype"] == ("uint32" if meta["vocab_size"] > 65536 else "uint16")
    assert meta["vocab_size"] == len(meta["tokenizer"]["tokens"]) + 1
    encoding, result = encoding_of(meta), {}
    for split, of in meta["splits"].items():
        data = (folder / f"{split}.bin").read_bytes()
        ids = np.frombuffer(data, "<u2" if meta["dtype"] == "uint16" else "<u4")
        ends = np.flatnonzero(ids == meta["vocab_size"] - 1)
        assert len(ids) == of["tokens"] and zlib.crc32(data) == of["crc32"] and len(ends) == of["documents"]
        assert ends[-1] == len(ids) - 1
        documents = [part[:-1].tolist() for part in np.split(ids, ends + 1)[:-1]]
        result[split] = [encoding.decode_bytes(document).decode() for document in documents]
        assert sum(len(text.encode()) for text in result[split]) == of["bytes"]
    assert os.path.getsize(folder / "meta.json") < 20_000_000
    return result


# -----------------------------------------------------------------------------------------------------------------
# prepare.py: the tokenizer

def naive_bpe(texts, vocab_size):
    words = Counter(tuple(word.encode()) for text in texts for word in prepare.regex.findall(GPT2_PATTERN, text))
    tokens = [bytes([i]) for i in range(256)]
    while len(tokens) < vocab_size:
        pairs = Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merged = Counter()
        for word, count in words.items():
            new, i = [], 0
            while i < len(word):
                if word[i:i + 2] == best:
                    new.append(len(tokens))
                    i += 2
                else:
                    new.append(word[i])
                    i += 1
            merged[tuple(new)] += count
        words = merged
        tokens.append(tokens[best[0]] + tokens[best[1]])
    return tokens


odd_text = st.text(st.sampled_from("aaabbc  \n\t'st1\u00e9\u3000\x1c\r\u00a0.!"), max_size=60)


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.lists(odd_text, max_size=6), st.integers(256, 300))
def test_bpe_merges_what_a_naive_trainer_merges(texts, vocab_size):
    tokens = train_bpe(texts, vocab_size)
    assert tokens == naive_bpe(texts, vocab_size) and len(set(tokens)) == len(tokens)


def test_bpe_equals_rustbpe_on_stories():
    rustbpe = pytest.importorskip("rustbpe")
    text = lzma.open(shared("stories.txt.xz"), "rt", encoding="utf-8", newline="").read()
    documents = text.split(EOT + "\n")
    peer = rustbpe.Tokenizer()
    peer.train_from_iterator(iter(documents), 4096, pattern=GPT2_PATTERN)
    theirs = [bytes(token) for token, _ in sorted(peer.get_mergeable_ranks(), key=lambda item: item[1])]
    assert train_bpe(documents, 4096) == theirs


def test_bpe_stops_short_and_says_so(capsys):
    assert len(train_bpe(["aaaa aaaa"], 300)) == 259 and "259 tokens instead of 300" in capsys.readouterr().out
    for wrong in [lambda: train_bpe(["x"], 255), lambda: train_bpe(["x"], 300.0)]:
        with pytest.raises(ValueError, match="vocab_size"):
            wrong()


SOME_TOKENS = train_bpe([STORY * 3, "  \n\n  \n aab abab  aa"], 400)
SOME_TOKENS += [b"unused%d" % i for i in range(400 - len(SOME_TOKENS))]
TRAINED = tiktoken.Encoding("t", pat_str=GPT2_PATTERN, mergeable_ranks={t: i for i, t in enumerate(SOME_TOKENS)},
                            special_tokens={prepare.END: 400})


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(odd_text, st.text(max_size=80)), max_size=3))
def test_words_are_counted_as_gpt2s_pattern_parts_them(texts):
    words = [word for text in texts for word in prepare.regex.findall(GPT2_PATTERN, text)]
    assert prepare.count_words(texts) == Counter(words)


parts_of_a_document = st.lists(st.one_of(odd_text, st.just("a " + EOT + " b")).filter(bool), min_size=1, max_size=3)


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.lists(parts_of_a_document, min_size=1, max_size=6), st.booleans(), st.sampled_from([2, 3, math.inf]),
       st.integers(0, 300), st.sampled_from([20, 1 << 16]))
def test_documents_are_split_and_encoded_without_loss_or_overlap(documents, late_end, nth, mark, block):
    """By every n-th document or at a place in the text, also where this is between two parts or two documents."""
    parts = []
    for document in documents:
        parts += [(text, False) for text in document] + [("", True)]
        parts[-2:] = parts[-2:] if late_end else [(document[-1], True)]  # a document's end may come by itself
    mark = mark if nth == math.inf else math.inf
    want, read = {"train": [], "val": []}, 0
    for number, text in enumerate(map("".join, documents), 1):
        head = text[:max(mark - read, 0)] if mark < math.inf else text if number % nth else ""
        for split, part in ("train", head), ("val", text[len(head):]):
            want[split] += [part] if part else []
        read += len(text)

    got, size = {"train": [], "val": []}, Counter()
    before, prepare.BLOCK = prepare.BLOCK, block
    try:
        for split, tokens, n_bytes in prepare.encode(prepare.split_documents(parts, nth, mark), TRAINED):
            got[split] += tokens.tolist()
            size[split] += n_bytes
    finally:
        prepare.BLOCK = before
    for split, texts in want.items():
        assert TRAINED.decode(got[split]) == "".join(text + prepare.END for text in texts)
        assert size[split] == sum(len(text.encode()) for text in texts)
        if block > 20:  # all of it is one block, else words may be cut
            assert got[split] == [i for text in texts for i in [*TRAINED.encode_ordinary(text), 400]]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_million_blanks_are_no_trouble(tmp_path, name):
    text = "a" + " " * 1_500_000 + "b\n" + STORY * 5
    (tmp_path / name).write_text(text if name == "a.txt" else json.dumps({"text": text}))
    made = prepare.prepare(input=tmp_path / name, vocab_size=300, data_dir=tmp_path)
    assert "".join(sum(read_back(Path(made["folder"])).values(), [])) == text


# -----------------------------------------------------------------------------------------------------------------
# prepare.py: reading

@hypothesis_settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([EOT, "a", "", " ", "bb" * 9, "x" + EOT, EOT + " y", "\u00e9\u00e9"]), max_size=12),
       st.lists(st.sampled_from(["\n", "\r\n"]), min_size=12, max_size=12), st.booleans(), st.integers(1, 30))
def test_documents_are_the_lines_between_separators_wherever_blocks_end(lines, ends, closed, block):
    text = "".join(line + end for line, end in zip(lines, ends))
    text = text if closed else text.rstrip("\r\n")
    want = [""]
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        if line.rstrip("\r\n") == EOT:
            want.append("")
        else:
            want[-1] += line
    before, prepare.BLOCK = prepare.BLOCK, max(block, len(EOT) + 2)
    try:
        got = [""]
        for piece, end in prepare.read_txt(io.StringIO(text, newline="\n"), EOT):
            got[-1] += piece
            got += [""] * end
    finally:
        prepare.BLOCK = before
    assert got[:-1] == want


def test_packed_and_jsonl_files_give_what_plain_ones_do(tmp_path):
    documents = [STORY.replace("Lily", f"Lily{i}") + "\u4f60\u597d \U0001f600\n" for i in range(20)]
    text = f"{EOT}\n".join(documents).encode()
    lines = "".join(json.dumps({"text": d, "id": 1}) + "\n" for d in documents).encode()
    for name, data in {"a.txt": b"\xef\xbb\xbf" + text, "b.txt.gz": gzip.compress(text), "c.txt.xz": lzma.compress(text),
                       "d.txt.bz2": bz2.compress(text), "e.jsonl": lines, "f.JSONL.XZ": lzma.compress(lines)}.items():
        (tmp_path / name).write_bytes(data)
        made = prepare.prepare(input=tmp_path / name, vocab_size=300, val_fraction=0.1, data_dir=tmp_path / "out")
        assert made["folder"] == str(tmp_path / "out" / name[0])
        back = read_back(Path(made["folder"]))
        assert back == {"train": documents[:9] + documents[10:19], "val": [documents[9], documents[19]]}


@slow
def test_slow_prepare_takes_less_than_150_mb_for_300_mb_of_text(tmp_path):
    root = Path(sysconfig.get_path("stdlib"))
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(root.glob("*.py"))[:120])
    with open(tmp_path / "much.txt", "w", encoding="utf-8", newline="") as file:
        while file.tell() < 300e6:
            file.write(text + EOT + "\n")
    work = f"import sys; sys.path.insert(0, {str(HERE)!r}); import prepare; prepare.prepare(input='much.txt')\n{PEAK}\nprint(peak())"
    done = subprocess.run([sys.executable, "-c", work], cwd=tmp_path, env=ENV, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.split()[-1])
    print(f"peak memory {peak} MB")
    assert 20 < peak < 150


def test_a_long_document_has_the_tokens_of_the_whole(tmp_path):
    with lzma.open(shared("stories.txt.xz"), "rt", encoding="utf-8", newline="") as file:
        text = file.read(2_000_000).replace(EOT + "\n", "")
    (tmp_path / "a.txt").write_text(text)
    made = prepare.prepare(input=tmp_path / "a.txt", vocab_size=500, data_dir=tmp_path)
    meta = json.loads(Path(made["folder"], "meta.json").read_text())
    cut = len(text.encode()[:made["splits"]["train"]["bytes"]].decode())
    for split, part in (("train", text[:cut]), ("val", text[cut:])):
        tokens = np.fromfile(Path(made["folder"], split + ".bin"), "<u2").tolist()
        assert tokens == encoding_of(meta).encode_ordinary(part) + [499]


def test_folders_and_globs_and_blank_lines(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name, text in {"in/b.txt": "one\n\ntwo\n \r\n\nthree", "in/deep/a.txt": "four", "in/c.txt": "",
                       "in/no.md": "x"}.items():
        (tmp_path / name).write_bytes(text.encode())
    for k, source in enumerate([["in"], ["in/**/*.txt"], ["in/b.txt", "in/deep/a.txt", "in"]]):
        options = flags(separator="blank", tokenizer="char", val_fraction=0.5, data_dir=f"o{k}")
        result, name = run("prepare.py", "--input", *source, *options, cwd=tmp_path), ["in", "in", "b"][k]
        assert "--dataset=" + name in result.stdout
        assert read_back(tmp_path / f"o{k}" / name) == {"train": ["one\n", "three"], "val": ["two\n", "four"]}


@pytest.mark.parametrize("tokenizer", ["bpe", "char"])
def test_few_documents_are_split_by_position(tmp_path, capsys, tokenizer):
    text = shared("shakespeare.txt").read_text("utf-8")
    made = prepare.prepare(input=str(shared("shakespeare.txt")), tokenizer=tokenizer, data_dir=tmp_path)
    back = read_back(Path(made["folder"]))
    assert back["train"] + back["val"] == [text[:len(back["train"][0])], text[len(back["train"][0]):]]
    assert 0.0099 < len(back["val"][0]) / len(text) < 0.0101
    assert "--separator=blank" in capsys.readouterr().out  # one document may not be what was meant


# -----------------------------------------------------------------------------------------------------------------
# prepare.py: the whole

def test_the_standard_library_is_the_default(home, tmp_path):
    result = run("prepare.py", "--data_dir=again", cwd=tmp_path)
    assert "python train.py --data_dir=again" in result.stdout and not result.stderr
    for name in ("train.bin", "val.bin"):  # the same each time
        assert (tmp_path / "again/python" / name).read_bytes() == (home / "data/python" / name).read_bytes()
    assert len(read_back(tmp_path / "again/python")["train"]) > 300
    again = python("prepare.py", "--data_dir=again", cwd=tmp_path)
    assert again.returncode == 2 and again.stderr.count("\n") == 1 and "--overwrite" in again.stderr


def test_a_tokenizer_is_used_again(tmp_path):
    (tmp_path / "a.txt").write_text(STORY * 50)
    (tmp_path / "b.txt").write_text(STORY.replace("Lily", "Zo") * 40)
    for name, size in ("bpe", {"vocab_size": 300}), ("char", {}):
        prepare.prepare(input=tmp_path / "a.txt", dataset=name, tokenizer=name, data_dir=tmp_path, **size)
    prepare.prepare(input=tmp_path / "b.txt", tokenizer=tmp_path / "bpe", data_dir=tmp_path)
    read_back(tmp_path / "b")
    meta = json.loads((tmp_path / "bpe" / "meta.json").read_text())
    assert json.loads((tmp_path / "b" / "meta.json").read_text())["tokenizer"] == meta["tokenizer"]

    with pytest.raises(prepare.UserError, match=r"does not know 'Z' \(U\+005A\)"):
        prepare.prepare(input=tmp_path / "b.txt", dataset="c", tokenizer=tmp_path / "char", data_dir=tmp_path)
    with pytest.raises(prepare.UserError, match="vocab_size is for tokenizer bpe"):
        prepare.prepare(input=tmp_path / "b.txt", dataset="c", tokenizer=tmp_path / "bpe", vocab_size=999, data_dir=tmp_path)
    for change in [{"tokenizer": 1}, {"tokenizer": {}}, {"tokenizer": meta["tokenizer"] | {"tokens": [5]}}]:
        (tmp_path / "meta.json").write_text(json.dumps(meta | change))
        with pytest.raises(prepare.UserError, match="tokenizer"):
            prepare.prepare(input=tmp_path / "b.txt", dataset="c", tokenizer=tmp_path, data_dir=tmp_path)
    assert not list(tmp_path.glob("c")) and not list(tmp_path.glob(".*"))


def test_text_with_endoftext_inside_a_line_stays_text(tmp_path):
    text = f"a {EOT} b\n" * 30
    (tmp_path / "a.txt").write_text(text)
    made = prepare.prepare(input=tmp_path / "a.txt", vocab_size=300, data_dir=tmp_path / "o")
    assert "".join(sum(read_back(Path(made["folder"])).values(), [])) == text


def bad_files(folder):
    folder.mkdir()
    packed = lzma.compress(STORY.encode() * 1000)
    files = {
        "empty.txt": b"", "blank.txt": b" \n\n", "one.txt": b"x", "fine.txt": STORY.encode() * 20, "data.csv": b"a,b",
        "latin.txt": b"a" * 3_000_000 + "\u00e9".encode("latin-1") + b"b", "utf16.txt": "text".encode("utf-16"),
        "half.txt": b"abc\xe4\xbd", "cut.txt.xz": packed[:-20], "torn.txt.xz": packed[:50] + b"\0" * 9 + packed[59:],
        "cut.txt.gz": gzip.compress(STORY.encode() * 9)[:-9], "not.txt.gz": b"plain", "not.txt.bz2": b"plain",
        "bad.jsonl": b'{"text": "a"}\n{"text": \n', "other.jsonl": b'{"text": "a"}\n\n{"txt": "a"}\n',
        "number.jsonl": b'{"text": 5}\n', "surrogate.jsonl": b'{"text": "\\ud800"}\n'}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "folder.txt").mkdir()
    (folder / "dead.txt").symlink_to("nowhere")
    return folder


@pytest.mark.parametrize("settings, message", [
    ({"input": "empty.txt"}, "empty.txt is empty"), ({"input": "blank.txt"}, "blank.txt is empty"),
    ({"input": "gone.txt"}, "gone.txt: No such file"),
    ({"input": "latin.txt"}, "latin.txt is not UTF-8: byte 3,000,000 is 0xe9"),
    ({"input": "utf16.txt"}, "utf16.txt is not UTF-8: byte 0"),
    ({"input": "half.txt"}, "half.txt is not UTF-8: byte 3"), ({"input": "cut.txt.xz"}, "cannot read .*cut.txt.xz"),
    ({"input": "torn.txt.xz"}, "cannot read .*torn.txt.xz"), ({"input": "cut.txt.gz"}, "cannot read .*cut.txt.gz"),
    ({"input": "not.txt.gz"}, "cannot read .*not.txt.gz"), ({"input": "not.txt.bz2"}, "cannot read .*not.txt.bz2"),
    ({"input": "bad.jsonl"}, "bad.jsonl, line 2"), ({"input": "other.jsonl"}, "other.jsonl, line 3"),
    ({"input": "number.jsonl"}, "number.jsonl, line 1"), ({"input": "surrogate.jsonl"}, "surrogate.jsonl, line 1"),
    ({"input": "data.csv"}, "data.csv is no .txt"), ({"input": "one.txt"}, "one.txt is empty or too short"),
    ({"input": "folder.txt"}, "folder.txt is no .txt"), ({"input": "dead.txt"}, "dead.txt: No such file"),
    ({"input": "*.nothing"}, "is no .txt"), ({"input": 5}, "input must be"), ({"input": ["\0"]}, "input"),
    ({"input": [""]}, "input"), ({"input": "."}, "dead.txt: No such file"),
    ({"tokenizer": "gpt3"}, "tokenizer.*gpt3"), ({"tokenizer": "."}, "tokenizer"), ({"tokenizer": 1}, "tokenizer"),
    ({"tokenizer": ""}, "tokenizer"), ({"vocab_size": 0}, "vocab_size"), ({"vocab_size": -1}, "vocab_size"),
    ({"vocab_size": 10**30}, "vocab_size"), ({"vocab_size": "x"}, "vocab_size"), ({"vocab_size": True}, "vocab_size"),
    ({"vocab_size": float("nan")}, "vocab_size"), ({"vocab_size": None}, "vocab_size"),
    ({"val_fraction": float("nan")}, "val_fraction"), ({"val_fraction": 0.0}, "val_fraction"),
    ({"val_fraction": -0.1}, "val_fraction"), ({"val_fraction": 1.0}, "val_fraction"),
    ({"val_fraction": float("inf")}, "val_fraction"), ({"val_fraction": "x"}, "val_fraction"),
    ({"separator": ""}, "separator"), ({"separator": "a\nb"}, "separator"), ({"separator": None}, "separator"),
    ({"dataset": "../x"}, "dataset"), ({"dataset": ""}, "dataset"), ({"dataset": ".x"}, "dataset"),
    ({"dataset": "a\nb"}, "dataset"), ({"dataset": "x" * 300}, "xxx.*name too long|xxx.*Name too long"),
    ({"dataset": 3}, "dataset"), ({"dataset": "downloads"}, "dataset"),
    ({"input": None, "dataset": "pyton"}, "dataset must be python"), ({"data_dir": "fine.txt"}, "fine.txt"),
    ({"data_dir": 5}, "data_dir"), ({"data_dir": "fine.txt/x"}, "fine.txt/x"), ({"overwrite": "yes"}, "overwrite"),
    ({"vocabsize": 5}, "vocab_size"), ({"dataset": "kept", "overwrite": True}, "kept is there already"),
    ({"dataset": "file", "overwrite": True}, "file"),
])
def test_bad_input_is_one_line_that_names_it(tmp_path, monkeypatch, settings, message):
    monkeypatch.chdir(bad_files(tmp_path / "in"))
    (tmp_path / "out" / "kept").mkdir(parents=True)
    (tmp_path / "out" / "kept" / "thesis.doc").write_text("mine")
    (tmp_path / "out" / "file").write_text("mine")
    with pytest.raises(prepare.UserError, match=message) as error:
        prepare.prepare(**{"input": "fine.txt", "data_dir": str(tmp_path / "out")} | settings)
    assert "\n" not in str(error.value).replace("a\\nb", "")
    assert sorted(os.listdir(tmp_path / "out")) == ["file", "kept"]
    assert os.listdir(tmp_path / "out" / "kept") == ["thesis.doc"]


def test_a_killed_run_leaves_nothing_or_the_old_dataset(tmp_path):
    (tmp_path / "a.txt").write_text(f"{EOT}\n".join(STORY * 40 for _ in range(400)))
    command = ["--input=a.txt", "--vocab_size=300"]
    start = time.monotonic()
    assert python("prepare.py", *command, cwd=tmp_path).returncode == 0
    took = time.monotonic() - start
    good = read_back(tmp_path / "data" / "a")
    for how in [signal.SIGKILL] * 8 + [signal.SIGINT] * 3:
        process = subprocess.Popen([sys.executable, HERE / "prepare.py", *command, "--overwrite"], cwd=tmp_path,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(took * random.uniform(0.5, 1.05) if how == signal.SIGKILL else took * random.uniform(0.6, 0.8))
        process.send_signal(how)
        message = process.communicate()[1]
        assert read_back(tmp_path / "data" / "a") == good
        if how == signal.SIGINT and process.returncode:
            assert (process.returncode, message) in ((130, "stopped; what was there before still is\n"), (-signal.SIGINT, ""))
            assert os.listdir(tmp_path / "data") == ["a"]
    assert python("prepare.py", *command, "--overwrite", cwd=tmp_path).returncode == 0
    assert os.listdir(tmp_path / "data") == ["a"] and read_back(tmp_path / "data" / "a") == good


def test_killed_between_the_renames_the_old_dataset_comes_back(tmp_path):
    (tmp_path / "a.txt").write_text(STORY * 50)
    prepare.prepare(input=tmp_path / "a.txt", vocab_size=300, data_dir=tmp_path / "d")
    os.rename(tmp_path / "d" / "a", tmp_path / "d" / ".a.old")
    with pytest.raises(prepare.UserError, match="already"):
        prepare.prepare(input=tmp_path / "a.txt", vocab_size=300, data_dir=tmp_path / "d")
    read_back(tmp_path / "d" / "a")
    shutil.copytree(tmp_path / "d" / "a", tmp_path / "d" / ".a.old")  # killed after them
    prepare.prepare(input=tmp_path / "a.txt", vocab_size=300, data_dir=tmp_path / "d", overwrite=True)
    assert os.listdir(tmp_path / "d") == ["a"]


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").write_text(STORY * 20_000)
    script = f"ulimit -f 200; exec {sys.executable} {HERE / 'prepare.py'} --input=a.txt --vocab_size=300"
    result = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2 and "File too large" in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert os.listdir(tmp_path / "data") == []


def test_a_file_that_changes_between_the_readings_is_noticed(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text(STORY * 50)

    def train_and_change(texts, size):
        tokens = train_bpe(texts, size)
        path.write_text(STORY * 51)
        return tokens

    monkeypatch.setattr(prepare, "train_bpe", train_and_change)
    with pytest.raises(prepare.UserError, match="a.txt changed"):
        prepare.prepare(input=path, vocab_size=300, data_dir=tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_pasted_into_a_notebook_it_reads_no_command_line(tmp_path):
    (tmp_path / "a.txt").write_text(STORY * 50)
    cell = (HERE / "prepare.py").read_text().replace("\ninput = None", "\ninput = 'a.txt'")
    (tmp_path / "cell.py").write_text(cell.replace("vocab_size = 4096", "vocab_size = 300", 1))
    kernel = """import sys; sys.argv += ['-f', 'kernel.json']; cell = compile(open('cell.py').read(), '<cell>', 'exec')
for _ in range(2): exec(cell, {'__name__': '__main__'})"""
    result = subprocess.run([sys.executable, "-c", kernel], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0 and result.stderr.count("\n") == 1 and "already" in result.stderr, result.stderr
    read_back(tmp_path / "data" / "a")


# -----------------------------------------------------------------------------------------------------------------
# prepare.py: downloads

class Server(http.server.BaseHTTPRequestHandler):
    body, breaks, ranges, log, sha256 = b"", 0, True, [], ""

    def do_GET(self):
        if self.path.startswith("/moved/"):  # as Hugging Face does
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/moved"))
            self.send_header("X-Linked-ETag", f'"{self.sha256}"')
            return self.end_headers()
        first = int(re.match(r"bytes=(\d+)-", self.headers["Range"])[1])
        self.log.append(first)
        if self.ranges and first >= len(self.body):
            return self.send_error(416)
        first = first if self.ranges else 0
        self.send_response(206 if self.ranges else 200)
        self.send_header("Content-Length", str(len(self.body) - first))
        self.end_headers()
        part = self.body[first:]
        if Server.breaks:
            Server.breaks -= 1
            self.wfile.write(part[:len(part) // 2])
            self.wfile.flush()
            self.connection.close()
        else:
            self.wfile.write(part)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(prepare.time, "sleep", lambda seconds: None)
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=http_server.serve_forever, args=[0.01], daemon=True).start()
    Server.body, Server.breaks, Server.ranges, Server.log = random.Random(1).randbytes(5_000_000), 0, True, []
    yield f"http://127.0.0.1:{http_server.server_port}/file.txt"
    http_server.shutdown()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_where_it_stopped(tmp_path, server, ranges):
    Server.breaks, Server.ranges = 2, ranges
    path = tmp_path / "x" / "file.txt"
    assert prepare.download(server, str(path)) == str(path) and path.read_bytes() == Server.body
    assert Server.log[0] == 0 and Server.log[1] == 2_500_000 and len(Server.log) == 3
    assert os.listdir(tmp_path / "x") == ["file.txt"]
    prepare.download(server, str(path))
    assert len(Server.log) == 3  # nothing is fetched twice


def test_a_download_whose_hash_is_told_is_kept_only_if_it_is_right(tmp_path, server):
    url = server.replace("file.txt", "moved/file.txt")
    Server.sha256 = hashlib.sha256(b"another file").hexdigest()
    with pytest.raises(prepare.UserError, match=f"the SHA-256 is not {Server.sha256}"):
        prepare.download(url, str(tmp_path / "file.txt"))
    assert os.listdir(tmp_path) == []
    Server.sha256, Server.breaks = hashlib.sha256(Server.body).hexdigest(), 2
    prepare.download(url, str(tmp_path / "file.txt"))
    assert (tmp_path / "file.txt").read_bytes() == Server.body
    with pytest.raises(urllib.error.URLError, match="not HTTPS"):
        request = urllib.request.Request("https://example.org/file.txt")
        prepare.Redirect().redirect_request(request, None, 302, "Found", {}, "http://example.org/file.txt")


def test_a_part_of_another_file_is_thrown_away(tmp_path, server):
    (tmp_path / "file.txt.part").write_bytes(b"x" * 6_000_000)
    prepare.download(server, str(tmp_path / "file.txt"))
    assert (tmp_path / "file.txt").read_bytes() == Server.body


def test_without_a_network_one_line_names_what_needs_none(tmp_path, server, monkeypatch):
    Server.body = b"text " * 1000 + b"\n"
    monkeypatch.setitem(prepare.DOWNLOADS, "shakespeare", ["http://127.0.0.1:9/file.txt"])
    with pytest.raises(prepare.UserError, match="127.0.0.1.*python, which needs no network"):
        prepare.prepare(dataset="shakespeare", data_dir=tmp_path)
    monkeypatch.setitem(prepare.DOWNLOADS, "shakespeare", [server, server.replace("file", "valid")])
    made = prepare.prepare(dataset="shakespeare", tokenizer="char", data_dir=tmp_path)
    back = read_back(Path(made["folder"]))
    assert back["train"] == back["val"] == [Server.body.decode()]  # the data set's own validation file
    prepare.prepare(dataset="shakespeare", vocab_size=270, data_dir=tmp_path, overwrite=True)
    assert len(Server.log) == 2


# -----------------------------------------------------------------------------------------------------------------
# scaling.md

def page_table(first):
    """A table of scaling.md by its rows' first cells, the one whose rows' first cells begin with `first`."""
    page = (HERE / "scaling.md").read_text(encoding="utf-8")
    for table in re.findall(r"(?:^\|.*\n)+", page, re.M):
        cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()]
        if any(row[0] == first for row in cells):
            return {row[0]: row[1:] for row in cells}
    raise AssertionError(f"scaling.md has no row {first!r}")


def test_scaling_md_and_gpt_py_agree_on_every_number_that_both_give():
    on_paper = [{label.strip(): text for label, text in gpt.describe(size, config).items()} for size, config in T.SIZES.items()]
    agreed = 0
    for first in ("token embeddings", "steps"):
        for label, cells in page_table(first).items():
            if label in on_paper[0]:
                assert cells == [table[label] for table in on_paper], label
                agreed += 1
    assert agreed >= 15


def test_each_loss_on_scaling_md_is_the_last_of_its_log_in_assets():
    """The table of the experiment: a row's size and steps name its logs, its rate and its ends tell which it is."""
    found = 0
    for line in (HERE / "scaling.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 9 or not re.fullmatch(r"\d\.\d+e-\d", cells[2]):
            continue
        ends = []
        for path in (HERE / "assets" / "scaling").glob(f"{cells[0].split(',')[0]}-{cells[1]}*.csv"):
            log = list(csv.DictReader(path.read_text().splitlines()))
            end, warmup = log[-1], min(500, int(log[-1]["step"]) // 10)
            if float(log[1]["lr"]) * warmup == pytest.approx(float(cells[2]), rel=0.005):  # log[1]: the first step
                ends.append((f"{float(end['val_loss']):.3f}", f"{float(end['bpb']):.3f}", f"{int(end['tokens']) / 1e6:.2f} M"))
        assert (cells[6], cells[7], cells[3]) in ends, line
        found += 1
    assert found >= 10


def test_the_fit_on_scaling_md_is_what_gpt_py_makes_of_the_logs_in_assets():
    logs = sorted((HERE / "assets" / "scaling").glob("fit-*.csv"))
    predicted = [HERE / "assets" / "scaling" / f"{name}.csv" for name in
                 "tiny-128-muon tiny-256 tiny-512 small-256 toy-2329".split()]
    page = (HERE / "scaling.md").read_text(encoding="utf-8")
    assert len(logs) >= 12 and gpt.describe_fit(logs, predicted) in page


# -----------------------------------------------------------------------------------------------------------------
# The whole way

@slow
def test_slow_a_text_of_50_kb_is_learned_by_heart_its_overfitting_is_named_and_best_pt_is_from_before_it(tmp_path):
    text = Path(argparse.__file__).read_text(encoding="utf-8")[:50_000]
    (tmp_path / "my.txt").write_text(text, encoding="utf-8")
    run("prepare.py", "--input=my.txt", cwd=tmp_path)
    told = run("train.py", "--dataset=my", "--size=toy", "--batch_size=8", "--grad_accum_steps=1", "--max_steps=300", cwd=tmp_path).stdout
    evals = [float(loss) for loss in re.findall(r"eval: val loss ([\d.]+)", told)]
    assert evals[-1] > min(evals) + 1 and told.count(f"overfitting: best.pt keeps {min(evals):.4f}") > 3
    model, tokenizer = load(tmp_path / "out/my-toy/ckpt.pt")
    known = 0
    for start in range(2000, 42_000, 4000):
        ids = tokenizer.encode(text[start:start + 400])
        new = [int(token) for token in model.generate(torch.tensor([ids[:40]]), 20, temperature=0)]
        known += sum(a == b for a, b in zip(new, ids[40:]))
    assert known > 180  # of 200
    best, _ = load(tmp_path / "out/my-toy")
    assert not torch.equal(best.tok_emb.weight, model.tok_emb.weight)


@slow
def test_slow_tiny_writes_english_words_after_three_minutes_of_stories_and_its_log_is_what_it_did(tmp_path):
    if not (SHARED / "stories.txt.xz").exists():
        pytest.skip("../shared/data/stories.txt.xz is not here")
    environment = {name: value for name, value in ENV.items() if name != "OMP_NUM_THREADS"}  # all cores
    for command in (["prepare.py", f"--input={SHARED / 'stories.txt.xz'}"], ["train.py", "--dataset=stories", "--minutes=3"]):
        started = time.monotonic()
        subprocess.run([sys.executable, HERE / command[0], *command[1:]], cwd=tmp_path, env=environment, check=True)
        seconds = time.monotonic() - started
    with open(tmp_path / "out/stories-tiny/log.csv", newline="") as file:
        log = list(csv.DictReader(file))
    assert float(log[-1]["seconds"]) <= seconds and float(log[-1]["val_loss"]) < float(log[0]["val_loss"]) - 2
    assert all(int(row["tokens"]) == int(row["step"]) * 32 * 256 for row in log)
    spent = sum(8192 * (int(b["step"]) - int(a["step"])) / float(b["tokens_per_s"]) for a, b in zip(log, log[1:]))
    assert 0.6 * seconds < spent < seconds  # the speeds are those of the clock; the rest went into evals and start-up

    with lzma.open(SHARED / "stories.txt.xz", "rt", encoding="utf-8") as file:
        known = set(re.findall(r"[a-z]+", file.read().lower()))
    text = run("sample.py", "--num_samples=4", "--prompt=Once upon a time", "--max_new_tokens=100", cwd=tmp_path).stdout
    words = re.findall(r"[a-z]+", text.lower())
    assert len(words) > 150 and sum(word in known for word in words) > 0.9 * len(words), text
