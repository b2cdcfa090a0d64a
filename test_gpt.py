"""
What this project promises, as tests on real text, real files and real processes.

    python -m pytest -q                    # in a few minutes on two cores
    SLOW=1 python -m pytest -q -k slow     # what takes longer
"""
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads of toy models wait for others
os.environ.setdefault("HF_HUB_OFFLINE", "1")   # no test asks Hugging Face's hub
import base64, builtins, bz2, copy, csv, gzip, http.server, json, lzma, math, multiprocessing
import random, re, resource, shlex, shutil, signal, socket, subprocess, sys, sysconfig, textwrap
import threading, time, zlib
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given as hypothesis_given, settings as hypothesis_settings, strategies as st

import gpt, prepare, sample
import train as T
from gpt import load
from prepare import GPT2_PATTERN, PrepareError, train_bpe
from train import GPT, GPTConfig, MEDIUM, SMALL, TINY, TOY, UserError, train

HERE = Path(__file__).parent.resolve()
SHARED = HERE.parent / "shared"  # real text, where it is there
ENV = os.environ | {"PYTHONIOENCODING": "utf-8", "COLUMNS": "80", "PYTHONUNBUFFERED": ""}
BYTES = [bytes([b]) for b in range(256)]
EOT = "<|endoftext|>"
STORY = ("One day, Lily's dog ran to the sea.\n\n\"Come back!\" she said. It didn't; it swam 20 "
         "miles.\r\n  The end \u2014 or not?\n")
SMALL_RUN = dict(size="toy", d_model=32, max_seq_len=64, eval_tokens=2048, log_interval=1,
                 device="cpu")
TWENTY_STEPS = dict(max_steps=20, eval_interval=5)  # of the runs in the fixture `runs`
slow = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 runs it")

def shared(name):
    """A file of ../shared; the test is skipped where there is none."""
    if not (SHARED / name).exists():
        pytest.skip(f"../shared/{name} is absent")
    return SHARED / name

def python(script, *flags, cwd, **options):
    """Run one of the scripts as a user would: its finished process, stdout and stderr as text."""
    options = {"env": ENV, "text": True, "encoding": "utf-8"} | options
    return subprocess.run([sys.executable, HERE / script, *map(str, flags)], cwd=cwd,
                          capture_output=True, timeout=300, **options)

def run(script, *flags, cwd):
    """The same, of a command that must succeed."""
    done = python(script, *flags, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done

COMMANDS = {"train": lambda: train(**T.command_line()), "gpt": gpt.main, "sample": sample.main,
            "prepare": lambda: prepare.prepare(*sys.argv[1:])}

def complaint(script, flags, monkeypatch, cwd):
    """The one line that a script, run in this process, says about a user's mistake."""
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *map(str, flags)])
    with pytest.raises((UserError, PrepareError, OSError)) as error:
        COMMANDS[script]()
    assert "\n" not in str(error.value)
    return str(error.value)

def flags(**settings):
    return [f"--{name}={value}" for name, value in settings.items()]

def rows(out_dir):
    """log.csv without the columns of the clock."""
    with open(out_dir / "log.csv", newline="") as file:
        return [{name: row[name] for name in "step tokens loss val_loss bpb lr flops".split()}
                for row in csv.DictReader(file)]

def assert_same(a, b):
    """Two parts of checkpoints are equal, bit for bit."""
    torch.testing.assert_close(a, b, rtol=0, atol=0)

def base64_of(tokens):
    return [base64.b64encode(token).decode() for token in tokens]

def spec_of(tokens, pattern="(?s:.)"):
    """The tokenizer of these tokens, as meta.json and checkpoints hold it."""
    return {"name": "bpe", "pattern": pattern, "tokens": base64_of(tokens)}

@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A folder with data/python in it, made by `python prepare.py` as it stands."""
    folder = tmp_path_factory.mktemp("home")
    run("prepare.py", cwd=folder)
    return folder

@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A folder where train.py has made out/bytes, then out/chars: small models of one file."""
    cwd = tmp_path_factory.mktemp("runs")
    for name, tokenizer in (("bytes", "--vocab_size=257"), ("chars", "--tokenizer=char")):
        run("prepare.py", f"--input={textwrap.__file__}", f"--dataset={name}", tokenizer, cwd=cwd)
        run("train.py", *flags(**SMALL_RUN | TWENTY_STEPS, dataset=name, out_dir=f"out/{name}"),
            cwd=cwd)
    return cwd

@pytest.fixture
def call(runs, monkeypatch, capsys):
    """call(script, *flags): what gpt or sample prints, run in this process and in `runs`."""
    def call(script, *flags):
        monkeypatch.chdir(runs)
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "argv", [script.__file__, *map(str, flags)])
        script.main()
        return capsys.readouterr()
    return call

# ---- The model ---------------------------------------------------------------------------------
def random_gpt(std=0.2, **shape):
    """A GPT far from its initial weights, so that biases and LayerNorms matter too."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(**shape)).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=std)
    return model

def test_initial_weights_have_gpt2s_scale():
    torch.manual_seed(0)
    model = GPT(TINY)
    for layer, std in ((model.tok_emb, 0.02), (model.blocks[0].mlp[2], 0.02 / math.sqrt(12))):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.02)

@pytest.fixture(scope="session")
def transformers():
    """The package, if it is there, without its progress bars and warnings."""
    pytest.importorskip("transformers")
    return gpt.hugging_face()

def test_logits_and_gradients_are_those_of_transformers_gpt2(transformers):
    ours = random_gpt(vocab_size=311, max_seq_len=32, d_model=48, n_heads=4, n_layers=3)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=311, n_positions=32, n_embd=48, n_head=4, n_layer=3)).eval()
    for p, q in gpt.weight_pairs(ours, theirs):
        q.copy_(p)
    ids = torch.randint(311, (2, 33))
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        ours, theirs = ours.to(dtype), theirs.to(dtype)
        a, b = ours(ids[:, :-1]), theirs(ids[:, :-1]).logits
        assert (a - b).abs().max() < tolerance * b.abs().max()
    ours(ids[:, :-1], ids[:, 1:]).backward()
    torch.nn.functional.cross_entropy(b.flatten(0, 1), ids[:, 1:].flatten()).backward()
    for p in (*ours.parameters(), *theirs.parameters()):
        p.data = p.grad
    assert all(torch.allclose(p, q, atol=1e-9) for p, q in gpt.weight_pairs(ours, theirs))

def plain_generate(model, ids, n):
    """What generate promises, without a cache: the whole context is read for each token."""
    T, out = model.config.max_seq_len, []
    context = ids[:, -T:]
    for _ in range(n):
        if context.size(1) > T:
            context = context[:, -(T // 2):]
        out.append(model(context)[:, -1].argmax(-1))
        context = torch.cat((context, out[-1][:, None]), dim=1)
    return torch.stack(out)

@pytest.mark.parametrize("batch, prompt", [(1, 1), (3, 5), (2, 16), (1, 40)])
def test_generate_equals_a_plain_loop_through_and_past_a_full_context(batch, prompt):
    model = random_gpt(0.3, vocab_size=97, max_seq_len=16, d_model=32, n_heads=4, n_layers=2,
                       tie_weights=False).double()
    torch.nn.init.normal_(model.pos_emb.weight, std=3)  # so that the text does not repeat itself
    ids = torch.randint(97, (batch, prompt))
    with torch.no_grad():
        expected = plain_generate(model, ids, 60)
    tokens = torch.stack(list(model.generate(ids, 60, temperature=0)))
    assert torch.equal(tokens, expected) and len(tokens.unique()) >= 4

def test_top_k_and_top_p_keep_the_tokens_that_they_say():
    logits = torch.log(torch.tensor([[0.1, 0.25, 0.15, 0.5]])).repeat(4000, 1)

    def drawn(temperature=1.0, top_k=None, top_p=None):
        generator = torch.Generator().manual_seed(0)
        return T.choose_token(logits, temperature, top_k, top_p, generator)

    for how, kept in (({"top_k": 2}, {3, 1}), ({"top_k": 99}, {0, 1, 2, 3}), ({"top_p": 0.5}, {3}),
                      ({"top_p": 0.51}, {3, 1}), ({"top_p": 0.76}, {3, 1, 2}),
                      ({"temperature": 0}, {3})):
        assert set(drawn(**how).tolist()) == kept, how
    assert (drawn() == 3).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (drawn(temperature=0.5) == 3).float().mean().item() == pytest.approx(0.725, abs=0.03)

# ---- The recipe --------------------------------------------------------------------------------
def test_the_learning_rate_warms_up_and_falls_to_zero():
    s = SimpleNamespace(lr=1.0, warmup_steps=10, max_steps=110)
    rates = [T.lr_at(step, s) for step in range(110)]
    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)]) and rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5) and rates[-1] == pytest.approx(0.01)
    assert all(a > b for a, b in zip(rates[10:], rates[11:]))

def test_the_batch_follows_the_length_of_a_run_and_the_rate_the_batch():
    for size, config in T.SIZES.items():
        most, n_params = T.SEQUENCES[size], T.count(GPT(config)) if size == "toy" else 10**7
        assert T.recipe(config, 1e15, most, "muon") == (most, pytest.approx(2.5 / config.d_model))
        assert T.recipe(config, 1, most, "muon")[0] == 8
        assert T.recipe(config, 1, most, "muon", 2 * most)[0] == 2 * most  # as it is set
        batches = [T.recipe(config, n_params * 2.0**i, most, "muon")[0] for i in range(-9, 9)]
        assert batches == sorted(batches) and {math.log2(n) % 1 for n in batches} == {0}
    assert T.recipe(TOY, 4.2e6, 32, "muon") == (16, pytest.approx(2.5 / 128 / 2**0.5))
    assert T.recipe(T.SMALL, 1, 64, "muon", 16)[1] == pytest.approx(2.5 / 384)  # 8,192 tokens

def test_a_runs_length_is_tokens_per_parameter_flops_minutes_or_steps(given, tmp_path, capsys):
    shape = GPTConfig(vocab_size=257, max_seq_len=64, d_model=32, n_heads=4, n_layers=2)
    n_params = T.count(GPT(shape))
    for name, value, tokens in (("tokens_per_param", 0.5, 0.5 * n_params),
                                ("flops", 1e9, 1e9 / T.flops_per_token(GPT(shape)))):
        result = train(**given | {name: value, "out_dir": tmp_path / name})
        sequences, lr = T.recipe(shape, tokens, 32, "muon")
        assert result["tokens"] == math.ceil(tokens / sequences / 64) * sequences * 64
        assert f"lr {lr:.2e}" in capsys.readouterr().out
        assert train(**given | {name: value, "out_dir": tmp_path / name})["step"] == result["step"]
        with pytest.raises(UserError, match=f"another run, with .*'{name}'"):
            train(**given | {name: value * 2, "out_dir": tmp_path / name})
    found = torch.load(tmp_path / "flops" / "ckpt.pt", weights_only=True)
    del found["same"]["tokens_per_param"]  # as a run from before this setting
    torch.save(found, tmp_path / "flops" / "ckpt.pt")
    with pytest.raises(UserError, match="another run, with .*'tokens_per_param': None"):
        train(**given | {"tokens_per_param": 9, "out_dir": tmp_path / "flops"})

def learner_of(config=TOY, **settings):
    s = dict(optimizer="muon", weight_decay=0.1, dtype="float32", dropout=0, batch_size=4,
             grad_clip=1.0, seed=1)
    torch.manual_seed(0)
    return T.Learner(GPT(config), SimpleNamespace(**s | settings), torch.device("cpu"))

def windows_of(n=4, length=33, seed=0):
    return torch.randint(4096, (n, length), generator=torch.Generator().manual_seed(seed))

@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_each_weight_has_one_optimizer_and_only_matrices_decay(name, tied):
    learner = learner_of(replace(TOY, tie_weights=tied), optimizer=name)
    groups = [group for optimizer in learner.optimizers for group in optimizer.param_groups]
    params = [p for group in groups for p in group["params"]]
    assert Counter(params) == Counter(learner.model.parameters())
    for group in groups:
        assert {group["weight_decay"]} == {0.1 if p.dim() == 2 else 0 for p in group["params"]}
    of_blocks = {p for p in learner.model.blocks.parameters() if p.dim() == 2}
    in_muon = {p for group in groups if "betas" not in group for p in group["params"]}
    assert in_muon == (of_blocks if name == "muon" else set())
    faster = {p for group in groups if group.get("lr_scale") == 4 for p in group["params"]}
    assert faster == ({p for p in params if p.dim() == 2} - of_blocks if name == "muon" else set())

@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize("momentum", [0.9, 0.95])
def test_muon_steps_as_torchs_own_does_with_its_old_momentum_in_old_runs(momentum):
    learner = learner_of()
    if momentum == 0.95:
        for group in learner.optimizers[1].param_groups:
            del group["momentum"]  # as in a file from before 0.9
    theirs = copy.deepcopy(learner.model)
    before = [p.detach().clone() for p in theirs.parameters()]
    peer = torch.optim.Muon([p for p in theirs.blocks.parameters() if p.dim() == 2],
                            momentum=momentum, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for seed in range(3):
        ids = windows_of(seed=seed)
        for model, optimizer in ((learner.model, learner.optimizers[1]), (theirs, peer)):
            model.zero_grad()
            model(ids[:, :-1], ids[:, 1:]).backward()
            for group in optimizer.param_groups:
                group["lr"] = 0.02
            optimizer.step()
    for p, q, start in zip(learner.model.parameters(), theirs.parameters(), before):
        assert (p - q).norm() <= 0.1 * (q - start).norm()  # theirs is in bfloat16 always
        if q in peer.state:
            m, n = learner.optimizers[1].state[p]["momentum"], peer.state[q]["momentum_buffer"]
            assert (m - n).norm() <= 0.1 * n.norm()

# ---- The data ----------------------------------------------------------------------------------
@hypothesis_settings(max_examples=200, deadline=None)
@hypothesis_given(st.integers(200, 3000), st.integers(1, 200), st.integers(0, 2**32 - 1),
                  st.integers(0, 5))
def test_an_epoch_has_no_target_twice_and_leaves_out_less_than_a_window(N, size, seed, epoch):
    starts = np.array(T.window_starts(N, size, seed, epoch * (N // size), N // size))
    targets = ((starts[:, None] + 1 + np.arange(size)) % N).ravel()
    assert len(set(targets.tolist())) == len(targets) > N - size

def test_the_order_of_the_data_is_the_same_forever_and_however_it_is_asked_for():
    whole = T.window_starts(100_003, 256, 1337, 0, 800)
    assert whole[:4] == [68634, 117018, 113690, 141082]
    assert T.window_starts(100_003, 256, 1337, 5000, 2) == [114263, 79959]
    cuts = [0, 1, 390, 391, 800]
    assert [start for a, b in zip(cuts, cuts[1:])
            for start in T.window_starts(100_003, 256, 1337, a, b - a)] == whole
    orders = {tuple(T.window_starts(1001, 10, seed, 100 * epoch, 100))
              for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9 and len({min(order) % 10 for order in orders}) > 2

def test_windows_wrap_around_the_end_of_the_text():
    windows = T.read_windows(np.arange(10, dtype="<u2"), [0, 8], 4, torch.device("cpu"))
    assert windows.tolist() == [[0, 1, 2, 3, 4], [8, 9, 0, 1, 2]]

def test_text_larger_than_memory_costs_12_bytes_a_window(tmp_path):
    """A train.bin of 4 GB, a sparse file. RssAnon: without the pages that the system can drop."""
    (tmp_path / "train.bin").touch()
    os.truncate(tmp_path / "train.bin", 4_000_000_000)
    tokens = np.memmap(tmp_path / "train.bin", "<u2", "r")

    def used():
        return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024

    before = used()
    for i in range(200):
        starts = T.window_starts(len(tokens), 256, 1, 64 * i, 64)
        T.read_windows(tokens, starts, 256, torch.device("cpu"))
    assert used() - before < 12 * len(tokens) / 256 / 1e6 + 30  # MB

# ---- Training: the same bits, whatever happens -------------------------------------------------
def losses(out_dir):
    return [float(row[name]) for row in rows(out_dir) for name in ("loss", "val_loss") if row[name]]

def assert_same_run(a, b):
    """Two runs ended alike: weights, optimizers and log.csv, bit for bit."""
    first, second = T.load_checkpoint(a / "ckpt.pt"), T.load_checkpoint(b / "ckpt.pt")
    for key in ("model", "optimizers", "loss_scale", "step", "config", "plan"):
        assert_same(first[key], second[key])
    assert_same(T.load_checkpoint(a)["model"], T.load_checkpoint(b)["model"])  # best.pt
    assert rows(a) == rows(b)

@pytest.fixture
def given(runs):
    """The settings of a run that takes a second or two."""
    return SMALL_RUN | dict(data_dir=runs / "data", dataset="bytes")

@pytest.fixture(scope="session")
def fork():
    """multiprocessing.Process of a server that has imported torch already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["train", "torch._dynamo"])  # AdamW would import the second
    return context.Process

def one_of_several(rank, world_size, port, settings, float64, signal_at, memory):
    """
    train() as torchrun would start it. In the step `signal_at` the last process gets SIGTERM, and
    it has no memory for more than `memory` sequences at once.
    """
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": str(rank),
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    T.RANK, T.WORLD_SIZE = rank, world_size
    log = open(f"{settings['out_dir']}.log", "w" if rank == 0 else "a")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    if float64:
        torch.set_default_dtype(torch.float64)
    step, forward = T.Learner.step, GPT.forward

    def step_and_signal(learner, windows, number, lr, leave=False):
        if number == signal_at and lr and rank == world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(learner, windows, number, lr, leave)

    def forward_in_little_memory(model, ids, *more, **named):
        if model.training and len(ids) > memory and rank == world_size - 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(model, ids, *more, **named)

    T.Learner.step, GPT.forward = step_and_signal, forward_in_little_memory
    train(**settings)

@pytest.fixture
def together(fork, given):
    """together(world_size, out_dir, ...) trains in processes connected by gloo: what they print."""
    group = []

    def start(world_size, out_dir, float64=False, signal_at=None, memory=1000, **settings):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        settings = given | settings | {"out_dir": out_dir}
        how = (world_size, port, settings, float64, signal_at, memory)
        group[:] = [fork(target=one_of_several, args=(i, *how)) for i in range(world_size)]
        for process in group:
            process.start()
        for process in group:
            process.join(120)
        told = Path(f"{out_dir}.log").read_text()
        assert [process.exitcode for process in group] == [0] * world_size, told
        return told

    yield start
    for process in group:
        process.kill()

def started(*command):
    """A process that trains, as soon as it has printed a step that ends in 0; stderr in stdout."""
    process = subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True)
    next(line for line in process.stdout if re.match("step [0-9,]*0/", line))
    return process

KILLS = int(os.environ.get("KILLS", 24))  # in the three tests together

@pytest.mark.parametrize("how", [
    dict(max_steps=80), dict(max_steps=80, dropout=0.2, dtype="float16"),
    dict(minutes=0.07, batch_size=None, grad_accum_steps=None)])
def test_a_run_killed_at_any_moment_ends_with_the_bits_of_one_that_was_not(
        given, tmp_path, fork, how):
    """SIGKILL at random: in a step, between its micro-batches, in an eval, in a save."""
    given |= dict(eval_interval=4, batch_size=4, grad_accum_steps=4, eval_tokens=0)
    kills, dice, whole = 0, random.Random(), {}
    while kills < KILLS / 3:
        out_dir, life, saved = tmp_path / f"killed{kills}", 0.5, -1
        while True:
            process = fork(target=train, kwargs=given | how | {"out_dir": out_dir})
            process.start()
            process.join(dice.uniform(0, life))
            process.kill()
            process.join()
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL
            kills, life = kills + 1, life * 1.15  # so that the run ends some day, on any machine
            newest = T.newest_checkpoint(out_dir) if out_dir.exists() else None
            step = T.load_checkpoint(newest)["step"] if newest else -1
            assert step >= saved, "a checkpoint was lost"
            saved = step
        end = T.load_checkpoint(out_dir / "ckpt.pt")
        plan = end["plan"][0], end["same"]["tokens_per_step"] // 64  # steps, sequences
        if plan not in whole:
            whole[plan] = tmp_path / "whole{}x{}".format(*plan)
            also = {"max_steps": plan[0], "out_dir": whole[plan]}
            if "minutes" in how:
                also |= {"minutes": None, "batch_size": plan[1], "grad_accum_steps": 1}
            train(**given | how | also)
        assert_same_run(out_dir, whole[plan])
        shutil.rmtree(out_dir)
    print(f"{how}: {kills} kills")

@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_saves_and_the_same_command_ends_with_the_same_bits(given, tmp_path, name):
    given |= dict(max_steps=60, eval_interval=1000)
    command = flags(**given, out_dir=tmp_path / "a")
    process = started(sys.executable, HERE / "train.py", *command)
    process.send_signal(signal.Signals[name])
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signal.Signals[name] and f"{name}: stopped at step" in text
    step = T.load_checkpoint(tmp_path / "a" / "ckpt.pt")["step"]
    assert 10 <= step < 60
    assert f"resumed at step {step}\n" in run("train.py", *command, cwd=tmp_path).stdout
    train(**given, out_dir=tmp_path / "b")
    assert_same_run(tmp_path / "a", tmp_path / "b")

def test_nohup_and_a_pipe_that_is_gone_do_not_end_a_run(given, tmp_path):
    process = started("nohup", sys.executable, HERE / "train.py",
                      *flags(**given, max_steps=300, out_dir=tmp_path))
    process.stdout.close()
    process.send_signal(signal.SIGHUP)
    process.wait(60)
    assert T.load_checkpoint(tmp_path / "ckpt.pt")["step"] == 300

def test_stop_after_leaves_in_time_and_the_same_command_goes_on(given, tmp_path):
    long = given | dict(max_steps=10**5, stop_after=0.05, out_dir=tmp_path)
    start = time.monotonic()
    first = train(**long)
    assert time.monotonic() - start < 8 and first["stopped"] == "stop_after"
    assert train(**long, batch_size=16)["step"] > first["step"] > 0

@pytest.mark.parametrize("world_size", [1, 2])
def test_minutes_hold_a_whole_schedule_as_the_recipe_has_it(together, tmp_path, world_size):
    together(world_size, tmp_path / "run", minutes=0.2, log_interval=50)
    found = T.load_checkpoint(tmp_path / "run" / "ckpt.pt")
    assert 6 < found["rows"][-1]["seconds"] < 18
    config, (n_steps, lr, n_warmup) = GPTConfig(**found["config"]), found["plan"]
    sequences = found["same"]["tokens_per_step"] // config.max_seq_len
    best, _ = T.recipe(config, n_steps * sequences * config.max_seq_len, 32, "muon")
    assert sequences in (best // 2, best, 2 * best)  # the speed was not that of the guess
    assert lr == T.recipe(config, 1, 32, "muon", sequences)[1] and found["step"] == n_steps
    assert found["rows"][-1]["lr"] == pytest.approx(lr / (n_steps - n_warmup))

# ---- However a batch is split ------------------------------------------------------------------
@pytest.mark.parametrize("world_size, how", [
    (1, dict(batch_size=8, grad_accum_steps=4)), (1, dict(batch_size=5)),
    (1, dict(grad_accum_steps=32)), (2, {}), (4, {})])
def test_any_split_of_a_batch_finds_the_same_losses(runs, together, tmp_path, world_size, how):
    whole = losses(runs / "out" / "bytes")
    assert len(whole) == 25 and whole[0] > whole[-1] + 0.5
    told = together(world_size, tmp_path / "run", **TWENTY_STEPS, **how)
    assert losses(tmp_path / "run") == pytest.approx(whole, abs=1e-5)
    assert told.count("machine ") == 1  # one process prints

def test_a_checkpoint_goes_from_one_process_to_two_to_four_to_one(together, tmp_path):
    """In float64: in float32 AdamW makes rounding large where the true gradient is 0."""
    how = dict(float64=True, batch_size=4, max_steps=20, eval_interval=5, dropout=0.1)
    together(1, tmp_path / "one", **how)
    for world_size, signal_at in ((1, 5), (2, 10), (4, 15), (1, None)):
        together(world_size, tmp_path / "chain", signal_at=signal_at, **how)
        step = T.load_checkpoint(tmp_path / "chain" / "ckpt.pt")["step"]
        assert step == 20 if signal_at is None else step in (signal_at + 1, signal_at + 2)
    one, chain = (T.load_checkpoint(tmp_path / name / "ckpt.pt") for name in ("one", "chain"))
    assert losses(tmp_path / "chain") == pytest.approx(losses(tmp_path / "one"), abs=1e-9)
    for name, weight in one["model"].items():
        assert weight.dtype == torch.float64 and (weight - chain["model"][name]).abs().max() < 1e-9

@pytest.mark.parametrize("world_size", [1, 2])  # of two the second one alone has little memory
def test_where_memory_runs_out_the_micro_batch_shrinks_and_the_losses_stay(
        runs, together, tmp_path, world_size):
    told = together(world_size, tmp_path / "little", memory=5, batch_size=16, **TWENTY_STEPS)
    assert "batch_size=16 does not fit" in told and "batch_size=8 does not fit" in told
    assert "micro-batch 4\n" in told
    assert losses(tmp_path / "little") == pytest.approx(losses(runs / "out/bytes"), abs=1e-5)
    with pytest.raises(AssertionError, match="out of memory: try --grad_checkpoint"):
        together(world_size, tmp_path / "none", memory=0, batch_size=16, max_steps=1)

def test_killing_one_process_ends_the_others_and_the_same_command_resumes(given, tmp_path):
    given |= dict(max_steps=10**6, eval_interval=10, out_dir=tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
               HERE / "train.py", *flags(**given)]
    torchrun = started(*command)
    workers = subprocess.check_output(["pgrep", "-P", str(torchrun.pid)], text=True).split()
    os.kill(int(workers[0]), signal.SIGKILL)
    torchrun.communicate(timeout=60)
    assert torchrun.returncode != 0
    torchrun = started(*command)
    torchrun.send_signal(signal.SIGINT)
    told = torchrun.communicate(timeout=60)[0]
    assert torchrun.returncode != 0
    step = T.load_checkpoint(tmp_path / "ckpt.pt")["step"]
    assert f"SIGINT: stopped at step {step:,}; " in told and step > 10

@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_checkpointing_changes_no_bit(given, tmp_path, dtype):
    for name in (False, True):
        train(**given, max_steps=6, dropout=0.2, dtype=dtype, grad_checkpoint=name,
              out_dir=tmp_path / str(name))
    assert_same_run(tmp_path / "False", tmp_path / "True")

def test_where_torch_compile_fails_one_line_says_so_and_training_continues(given, tmp_path):
    command = flags(**given, max_steps=4, compile=True, out_dir=tmp_path)
    done = python("train.py", *command, cwd=tmp_path, env=ENV | {"CXX": "/no/compiler"})
    assert done.returncode == 0 and done.stdout.count("warning: torch.compile failed") == 1
    assert "torch.compile False" in done.stdout and "step 4/4" in done.stdout

# ---- Numbers that are not finite, float16 ------------------------------------------------------
def test_steps_that_are_not_finite_are_skipped_and_twenty_end_a_run(given, tmp_path, capsys):
    given |= dict(warmup_steps=0, lr=4e9, grad_clip=0)
    with pytest.raises(UserError, match="20 steps in a row were skipped: set a lower lr"):
        train(**given, max_steps=50, eval_interval=40, out_dir=tmp_path / "long")
    assert capsys.readouterr().out.count("is skipped") == 20
    with pytest.raises(UserError, match="the weights are broken: set a lower lr"):
        train(**given, max_steps=3, out_dir=tmp_path / "short")
    for path in tmp_path.rglob("*.pt"):
        assert all(torch.isfinite(p).all() for p in T.load_checkpoint(path)["model"].values())

def test_float16_skips_a_step_that_overflows_at_half_the_loss_scale_which_grows_again():
    learner = learner_of(dtype="float16")
    losses = [learner.step(windows_of(), step, 0.02)[0] for step in range(5)]
    assert losses[-1] < losses[0] - 0.1 and learner.loss_scale == 65_536
    before = copy.deepcopy(learner.state())
    learner.loss_scale = 1e30
    loss, norm, _ = learner.step(windows_of(), 5, 0.02)
    assert loss < losses[0] and not math.isfinite(norm)
    assert_same(learner.state(), before | {"loss_scale": 5e29})
    learner.load(before)
    learner.step(windows_of(), 1999, 0.02)
    assert learner.loss_scale == 131_072

def test_a_rehearsal_leaves_the_initial_weights_also_where_float16_overflows():
    learner = learner_of(dtype="float16", compile=False)
    initial = copy.deepcopy(learner.state()) | {"loss_scale": 1e30}
    learner.load(initial)
    T.rehearse(learner, windows_of(), initial)
    assert_same(learner.state()["model"], initial["model"])

def test_an_eval_takes_windows_from_all_over_val_and_counts_their_bytes(home, tmp_path):
    result = train(**SMALL_RUN, data_dir=home / "data", max_steps=1, out_dir=tmp_path)
    model, tokenizer = load(tmp_path / "ckpt.pt")
    val = np.fromfile(home / "data/python/val.bin", "<u2").astype(np.int64)
    starts = 64 * (np.arange(32) * ((len(val) - 1) // 64) // 32)
    assert starts[-1] > 0.9 * len(val)
    windows = torch.from_numpy(np.stack([val[start:start + 65] for start in starts]))
    loss = model(windows[:, :-1], windows[:, 1:]).item()
    assert result["val_loss"] == pytest.approx(loss, abs=1e-5)
    ids = windows[:, 1:].flatten().tolist()
    n_bytes = sum(len(tokenizer.token_bytes(i)) for i in ids if i != tokenizer.endoftext)
    assert result["bpb"] == pytest.approx(loss * len(ids) / math.log(2) / n_bytes)

# ---- Resuming, finetuning, checkpoints ---------------------------------------------------------
@pytest.mark.parametrize("name, value", [
    ("lr", 0.5), ("seed", 1), ("d_model", 16), ("max_steps", 9), ("weight_decay", 0.0),
    ("dropout", 0.1), ("grad_accum_steps", 8), ("eval_tokens", 128), ("dataset", "chars")])
def test_no_other_run_is_overwritten_and_what_differs_is_named(given, runs, tmp_path, name, value):
    shutil.copytree(runs / "out" / "bytes", tmp_path, dirs_exist_ok=True)
    given |= TWENTY_STEPS | dict(batch_size=32, grad_accum_steps=1, out_dir=tmp_path)
    named = {"grad_accum_steps": "tokens_per_step", "dataset": "data"}.get(name, name)
    with pytest.raises(UserError, match=f"holds another run, with .*{named}.*set another out_dir"):
        train(**given | {name: value})
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (runs / "out" / "bytes" / file.name).read_bytes()

def test_a_finished_run_says_how_to_train_on_and_so_does_a_refusal_and_it_works(given, tmp_path):
    command = flags(**given, max_steps=40, out_dir=tmp_path / "my run")
    told = [run("train.py", *command, cwd=tmp_path).stdout for _ in range(2)]
    told.append(python("train.py", *command, "--max_steps=60", cwd=tmp_path).stderr)
    adding = {re.search("(?:add|adding) (--init_from=.*)", text)[1] for text in told}
    assert len(adding) == 1 and "finished: " in told[1] and "step 40/40" not in told[1]
    run("train.py", *command, *shlex.split(*adding), cwd=tmp_path)
    first, more = rows(tmp_path / "my run"), rows(tmp_path / "my run-more")
    assert more[0]["val_loss"] == min(row["val_loss"] or "9" for row in first)
    assert float(more[-1]["val_loss"]) < float(more[0]["val_loss"])

def test_init_from_takes_a_run_or_a_file_with_its_shape(given, runs, tmp_path):
    base = runs / "out" / "bytes"
    del given["d_model"], given["max_seq_len"]
    for source in (base, base / "ckpt.pt"):
        out_dir = tmp_path / source.stem
        result = train(**given, max_steps=1, init_from=source, dropout=0.1, out_dir=out_dir)
        assert result["step"] == 1 and load(out_dir)[0].config.d_model == 32
    with pytest.raises(UserError, match="init_from=.* has another shape or tokenizer"):
        train(**given, d_model=64, init_from=base, out_dir=tmp_path / "other")

def test_a_damaged_checkpoint_is_set_aside_for_the_one_before_it(given, runs, tmp_path, capsys):
    sound, before = (runs / "out" / "bytes" / name for name in ("ckpt.pt", "ckpt_prev.pt"))
    data, dice, fell_back = sound.read_bytes(), random.Random(0), []
    damaged = [data[:len(data) * i // 20] for i in range(20)]  # cut; then one byte flipped
    for place in (dice.randrange(len(data)) for _ in range(60)):
        flipped = bytes([data[place] ^ dice.randrange(1, 256)])
        damaged.append(data[:place] + flipped + data[place + 1:])
    for content in damaged:
        (tmp_path / "ckpt.pt").write_bytes(content)
        shutil.copy(before, tmp_path / "ckpt_prev.pt")
        newest, told = T.newest_checkpoint(tmp_path), capsys.readouterr().out
        fell_back.append(newest.name == "ckpt_prev.pt")
        if fell_back[-1]:  # one line, and nothing is lost
            assert told.count("\n") == 1 and "ckpt.pt is damaged" in told
            assert (tmp_path / "ckpt.pt.damaged").read_bytes() == content
        else:
            assert_same(T.load_checkpoint(newest)["model"], T.load_checkpoint(sound)["model"])
    assert all(fell_back[:20]) and sum(fell_back[20:]) > 45
    for name in ("ckpt.pt", "ckpt_prev.pt"):
        (tmp_path / name).write_bytes(b"torn")
    for _ in range(2):  # where none is left, nothing is overwritten
        with pytest.raises(UserError, match="cannot be resumed: set another out_dir"):
            train(**given, out_dir=tmp_path)
    assert len(list(tmp_path.glob("*.damaged"))) == 2

def test_files_that_are_no_checkpoint_are_one_line_and_a_pickle_runs_no_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    nanogpt = {"model": {"transformer.wte.weight": torch.zeros(3, 3)}, "config": {}, "iter_num": 5}
    for thing in (nanogpt, [1, 2], torch.zeros(3), {"tokenizer": Bomb()}):
        torch.save(thing, tmp_path / "file.pt")
        with pytest.raises(UserError, match="file.pt is damaged, or not a checkpoint of train.py"):
            T.load_checkpoint(tmp_path / "file.pt")
    assert not (tmp_path / "exploded").exists()
    (tmp_path / "ckpt.pt").mkdir()  # a file that cannot be read just now
    with pytest.raises(OSError):
        T.newest_checkpoint(tmp_path)
    assert (tmp_path / "ckpt.pt").exists()

def test_files_of_format_1_give_their_weights_and_of_format_2_everything(tmp_path):
    shutil.copytree(HERE / "assets" / "v1" / "readme", tmp_path / "readme")
    given = dict(size="toy", d_model=16, n_heads=2, max_seq_len=32, max_steps=20, eval_interval=10,
                 device="cpu", dataset="readme", data_dir=tmp_path)
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        shutil.copy(HERE / "assets" / version / "ckpt.pt", tmp_path / version)
        model, tokenizer = load(tmp_path / version)
        assert tokenizer.decode(tokenizer.encode("A GPT trainer")) == "A GPT trainer"
    with pytest.raises(UserError, match=r"another run, with {'format': 1}.*--init_from="):
        train(**given, out_dir=tmp_path / "v1")
    result = train(**given, out_dir=tmp_path / "v2")
    assert result["step"] == 20 and result["val_loss"] == pytest.approx(3.2677, abs=0.01)

def test_a_disk_that_is_full_is_a_warning_and_an_error_at_the_end(given, runs, tmp_path):
    """A file of more than half a checkpoint fails, as on a full disk."""
    command, file = flags(**given, **TWENTY_STEPS, out_dir=tmp_path), tmp_path / "ckpt.pt"
    run("train.py", *command, "--stop_after=0.001", cwd=tmp_path)
    before = file.read_bytes()
    limit = len(before) // 2
    done = python("train.py", *command, cwd=tmp_path, preexec_fn=lambda:
                  resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "make room" in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout.count("ckpt.pt could not be saved") == 3
    assert file.read_bytes() == before
    run("train.py", *command, cwd=tmp_path)
    assert_same_run(tmp_path, runs / "out" / "bytes")
    assert not list(tmp_path.glob("*.tmp"))

# ---- What users meet ---------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["persian", "chinese", "crlf"])
def test_samples_show_what_the_model_writes_in_any_script(tmp_path, name):
    path = shared(f"inputs/{name}.txt")
    text = path.read_bytes().decode().replace("\r\n", "\n")
    run("prepare.py", f"--input={path}", "--tokenizer=char", "--val_fraction=0.2", cwd=tmp_path)
    back = read_back(tmp_path / "data" / name)
    assert_has_all_of(back["train"] + back["val"], text)
    trained = run("train.py", *flags(**SMALL_RUN, dataset=name, max_steps=60), cwd=tmp_path)
    sampled = python("sample.py", "--max_new_tokens=300", cwd=tmp_path, text=False, encoding=None)
    characters = set(text) | {"\n"}
    sample = trained.stdout.split("\nsample: ")[-1].split("\n\nfinished: ")[0]
    assert set(sample) <= characters and len(sample) > 20
    assert set(sampled.stdout.decode("utf-8")) <= characters and len(sampled.stdout) > 100

def test_a_terminal_that_lacks_characters_ends_no_run(given, tmp_path):
    command = flags(**given, max_steps=2, out_dir="caf\u00e9")
    done = python("train.py", *command, cwd=tmp_path, env=ENV | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and "run        caf?, new" in done.stdout and done.stdout.isascii()

def test_train_leaves_globals_and_signal_handlers_as_it_found_them(given, tmp_path):
    states = []
    for _ in range(2):
        handlers = list(map(signal.getsignal, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)))
        states.append(({name: getattr(T, name) for name in T.SETTINGS}, handlers))
        train(**given, max_steps=2, out_dir=tmp_path)
    assert states[0] == states[1]

def test_help_tells_every_setting_with_its_comment_and_the_table_knows_them_all(home):
    text = run("train.py", "--help", cwd=home).stdout
    assert set(re.findall(r"^(\w+) = \S+ +# \w", text, re.M)) == set(T.SETTINGS)

def notebook_outputs(folder, *sources):
    """What cells print, executed in a real Jupyter kernel one after the other; errors included."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)))
    client = nbclient.NotebookClient(notebook, timeout=300, allow_errors=True,
                                     resources={"metadata": {"path": str(folder)}})
    client.execute()
    return ["".join(output.get("text", "") + "\n".join(output.get("traceback", ""))
                    for output in cell.outputs) for cell in notebook.cells]

def cell_of(script, **settings):
    """A script as somebody pastes it, with settings edited at its top."""
    source = (HERE / script).read_text(encoding="utf-8")
    for name, value in settings.items():
        source, n = re.subn(rf"^{name} = \S+", f"{name} = {value!r}", source, count=1, flags=re.M)
        assert n == 1, name
    return source

def test_three_cells_prepare_train_and_sample_twice_and_in_any_order(tmp_path):
    prepare_cell, train_cell = cell_of("prepare.py"), cell_of("train.py", **SMALL_RUN, max_steps=10)
    section = (HERE / "README.md").read_text(encoding="utf-8").split("## Notebooks and Colab")[1]
    sample_cell = re.search(r"```python\n(.*?)```", section, re.S)[1].replace("-tiny", "-toy")
    cells = [prepare_cell, train_cell, sample_cell]
    outputs = notebook_outputs(
        tmp_path, *cells, *cells, train_cell, prepare_cell, sample_cell,
        "train(); prepare()", "print('input' in globals())", "train(lr=-1)")
    prepared, trained, sampled, there, finished, again, *others, calls, shadowed, wrong = outputs
    assert "documents" in prepared and there == prepared.splitlines(True)[-1]
    assert "step 10/10" in trained and "finished: " in finished and len(sampled) > 30
    assert "finished: " in others[0] and others[1] == there
    assert sampled == again == others[2] and "finished: " in calls and shadowed == "False\n"
    assert wrong == "error: lr must be a number above 0, not -1"

def test_percent_run_of_each_script_and_a_mistake_there_is_one_line(home, tmp_path):
    shutil.copytree(home / "data", tmp_path / "data")
    small = " ".join(flags(**SMALL_RUN))
    commands = (
        "prepare.py --dataset=python --overwrite", f"train.py {small} --max_steps=3",
        "sample.py --max_new_tokens=20", "gpt.py --size=toy", "train.py --lr=x",
        "train.py --init_from=nothing", "sample.py --top_k=0", "prepare.py --input=nothing",
        "gpt.py --plot out/none")
    made, trained, sampled, table, *wrong = notebook_outputs(
        tmp_path, *(f"%run {HERE}/{command}" for command in commands))
    assert "is ready" in made and "finished: " in trained
    assert len(sampled) > 20 and "953,856" in table
    for text, says in zip(wrong, ("lr must be", "nothing", "top_k", "nothing", "none")):
        assert re.fullmatch(f"error: .*{says}.*", text.strip()), text

# ---- gpt.py: the sizes on paper ----------------------------------------------------------------
def test_medium_with_32000_tokens_untied_has_134_601_216_parameters():
    config = replace(MEDIUM, vocab_size=32_000, max_seq_len=512, tie_weights=False)
    with torch.device("meta"):
        assert T.count(GPT(config)) == 134_601_216
    table = gpt.describe("medium", config)
    assert table["  total"] == "134,601,216" and table["  head"] == f"{32_000 * 768:,}"

def test_the_printed_counts_are_those_of_models_with_weights(call):
    lines = call(gpt).out.splitlines()
    assert max(map(len, lines)) <= 120
    table = {line[:44].strip(): line[44:].split() for line in lines}
    for i, config in enumerate((TOY, TINY, SMALL, MEDIUM)):
        model = GPT(config)
        assert table["total"][i] == f"{T.count(model):,}"
        assert table["MLP"][i] == f"{sum(T.count(block.mlp) for block in model.blocks):,}"

@pytest.mark.parametrize("half", [True, False], ids=["half", "float32"])
@pytest.mark.parametrize("config", [TOY, TINY], ids=["toy", "tiny"])
def test_the_activations_on_paper_are_what_autograd_keeps(config, half):
    model, kept = GPT(config), {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor):  # alive, so that no address is used twice
        return kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)

    for model.grad_checkpoint in (False, True):
        kept.clear()
        ids = torch.randint(config.vocab_size, (2, config.max_seq_len + 1))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                model(ids[:, :-1], ids[:, 1:])
        n_bytes = sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items()
                      if address not in weights)
        if half:  # without the copies of the weights, which do not grow with the tokens
            source = model.head if model.grad_checkpoint else model
            n_bytes -= 2 * sum(p.numel() for p in source.parameters()
                               if p.dim() == 2 and p is not model.pos_emb.weight)
        on_paper, _ = gpt.activation_bytes(config, half, model.grad_checkpoint)
        assert on_paper == pytest.approx(n_bytes / (2 * config.max_seq_len), rel=0.01)

# ---- gpt.py: load and the tokenizer ------------------------------------------------------------
def test_load_gives_the_best_weights_and_tokenizer_also_where_fields_are_missing(runs, tmp_path):
    checkpoint = T.load_checkpoint(runs / "out" / "bytes" / "best.pt")
    model, tokenizer = load(runs / "out" / "bytes")
    assert_same(model.state_dict(), checkpoint["model"])
    assert not model.training
    assert model.head.weight is model.tok_emb.weight and tokenizer.endoftext == 256
    assert tokenizer.encode(f"é{EOT}") == [0xc3, 0xa9, 256]
    model(torch.tensor([[1, 2]]), torch.tensor([[2, 3]])).backward()  # it can be trained
    for name in ("mlp_ratio", "bias", "dropout"):
        del checkpoint["config"][name]
    checkpoint["config"]["rotary"] = False  # nor does an unknown field matter
    torch.save(checkpoint, tmp_path / "other.pt")
    assert load(tmp_path / "other.pt")[0].config == model.config

def test_a_path_means_a_file_or_a_runs_best_else_its_latest_or_the_newest_run(tmp_path):
    for written, folder in ((1e9, tmp_path / "b"), (2e9, tmp_path / "a")):
        folder.mkdir()
        for name in ("ckpt_prev.pt", "ckpt.pt", "best.pt"):  # each goes before those before it
            (folder / name).touch()
            os.utime(folder / name, (written, written))
            for path in (folder, folder / name, tmp_path):
                assert gpt.checkpoint_file(str(path)) == str(folder / name)
    os.utime(tmp_path / "b" / "ckpt.pt", (3e9, 3e9))  # a run is as new as its latest file
    assert gpt.checkpoint_file(tmp_path) == str(tmp_path / "b" / "best.pt")

TEXTS = ["All human beings are born free and equal.", "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι.",
         "Все люди рождаются свободными.", "يولد جميع الناس أحرارًا", "सभी मनुष्यों को जन्मजात",
         "人人生而自由,在尊严和权利上一律平等。", "すべての人間は、自由である。",
         "모든 인간은 태어날 때부터", "👩‍👩‍👧 \t\r\n\x00 \u200b end", "", " ", "a \n\n\n  b\t\t",
         "  x = 1\r\n\x85\u2028\u3000 y  ",
         f"{EOT}a{EOT}{EOT} b\n{EOT}\n", (HERE / "train.py").read_text(encoding="utf-8"),
         "".join(map(chr, [*range(0xD800), *range(0xE000, 0x11000)]))]

def test_text_of_any_script_comes_back_from_its_tokens_and_any_ids_decode(home, runs):
    spec = json.loads((home / "data" / "python" / "meta.json").read_text())["tokenizer"]
    assert spec["pattern"] == gpt.BPE_PATTERN
    tokenizer = gpt.Tokenizer(spec)
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    for tokenizer in (gpt.Tokenizer(spec), load(runs / "out" / "chars")[1]):
        tokenizer.decode(range(tokenizer.endoftext))
        assert tokenizer.decode(torch.tensor([tokenizer.endoftext])) == EOT
        assert tokenizer.decode([-1, 10**9]) == "\ufffd" * 2 and tokenizer.decode([]) == ""

# ---- gpt.py: Hugging Face ----------------------------------------------------------------------
def checkpoint_of(path, tokens, pattern=gpt.GPT2_PATTERN, **shape):
    """A .pt file of a model with random weights and GPT-2's kind of tokenizer."""
    model = random_gpt(vocab_size=len(tokens) + 1, max_seq_len=64, d_model=32, n_heads=4,
                       n_layers=2, **shape)
    spec = {"name": "bpe", "pattern": pattern, "tokens": base64_of(tokens)}
    torch.save({"format": 2, "model": model.state_dict(), "config": asdict(model.config),
                "tokenizer": spec}, path)
    return path

@torch.no_grad()
def assert_same_in_transformers(transformers, run, folder):
    """An exported folder opens in transformers: the same logits, tokens and greedy text."""
    ours, tokenizer = load(run)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert their_tokenizer(text)["input_ids"] == ids and their_tokenizer.decode(ids) == text
    end = tokenizer.endoftext
    assert {end} == {their_tokenizer.eos_token_id, theirs.config.eos_token_id,
                     theirs.generation_config.eos_token_id, len(their_tokenizer) - 1}
    ids = torch.randint(end, (3, 32), generator=torch.Generator().manual_seed(0))
    a, b = ours(ids), theirs(ids).logits
    assert a.shape == b.shape and (a - b).abs().max() < 1e-5 * max(1, b.abs().max())
    text = torch.cat(list(ours.generate(ids[:1], 20, temperature=0))).tolist()
    theirs = theirs.generate(ids[:1], max_new_tokens=20, do_sample=False)[0, 32:].tolist()
    assert theirs == [token for i, token in enumerate(text) if end not in text[:i]]

@pytest.mark.parametrize("n_tokens, shape", [
    (256, {}), (500, {"bias": False, "pattern": gpt.BPE_PATTERN}),
    (4096, {"tie_weights": False, "mlp_ratio": 2}),
    (20_000, {"tie_weights": False, "bias": False, "pattern": gpt.BPE_PATTERN})])
def test_an_exported_run_is_the_same_in_transformers(tmp_path, transformers, n_tokens, shape):
    library = Path(sysconfig.get_path("stdlib")).glob("*.py")
    texts = [path.read_text(encoding="utf-8", errors="ignore") for path in sorted(library)]
    tokens = train_bpe(texts, n_tokens) if n_tokens > 256 else BYTES
    path = checkpoint_of(tmp_path / "run.pt", tokens, **shape)
    gpt.export(path, tmp_path / "export")
    assert_same_in_transformers(transformers, path, tmp_path / "export")
    gpt.import_gpt2(tmp_path / "export", tmp_path / "back")
    assert load(tmp_path / "back")[1].spec["pattern"] == load(path)[1].spec["pattern"]

def gpt2_folder(transformers, folder, end_first=False, words=(), **config):
    """A random GPT-2 of transformers, and a tokenizer by tokenizers: the text's 500 tokens."""
    import tokenizers
    bpe = tokenizers.ByteLevelBPETokenizer(**dict(words))
    bpe.train_from_iterator(TEXTS, vocab_size=500, special_tokens=[EOT] if end_first else [])
    bpe.add_special_tokens([EOT])
    transformers.PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**{
        "vocab_size": bpe.get_vocab_size(), "n_positions": 64, "n_embd": 32, "n_head": 4,
        "n_layer": 2} | config))
    for p in model.parameters():
        p.data += 0.1 * torch.randn(p.shape)
    model.save_pretrained(folder)
    return model.eval(), bpe

@pytest.mark.parametrize("how", [
    {}, {"end_first": True, "tie_word_embeddings": False, "n_inner": 64}, {"vocab_size": 512}],
    ids=["last", "first", "rows"])
def test_an_imported_gpt2_is_the_same_here(transformers, tmp_path, how):
    from transformers.convert_slow_tokenizer import bytes_to_unicode
    theirs, bpe = gpt2_folder(transformers, tmp_path / "theirs", **how)
    config = gpt.import_gpt2(tmp_path / "theirs", tmp_path / "run")
    ours, tokenizer = load(tmp_path / "run")
    assert ours.config == config and tokenizer.endoftext == config.vocab_size - 1
    alphabet = bytes_to_unicode()
    tokens = map(tokenizer.token_bytes, range(tokenizer.endoftext))
    texts = ["".join(alphabet[byte] for byte in token) for token in tokens]
    their_ids = torch.tensor([bpe.token_to_id(text) for text in [*texts, EOT]])
    for text in TEXTS:
        assert their_ids[tokenizer.encode(text)].tolist() == bpe.encode(text).ids
    ids = torch.randint(config.vocab_size, (3, 64))
    a, b = ours(ids), theirs(their_ids[ids]).logits[..., their_ids]
    assert (a - b).abs().max() < 1e-5 * max(1, b.abs().max())

@pytest.mark.parametrize("config, words, says", [
    ({"activation_function": "relu"}, {}, "activation_function is relu"),
    ({}, {"add_prefix_space": True}, "tokenizer"), ({}, {"lowercase": True}, "tokenizer"),
    ({"scale_attn_by_inverse_layer_idx": True}, {}, "scale_attn_by_inverse_layer_idx")])
def test_a_model_that_would_not_be_the_same_here_is_not_imported(transformers, tmp_path, config,
                                                                 words, says):
    gpt2_folder(transformers, tmp_path / "theirs", words=words, **config)
    with pytest.raises(UserError, match=f"is not a GPT-2 to import: its {says}"):
        gpt.import_gpt2(tmp_path / "theirs", tmp_path / "run")
    assert not (tmp_path / "run").exists()

def test_an_imported_gpt2_is_sampled_finetuned_and_exported_again(transformers, tmp_path,
                                                                  monkeypatch):
    (tmp_path / "my.txt").write_text("One day, Lily's dog ran to the sea.\n\n" * 400)
    theirs, _ = gpt2_folder(transformers, tmp_path / "theirs")
    told = run("gpt.py", "--import=theirs", "out/gpt2", cwd=tmp_path).stdout.splitlines()
    assert told[0].startswith('out/gpt2 is ready: python sample.py "out/gpt2"') and len(told) == 3
    run("sample.py", "out/gpt2", "--prompt=One day", "--max_new_tokens=9", cwd=tmp_path)
    run(*shlex.split(told[1])[1:], cwd=tmp_path)  # the commands that it printed
    run(*shlex.split(told[2])[1:], "--max_steps=2", "--batch_size=8", "--grad_accum_steps=1",
        "--eval_tokens=0", "--out_dir=out/fine", "--device=cpu", cwd=tmp_path)

    val = np.fromfile(tmp_path / "data" / "my-gpt2" / "val.bin", "<u2").astype(np.int64)
    n = (len(val) - 1) // 64
    inputs, targets = (torch.from_numpy(val[i:i + 64 * n]).view(n, 64) for i in (0, 1))
    logits = theirs(inputs).logits.flatten(0, 1)
    loss = torch.nn.functional.cross_entropy(logits, targets.flatten()).item()
    assert float(rows(tmp_path / "out" / "fine")[0]["val_loss"]) == pytest.approx(loss, abs=1e-5)
    run("gpt.py", "--export=again", "out/fine", cwd=tmp_path)
    assert_same_in_transformers(transformers, tmp_path / "out" / "fine", tmp_path / "again")
    for action in ("--export=again", "--import=theirs"):  # neither writes over anything
        assert "File exists" in complaint("gpt", [action, "out/fine"], monkeypatch, tmp_path)

# ---- gpt.py: curves ----------------------------------------------------------------------------
def test_the_losses_of_runs_are_drawn_against_tokens_flops_and_seconds(runs, tmp_path, call):
    pytest.importorskip("matplotlib")
    call(gpt, "--plot", "out/bytes", "out/chars/best.pt", f"--save={tmp_path / 'a.png'}")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    figure = gpt.plot(runs / "out" / "bytes", runs / "out" / "chars")
    assert [axis.get_xlabel() for axis in figure.axes] == [
        "training tokens", "training FLOPs", "training seconds"]
    log, flops = rows(runs / "out" / "bytes"), T.flops_per_token(load(runs / "out" / "bytes")[0])
    evals = [row for row in log if row["val_loss"] and int(row["step"])]  # a log axis has no 0
    for axis, factor in zip(figure.axes, (1, flops)):
        val, loss = axis.lines[:2]
        assert val.get_xdata().tolist() == [factor * float(row["tokens"]) for row in evals]
        assert val.get_ydata().tolist() == [float(row["val_loss"]) for row in evals]
        assert len(loss.get_xdata()) == len(log) > len(evals)

# ---- gpt.py: scaling laws ----------------------------------------------------------------------
LAW = 1.7, 40.0, 0.35, 150.0, 0.37  # E, A, alpha, B, beta

def log_by_law(path, N, flops, off=0.0):
    """The log of a finished run of N parameters whose loss is what a law says, or a bit off."""
    D = flops / 6 / N
    path.write_text("step,tokens,loss,val_loss,lr,flops,params,blocks\n"
                    f"0,0,,9,,0,{N},{N / 4}\n1,{D / 9},9,,0.01,{flops / 9},,\n"
                    f"9,{D},,{gpt.law(N, D, *LAW) + off},0.0004,{flops},,\n")
    return path

def test_isoflop_and_fit_find_the_law_that_runs_follow(tmp_path, call):
    pytest.importorskip("matplotlib")
    best = {flops: gpt.best_size(flops, *LAW) for flops in (1e13, 1e14, 1e15)}
    logs = [log_by_law(tmp_path / f"{flops}-{size}.csv", size * best[flops], flops)
            for flops in best for size in (0.3, 0.6, 1.2, 2.4, 4.8)]
    told = call(gpt, "--isoflop", *logs, f"--save={tmp_path / 'iso.png'}").out
    assert (tmp_path / "iso.png").read_bytes().startswith(b"\x89PNG")
    table = [[float(number) for number in re.findall(r"-?[\d.]+(?:e.\d+)?", line)]
             for line in told.splitlines()[1:5]]
    for flops, N, low, high, *_ in table[:3]:
        assert N * 1e6 == pytest.approx(best[flops], rel=0.03)
        assert low <= N <= high < 1.1 * low
    slopes = table[3]  # of N, its interval, of N in the blocks, its interval, of D
    assert slopes[0] == pytest.approx(0.37 / 0.72, abs=0.01) == slopes[3]
    assert slopes[6] == pytest.approx(0.35 / 0.72, abs=0.01)

    nxt = log_by_law(tmp_path / "next.csv", 5e6, 5e15, off=0.5)
    told = call(gpt, "--fit", *logs, f"--predict={nxt}").out.splitlines()
    found = {line.split()[0]: float(line.split()[1]) for line in told[1:6]}
    for name, number, within in zip(found, LAW, (0.1, 10, 0.03, 60, 0.03), strict=True):
        assert found[name] == pytest.approx(number, abs=within)
    assert told[-4].startswith("Next, five times the compute")
    assert told[-3].startswith("python train.py --size=") and told[-3].endswith(" --flops=5e+15")
    loss, expected = (float(number) for number in re.findall(r"\d\.\d+", told[-1])[:2])
    assert loss - expected == pytest.approx(0.5, abs=0.01) and told[-1].startswith("next: ")

def test_a_minimum_needs_two_sizes_on_either_side_and_finished_runs(tmp_path):
    pytest.importorskip("matplotlib")
    best = gpt.best_size(1e14, *LAW)
    logs = [log_by_law(tmp_path / f"{size}.csv", size * best, 1e14)
            for size in (0.6, 1.2, 2.4, 4.8)]
    assert "none: two sizes must lie on either side" in gpt.isoflop(*logs)[1]
    logs.append(log_by_law(tmp_path / "small.csv", 0.3 * best, 1e14))
    assert "none" not in gpt.isoflop(*logs)[1]
    logs[0].write_text(logs[0].read_text().replace(",0.0004,", ",0.009,"))  # the rate is high
    for function in (lambda: gpt.isoflop(*logs), lambda: gpt.describe_fit(logs)):
        with pytest.raises(UserError, match="0.6 is not the log of a finished run"):
            function()

# ---- sample.py ---------------------------------------------------------------------------------
def test_the_newest_run_writes_a_document_from_any_folder(runs, tmp_path, call):
    done = run("sample.py", runs / "out", "--max_new_tokens=40", cwd=tmp_path)
    assert 10 < len(done.stdout) <= 41 and EOT not in done.stdout
    assert re.search(r"^--- \S+chars.best\.pt, [\d,]+ parameters on \w+, seed 1337$", done.stderr,
                     re.M)
    for newest in (["out/chars"], []):
        assert call(sample, *newest, "--max_new_tokens=40").out == done.stdout

def test_the_same_command_writes_the_same_text_and_each_sample_has_its_seed(call):
    command = ("out/bytes", "--prompt=import os", "out/chars", "--max_new_tokens=30")
    printed = call(sample, *command, "--num_samples=3", "--seed=5").out
    assert printed == call(sample, *command, "--num_samples=3", "--seed=5").out
    headings = re.findall(r"^--- out.(\w+).*seed (\d)$", printed, re.M)
    assert headings == [(name, seed) for name in ("bytes", "chars") for seed in "567"]
    texts = [part.split("\n", 1)[1] for part in printed.split("\n--- ")[1:]]
    assert len(set(texts)) == 6 and all(text.startswith("import os") for text in texts)
    assert call(sample, command[0], *command[1::2], "--seed=7").out == texts[2]

def test_a_prompt_comes_from_a_file_or_from_standard_input(runs, tmp_path, call):
    (tmp_path / "prompt.txt").write_text("import os\n", "utf-8-sig")  # as Windows' Notepad does
    expected = call(sample, "out/bytes", "--prompt=import os", "--max_new_tokens=5").out
    file = f"--prompt=FILE:{tmp_path / 'prompt.txt'}"
    assert call(sample, "out/bytes", file, "--max_new_tokens=5").out == expected
    done = python("sample.py", "out/bytes", "--prompt=-", "--max_new_tokens=5", cwd=runs,
                  input="import os\n")
    assert done.stdout == expected

def model_that_writes(path, *pieces, endless=False):
    """A checkpoint whose model writes these pieces of bytes, a token each, then <|endoftext|>."""
    tokens = [*BYTES, *(piece for piece in pieces if len(piece) > 1)]
    n, chain = len(tokens) + 1, [len(tokens), *map(tokens.index, pieces)]
    config = GPTConfig(vocab_size=n, max_seq_len=8, d_model=n, n_heads=1, n_layers=1,
                       tie_weights=False)
    weights = {name: torch.zeros_like(p) for name, p in GPT(config).state_dict().items()}
    weights["ln_f.weight"] += 1  # the blocks add nothing: the head alone decides
    weights["tok_emb.weight"] = torch.eye(n)
    weights["ln_f.bias"] += 1 / math.sqrt(n - 1)  # then what it reads is zero but at the token
    weights["head.weight"][chain[1]] = 0.1        # after a prompt the first piece
    for token, following in zip(chain, [*chain[1:], chain[-1] if endless else chain[0]]):
        weights["head.weight"][following, token] = 1
    torch.save({"format": 2, "model": weights, "config": asdict(config),
                "tokenizer": spec_of(tokens)}, path)
    return path

ODD = "👩\u200d💻 \u200b\xa0\u3000\r\x1b[1m\x07é文\x00"

def test_what_the_model_writes_is_what_is_shown_to_the_byte(tmp_path):
    data = ODD.encode()
    pieces = [data[:2], data[2:5], data[5:9], data[9:10], data[10:], b"\xe2", b"\x82", b"\xac"]
    model = model_that_writes(tmp_path / "odd.pt", *pieces)
    plain = {name: value for name, value in ENV.items() if name != "PYTHONIOENCODING"}
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ascii_terminal = ENV | {"PYTHONIOENCODING": "ascii"}
    text = f"{ODD}€\n"
    for env, expected in ((plain, text.encode()), (plain | ascii_locale, text.encode()),
                          (ascii_terminal, text.encode("ascii", "replace"))):
        done = python("sample.py", model, "--temperature=0", cwd=tmp_path, env=env, text=False,
                      encoding=None)
        assert done.returncode == 0 and done.stdout == expected, done.stderr

def test_only_bytes_that_are_never_utf8_become_a_replacement_character(tmp_path, call):
    model = model_that_writes(tmp_path / "a.pt", b"a", b"\xff", b"b", b"\xe2", b"\x82")
    assert call(sample, model, "--temperature=0").out == "a\ufffdb\n"
    assert call(sample, model, "--temperature=0", f"--prompt={ODD}").out == f"{ODD}a\ufffdb\n"

def test_a_table_of_prompts_lines_up_in_80_columns_in_chinese_too(tmp_path, call):
    file = tmp_path / "prompts.txt"
    file.write_text("def wrap(self, text):\n\n人人生而自由,在尊严和权利上一律平等。\n"
                    "lines of many words, cut at the spaces\ne\u0301te\u0301\n", encoding="utf-8")
    pieces = [character.encode() for character in "すべての人間は、自由である!\nx"]
    model = model_that_writes(tmp_path / "zh.pt", *pieces)
    table = call(sample, "out/bytes", model, f"--prompts={file}", "--temperature=0").out
    lines = table.splitlines()
    assert lines[0].split()[:2] == ["prompt", "out/bytes/best.pt"]
    assert max(map(sample.width, lines)) <= 80 and sample.width("人e\u0301") == 3
    for start in ("def wrap(self, text):", "人人生而自由,在尊严和权", "e\u0301te\u0301"):
        line = next(line for line in lines if line.startswith(start))
        assert sample.width(line[:line.index("す")]) == 2 * (80 // 3)
    assert "平等。" in table and "\nat the spaces" in table

def test_a_chat_asks_as_the_training_text_does_and_ends_before_the_next_turn(tmp_path, call):
    talks = "User: Who?\nAssistant: Me,\nBob.\nUser: X", "User: Why?\nAssistant: So.\nUser: X"
    (tmp_path / "chats.txt").write_text(EOT.join(talks * 200))
    (tmp_path / "q.txt").write_text("Why?\nWho?\n")
    prepare.prepare(*flags(input=tmp_path / "chats.txt", data_dir=tmp_path, tokenizer="char"))
    train(**SMALL_RUN, dataset="chats", max_steps=150, batch_size=8, grad_accum_steps=1,
          data_dir=tmp_path, out_dir=tmp_path)  # until it knows them by heart
    table = call(sample, tmp_path, "--chat", "--temperature=0", f"--prompts={tmp_path}/q.txt").out
    assert re.findall(r"^(Wh.\?) +(.*)", table, re.M) == [("Why?", "So."), ("Who?", "Me,")]
    asked = call(sample, tmp_path, "--chat", "--temperature=0", "--prompt=Who?").out
    assert asked == "Who?\nMe,\nBob.\n"  # and not User: X after it

def shell(command, cwd):
    command = command.replace("python ", f"{shlex.quote(sys.executable)} {HERE}/")
    return subprocess.run(command, shell=True, cwd=cwd, env=ENV, capture_output=True, text=True)

def test_a_pipe_to_head_and_a_closed_stdout_are_no_traceback(tmp_path, runs):
    model_that_writes(tmp_path / "a.pt", b"a", endless=True)
    endless = "python sample.py a.pt --temperature=0 --max_new_tokens=1000000"
    done = shell(f"{endless} | head -c 5", tmp_path)
    assert done.stdout == "aaaaa" and done.stderr.endswith("seed 1337\n")
    done = shell("python gpt.py | head -1", tmp_path)
    assert done.stdout.split() == ["toy", "tiny", "small", "medium"] and not done.stderr
    done = shell("python sample.py out/bytes --max_new_tokens=5 >&-", runs)
    assert done.returncode == 0 and done.stderr.endswith("seed 1337\n")

@pytest.mark.parametrize("command", [["gpt.py", "--plot", "none.csv"], ["sample.py", "--sede=1"]])
def test_a_mistake_is_told_on_stderr_with_exit_status_2(tmp_path, command):
    done = python(*command, cwd=tmp_path)
    assert done.returncode == 2 and not done.stdout
    assert re.fullmatch(f"error: .*{command[-1]}.*\n", done.stderr)

# ---- prepare.py: documents ---------------------------------------------------------------------
def read_back(folder):
    """The documents of each split, decoded. Checks that meta.json is true of the files."""
    meta = json.loads((folder / "meta.json").read_text("utf-8"))
    tokenizer, documents, end = T.load_tokenizer(meta["tokenizer"]), {}, meta["vocab_size"] - 1
    assert meta["format"] == 1 and tokenizer.n_vocab == meta["vocab_size"]
    assert meta["dtype"] == ("uint32" if end >= 65536 else "uint16")
    for split, of in meta["splits"].items():
        data = (folder / f"{split}.bin").read_bytes()
        ids = np.frombuffer(data, {"uint16": "<u2", "uint32": "<u4"}[meta["dtype"]])
        parts = np.split(ids, np.flatnonzero(ids == end) + 1)
        documents[split] = [tokenizer.decode_bytes(part[:-1]).decode() for part in parts[:-1]]
        n_bytes = sum(len(text.encode()) for text in documents[split])
        assert not len(parts[-1])  # the last document ends too
        assert of == {"tokens": len(ids), "documents": len(documents[split]), "bytes": n_bytes,
                      "crc32": zlib.crc32(data)}
    return documents

@pytest.fixture
def made(tmp_path, capsys):
    """made(files, ...): all documents that prepare() makes of them, those of val, what it prints"""
    def made(files, **settings):
        settings = {"vocab_size": 300, "dataset": "made", "overwrite": True} | settings
        folder = prepare.prepare(input=files, data_dir=tmp_path / "data", **settings)["folder"]
        back = read_back(Path(folder))
        return back["train"] + back["val"], back["val"], capsys.readouterr().out
    return made

def assert_has_all_of(documents, *texts):
    """The documents are the texts, cut: no character is lost, none is new."""
    whole = "\0".join(texts)
    assert all(document in whole for document in documents)
    assert sum(map(len, documents)) == sum(map(len, texts))

some_lines = [EOT, "a", "", " ", "b" * 18, "x" + EOT, EOT + " y", "\u00e9\u00e9", f" {EOT}\t",
              "###", "<|startoftext|>c", "# ###"]

def split_like(text, separator, literal):
    """What prepare.py promises of separators, told with one pattern each; no empty documents."""
    documents = [text.replace("\r\n", "\n")]
    lines = {"blank": r"(?m)^[^\S\n]*\n", "line": "\n", None: "(?!)"}
    for pattern in (lines.get(separator, rf"(?m)^[^\S\n]*{separator}[^\S\n]*(?:\n|\Z)"),
                    "(?!)" if literal else r"<\|(?:end|start)oftext\|>[^\S\n]*\n?"):
        documents = [part for document in documents for part in re.split(pattern, document)]
    return [document for document in documents if document.strip()]

@hypothesis_settings(max_examples=300, deadline=None)
@hypothesis_given(st.lists(st.sampled_from(some_lines), max_size=12),
                  st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans(),
                  st.sampled_from([None, "###", "blank", "line"]), st.integers(len(EOT) + 4, 30))
def test_documents_lie_between_separators_wherever_blocks_end(
        tmp_path_factory, lines, end, closed, literal, separator, block):
    path = tmp_path_factory.mktemp("x") / "a.txt"
    path.write_bytes((end.join(lines) + end * closed).encode())
    s = SimpleNamespace(separator=separator, literal_markers=literal, field=None)
    with patch.object(prepare, "READ", block):
        got = list(prepare.read_documents(s, [path], Counter(), Counter()))
    assert got == split_like(path.read_text("utf-8"), separator, literal)

@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_million_blanks_stay_and_so_does_a_marker_if_it_is_asked_for(made, tmp_path, name):
    text = "a" + " " * 1_500_000 + "b\n" + STORY.replace("\r", "") * 5 + f"a {EOT} b\n" * 130
    (tmp_path / name).write_text(json.dumps({"text": text}) if "json" in name else text, "utf-8")
    for literal, texts in (True, [text]), (False, re.split(rf"{re.escape(EOT)} ?", text)):
        documents, _, told = made(tmp_path / name, literal_markers=literal)
        assert_has_all_of(documents, *texts)
        assert f"\n{len(texts)} documents" in "\n" + told
        assert ("130 <|endoftext|> or <|startoftext|> separate" in told) is not literal
        assert "cuts were made in documents of more than 800,000 characters" in told

def test_packed_and_json_files_give_what_plain_ones_do(made, tmp_path):
    documents = [STORY.replace("Lily", f"Lily{i}").replace("\r", "") + "\u4f60\u597d \U0001f600\n"
                 for i in range(100)]
    text = f"{EOT}\n".join(documents).encode()
    records = [{"id": 1, "text": document} for document in documents]
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    for name, data in {"a.txt": b"\xef\xbb\xbf" + text, "b.txt.gz": gzip.compress(text),
                       "c.any.xz": lzma.compress(text), "d.bz2": bz2.compress(text), "g": text,
                       "e.ndjson": lines, "f.JSONL.XZ": lzma.compress(lines),
                       "h.json": json.dumps(records, indent=1).encode(),
                       "i.json.gz": gzip.compress(json.dumps(documents).encode()),
                       "body.jsonl": lines.replace(b'"id": 1, "text"', b'"text": "", "body"')
                       }.items():
        (tmp_path / name).write_bytes(data)
        field = "body" if name == "body.jsonl" else None
        got, val, _ = made(tmp_path / name, val_fraction=0.1, field=field)
        assert val == documents[9::10]
        assert got == [d for i, d in enumerate(documents, 1) if i % 10] + val

@pytest.mark.parametrize("inputs, name", [
    (["in [1].2"], "in [1].2"), (["*/**/*.txt"], "text"),
    (["in [1].2/b.txt", "in [1].2/deep/a.txt", "in [1].2"], "b")])
def test_folders_globs_and_blank_lines_and_a_name_that_exists_is_no_pattern(tmp_path, inputs, name):
    (tmp_path / "in [1].2" / "deep").mkdir(parents=True)
    for path, text in {"b.txt": "one\n\ntwo\n \r\n\nthree", "deep/a.txt": "four",
                       "c.txt": "", "no.dat": "x" * 99}.items():
        (tmp_path / "in [1].2" / path).write_bytes(text.encode() * 200)
    done = run("prepare.py", "--input", *inputs, "--separator=blank", "--tokenizer=char",
               cwd=tmp_path)
    assert shlex.split(done.stdout.splitlines()[-1])[-1] == f"--dataset={name}"
    back = read_back(tmp_path / "data" / name)
    assert sorted({*back["train"], *back["val"]} - {"four" * 200}) == [
        "one\n", "three", "threeone\n", "two\n"]

def test_a_folder_says_what_it_read_and_what_it_left_out_as_a_second_copy(made, tmp_path):
    folder, text = tmp_path / "in", STORY.replace("\r", "") * 30
    folder.mkdir()
    for name, content in {"a.TXT": text, "b.md": "other\n" * 99, ".hidden.txt": "hidden",
                          "README": "no ending", "c.dat": "data"}.items():
        (folder / name).write_text(content)
    (folder / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "link.txt").symlink_to("a.TXT")
    (folder / "loop").symlink_to(tmp_path)
    os.link(folder / "b.md", folder / "hard.md")
    documents, _, told = made([folder, folder / "a.TXT"])
    assert_has_all_of(documents, text, "other\n" * 99)
    assert "2 files are read, 7 are left out: 2 without ending, 1 hidden, 1 .dat, 1 copy (" in told
    assert f"{folder}/a.txt.gz of {folder}/a.TXT" in told
    begin, end = "It began.\n" * 150_000, "It ended.\n" * 9
    (tmp_path / "old.log").write_text(begin)  # the same first megabyte is no copy
    (tmp_path / "new.log").write_text(begin + end)
    documents, _, told = made([tmp_path / "old.log", tmp_path / "new.log"])
    assert "left out" not in told
    assert_has_all_of(documents, begin, begin + end)

def test_each_line_can_be_a_document_and_a_hint_says_so(made, tmp_path):
    path = shared("inputs/lines.txt")
    assert "--separator=line would make several" in made(path)[2]
    documents, val, told = made(path, separator="line")
    lines = path.read_text().splitlines()
    assert sorted(documents) == sorted(lines) and val == lines[99::100]
    assert "would make" not in told and "val is short: more text or a larger --val_fr" in told
    assert "val is short" not in made(path, separator="line", val_fraction=0.3)[2]
    (tmp_path / "one.txt").write_text("one line and no more than that " * 99)
    assert "would make" not in made(tmp_path / "one.txt")[2]

def test_windows_line_ends_become_lf_and_stray_nul_bytes_go_and_both_are_said(made, tmp_path):
    text = ("a\r\nb\0" + "c" * 200 + "\n") * 900 + "\rz"  # more NUL bytes would be no text
    for name, data in (("a.txt", text), ("a.jsonl", json.dumps({"text": text}))):
        (tmp_path / name).write_bytes(data.encode())
        documents, _, told = made(tmp_path / name)
        assert_has_all_of(documents, text.replace("\r\n", "\n").replace("\0", ""))
        assert told.count("900 Windows line ends (CRLF) became LF\n") == 1
        assert told.count("900 NUL bytes were left out\n") == 1

def test_validation_is_drawn_from_all_over_a_text_of_few_documents(made, tmp_path):
    path = shared("inputs/novel_with_licence.txt")
    text = path.read_text()
    documents, val, told = made(path)
    assert_has_all_of(documents, text)
    places = [text.index(passage) / len(text) for passage in val]
    assert len(val) >= 7 and places == sorted(places) and places[0] < 0.15 and places[-1] > 0.75
    assert all(passage.endswith("\n\n") or text.endswith(passage) for passage in val)
    assert 0.07 < sum(map(len, val)) / len(text) < 0.13
    assert "val: 1 passage in 10 " in told
    for name in ("a", "b"):  # two files: both are in train and in val
        (tmp_path / f"{name}.txt").write_text(f"{name} line of {name}\n\n" * 900)
    _, val, _ = made([tmp_path / "a.txt", tmp_path / "b.txt"])
    assert {text[0] for text in val} == {"a", "b"}

@pytest.mark.parametrize("name, turns", [
    ("messages", lambda q, a: {"messages": [{"role": "user", "content": q},
                                            {"role": "assistant", "content": a}]}),
    ("parts", lambda q, a: {"messages": [
        {"role": "user", "content": [{"type": "text", "text": q}, {"type": "image_url"}]},
        {"role": "tool", "content": None}, {"role": "assistant", "content": a}]}),
    ("sharegpt", lambda q, a: {"id": 1, "conversations": [{"from": "human", "value": q},
                                                          {"from": "gpt", "text": a}]}),
    ("chatgpt", lambda q, a: {"title": "x", "current_node": "3", "mapping": {
        "1": {"message": None, "parent": None},
        "2": {"message": {"author": {"role": "user"}, "content": {"parts": [q]}}, "parent": "1"},
        "3": {"message": {"author": {"role": "assistant"}, "content": {"parts": [a]}},
              "parent": "2"},
        "4": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["not this"]}},
              "parent": "2"}}})])
def test_the_turns_of_a_conversation_are_one_document(made, tmp_path, name, turns):
    records = [turns(f"Who is {i}?", f"It is me,\n{i}.\n") for i in range(120)]
    expected = [f"User: Who is {i}?\nAssistant: It is me,\n{i}.\n" for i in range(120)]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "chats.json").write_text(json.dumps(records))
    for file in ("chats.jsonl", "chats.json"):
        documents, _, told = made(tmp_path / file)
        assert sorted(documents) == sorted(expected)
        assert ("120 turns of chats have no text" in told) == (name == "parts")

# ---- prepare.py: the tokenizers ----------------------------------------------------------------
def test_a_letter_keeps_its_marks_and_signs_keep_theirs():
    words = ["\u0939\u093f\u0928\u094d\u0926\u0940", " cafe\u0301s", " \u2764\ufe0f", " it", "'s",
             " 12", "\u0e44\u0e17\u0e22"]
    tokens = train_bpe(["".join(words)], 10_000)  # until each word is a token
    encoding = T.load_tokenizer(spec_of(tokens, prepare.BPE_PATTERN))
    assert [encoding.decode([token]) for token in encoding.encode("".join(words))] == words

def test_long_words_and_very_many_words_are_bounded_and_it_is_said(made, tmp_path, capsys):
    letters = "".join(random.Random(1).choices("abcdefgh", k=300_000))
    (tmp_path / "a.txt").write_text(letters)
    start = time.monotonic()
    documents, _, told = made(tmp_path / "a.txt")
    assert_has_all_of(documents, letters)
    assert time.monotonic() - start < 20 and "words cut at 100 characters" in told
    rng = random.Random(2)
    text = " ".join("".join(rng.choices("abcdefghijkl", range(12, 0, -1), k=12))
                    for _ in range(60_000))
    everything = train_bpe([text], 500)
    with patch.object(prepare, "BPE_WORDS", 200_000):
        sampled = train_bpe([text], 500)
    assert "1 in 4 of rare ones" in capsys.readouterr().out
    lengths = [len(T.load_tokenizer(spec_of(tokens, prepare.BPE_PATTERN)).encode(text))
               for tokens in (everything, sampled)]
    assert abs(lengths[1] / lengths[0] - 1) < 0.01

def test_bpe_equals_rustbpe_on_stories():
    rustbpe = pytest.importorskip("rustbpe")
    with lzma.open(shared("data/stories.txt.xz"), "rt", encoding="utf-8", newline="") as file:
        documents = file.read().split(EOT + "\n")
    peer = rustbpe.Tokenizer()
    peer.train_from_iterator(iter(documents), 4096, pattern=GPT2_PATTERN)
    theirs = sorted(peer.get_mergeable_ranks(), key=lambda item: item[1])
    assert train_bpe(documents, 4096) == [bytes(token) for token, _ in theirs]

def test_bpe_equals_a_naive_trainer():
    texts = ["low lower lowest newer wider ", "low low new newest  \n\n", STORY, *TEXTS[:6]]
    words = [[bytes([b]) for b in word.encode()] for text in texts
             for word in prepare.regex.findall(prepare.BPE_PATTERN, text)]
    tokens = list(BYTES)
    while len(tokens) < 300:
        pairs = Counter(pair for word in words for pair in zip(word, word[1:]))
        left, right = min(pairs, key=lambda p: (-pairs[p], tokens.index(p[0]), tokens.index(p[1])))
        tokens.append(left + right)
        for word in words:
            for i in range(len(word)):
                if word[i:i + 2] == [left, right]:
                    word[i:i + 2] = [left + right]
    assert train_bpe(texts, 300) == tokens

def test_a_run_a_checkpoint_or_a_dataset_lends_its_tokenizer_of_any_size(made, runs, tmp_path):
    (tmp_path / "a.txt").write_text(STORY * 50)
    run = runs / "out" / "bytes"
    of_run = T.load_checkpoint(run)["tokenizer"]
    pairs = [bytes([i, j]) for i in range(256) for j in range(256)]
    wide = spec_of(BYTES + pairs, GPT2_PATTERN)  # more than 65,536 tokens: uint32
    (tmp_path / "meta.json").write_text(json.dumps({"tokenizer": wide}))
    for source, spec in ((run, of_run), (run / "ckpt.pt", of_run), (runs / "data/bytes", of_run),
                         (tmp_path, wide)):
        made(tmp_path / "a.txt", tokenizer=source, vocab_size=None)
        meta = json.loads((tmp_path / "data" / "made" / "meta.json").read_text())
        assert meta["tokenizer"] == spec

# ---- prepare.py: settings and datasets ---------------------------------------------------------
def test_the_standard_library_is_the_default_and_help_shows_every_setting(home, tmp_path):
    result = run("prepare.py", "--data_dir=again", cwd=tmp_path)
    assert "python train.py --dataset=python --data_dir=again" in result.stdout
    for name in ("train.bin", "val.bin", "meta.json"):  # the same each time
        again, first = tmp_path / "again" / "python" / name, home / "data" / "python" / name
        assert again.read_bytes() == first.read_bytes()
    assert len(read_back(home / "data" / "python")["train"]) > 300
    told = run("prepare.py", "--help", cwd=tmp_path).stdout
    settings = vars(prepare.SETTINGS_PARSER.parse_args([]))
    assert set(re.findall(r"^  --(\w+)", told, re.M)) == set(settings) and len(settings) == 10
    repeated = run("prepare.py", "--data_dir=again", cwd=tmp_path)  # so that && goes on
    assert repeated.stdout == result.stdout.splitlines(True)[-1]
    (tmp_path / "python.txt").write_text(STORY * 50)
    (tmp_path / "again" / "torn").mkdir()
    (tmp_path / "again" / "torn" / "meta.json").write_text("{")
    run("prepare.py", "--input=python.txt", "--data_dir=other", cwd=tmp_path)
    for flags in ("--data_dir=again --vocab_size=300", "--data_dir=again --separator=blank",
                  f"--data_dir=again --dataset=python --input={HERE}",
                  "--data_dir=again --dataset=torn",
                  "--data_dir=other", "--data_dir=other --input=python.txt"):
        refused = python("prepare.py", *flags.split(), cwd=tmp_path)
        assert refused.returncode == 2 and re.fullmatch("error: .*--overwrite.*\n", refused.stderr)

def test_a_cell_of_prepare_overwrites_no_names_of_train_or_of_python():
    ours = {name: value for name, value in vars(prepare).items() if not name.startswith("__")}
    assert not ours.keys() & set(dir(builtins))
    assert [name for name in ours if ours[name] != vars(T).get(name, ours[name])] == []

BAD_VALUES = {
    "input": [5, [""], []], "tokenizer": [1, ""], "overwrite": ["maybe"],
    "vocab_size": ["many", 256, 10**30, True, math.nan], "literal_markers": [2],
    "val_fraction": [math.nan, math.inf, 0, 1, -0.1, "x"],
    "dataset": ["../x", "/", "a/b", ".x", "", "a\nb"]}
PACKED = lzma.compress(STORY.encode() * 1000)
BAD_FILES = {  # what is in each, and what its line says after the name
    "blank.txt": (b" \n\n", " is empty"), "one.txt": (b"x", " is empty or too short"),
    "latin.txt": (b"a" * 3_000_000 + b"\xe9b", " as UTF-8 text: invalid continuation byte"),
    "utf16.txt": ("text".encode("utf-16"), " is no text, or UTF-16"),
    "unmarked.txt": (("text " * 99).encode("utf-16-le"), " is no text, or UTF-16"),
    "cut.txt.xz": (PACKED[:-20], " as UTF-8 text: Compressed file ended"),
    "torn.txt.xz": (PACKED[:50] + bytes(9) + PACKED[59:], " as UTF-8 text: Corrupt"),
    "torn.txt.gz": (gzip.compress(b"")[:10] + b"\xff" * 99, " as UTF-8 text: Error -3"),
    "not.txt.gz": (b"plain", " as UTF-8 text: Not a gzipped"),
    "bad.jsonl": (b'{"text": "a"}\n{"text": \n', ", line 2"),
    "other.jsonl": (b'{"text": "a"}\n\n{"txt": "a"}\n', ", line 3: it has no text"),
    "deep.jsonl": (b'{"text": ' + b"[" * 99_999 + b"]" * 99_999 + b"}\n", ", line 1: maximum rec"),
    "object.json": (b'{\n "data": [],\n "version": 1\n}\n',
                    ", line 1: it has no text (or null), but the fields data, version: name one"),
    "null.jsonl": (b'{"text": null}\n', ", line 1"), "number.jsonl": (b'{"text": 1}\n', ", line 1"),
    "surrogate.jsonl": (b'{"text": "\\ud800"}\n', ", line 1")}
MISTAKES = [({name: value}, name) for name, values in BAD_VALUES.items() for value in values]
MISTAKES += [({"input": name}, name + says) for name, (_, says) in BAD_FILES.items()]

@pytest.fixture(scope="module")
def bad_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    (folder / "fine.txt").write_text(STORY * 20)
    for name, (data, _) in BAD_FILES.items():
        (folder / name).write_bytes(data)
    return folder

@pytest.mark.parametrize("given, says", MISTAKES, ids=str)
def test_bad_input_is_one_line_and_leaves_nothing(bad_files, monkeypatch, given, says):
    monkeypatch.chdir(bad_files)
    with pytest.raises(PrepareError, match=re.escape(says)) as error:
        prepare.prepare(**{"input": "fine.txt"} | given)
    assert "\n" not in str(error.value)
    assert set(map(str, Path().rglob("*"))) == {"fine.txt", *BAD_FILES}

# ---- prepare.py: accidents ---------------------------------------------------------------------
def test_a_killed_run_leaves_no_dataset_that_is_half_made(tmp_path):
    (tmp_path / "a.txt").write_text(f"{EOT}\n".join(STORY * 40 for _ in range(400)))
    command, folder = ["--input=a.txt", "--vocab_size=300"], tmp_path / "data" / "a"
    start = time.monotonic()
    run("prepare.py", *command, cwd=tmp_path)
    took, good = time.monotonic() - start, read_back(folder)
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    for after in np.linspace(0.4, 1.05, 8):
        process = subprocess.Popen([sys.executable, HERE / "prepare.py", *command, "--overwrite"],
                                   cwd=tmp_path, stdout=subprocess.DEVNULL)
        time.sleep(took * after)
        process.kill()
        process.wait()
        assert not (folder / "meta.json").exists() or read_back(folder) == good
    (folder / "meta.json").unlink(missing_ok=True)  # as if killed: the same command makes it again
    run("prepare.py", *command, cwd=tmp_path)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == files

def test_the_same_text_gives_the_same_bytes_on_any_number_of_cores(made, tmp_path):
    (tmp_path / "a.txt").write_text(f"{EOT}\n".join(STORY * i for i in range(300)))
    files = []
    for cores in (1, 7):
        with patch.object(prepare.os, "cpu_count", lambda cores=cores: cores):
            made(tmp_path / "a.txt")
        files.append([file.read_bytes() for file in sorted((tmp_path / "data/made").iterdir())])
    assert files[0] == files[1]

@pytest.mark.parametrize("name, dataset, end", [
    ("Chapter 1: start.txt", "Chapter 1 start", "| head -1"), (".dot.txt", "dot", ">&-"),
    ("a.tar.x", "a.tar", "> /dev/full")])
def test_names_of_any_kind_and_a_pipe_or_stdout_that_is_closed(tmp_path, name, dataset, end):
    (tmp_path / name).write_text(STORY * 40)
    done = shell(f"python prepare.py --input={shlex.quote(name)} {end}", tmp_path)
    assert not done.stderr and (tmp_path / "data" / dataset / "meta.json").exists()

@slow
def test_slow_300_mb_of_text_take_less_than_150_mb_of_memory(tmp_path):
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:120]
    text = "".join(path.read_text("utf-8") for path in files) + EOT + "\n"
    with open(tmp_path / "much.txt", "w", encoding="utf-8", newline="") as file:
        while file.tell() < 300e6:
            file.write(text)
    (tmp_path / "work.py").write_text(f"""import sys; sys.path.insert(0, {str(HERE)!r})
import prepare; prepare.prepare(input="much.txt"); print(open("/proc/self/status").read())""")
    done = run(tmp_path / "work.py", cwd=tmp_path)
    assert 20_000 < int(re.search(r"VmHWM:\s+(\d+) kB", done.stdout)[1]) < 150_000

# ---- prepare.py: downloads ---------------------------------------------------------------------
@pytest.fixture
def server():
    """A server of one file. It breaks off `breaks` answers, knows ranges, tells the length."""
    class Server(http.server.BaseHTTPRequestHandler):
        body, log = random.Random(1).randbytes(5_000_000), []
        breaks, ranges, length = 0, True, True
        log_message = staticmethod(lambda *_: None)

        def do_GET(self):
            first = int(re.match(r"bytes=(\d+)-", self.headers["Range"])[1])
            self.log.append(first)
            part = self.body[first if self.ranges else 0:]
            self.send_response(206 if self.ranges else 200)
            if self.length:
                self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part[:len(part) // 2] if len(self.log) <= self.breaks else part)

    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=http_server.serve_forever, args=[0.01], daemon=True).start()
    Server.url = f"http://127.0.0.1:{http_server.server_port}/file.txt"
    yield Server
    http_server.shutdown()

@pytest.mark.parametrize("ranges", [False, True])
def test_a_broken_download_resumes_where_it_stopped(tmp_path, server, ranges):
    server.breaks, server.ranges = 2, ranges
    path = tmp_path / "x" / "file.txt"
    for _ in range(2):
        with pytest.raises(PrepareError, match="bytes are missing; run the command again"):
            prepare.download(server.url, path)
    assert prepare.download(server.url, path) == path and path.read_bytes() == server.body
    assert server.log == [0, 2_500_000, 3_750_000 if ranges else 2_500_000]
    prepare.download(server.url, path)  # nothing is fetched twice
    assert len(server.log) == 3 and os.listdir(tmp_path / "x") == ["file.txt"]
    server.length = False  # not every server tells it
    assert prepare.download(server.url, tmp_path / "new").read_bytes() == server.body

# ---- Mistakes: a command, and what its one line must name --------------------------------------
MISTAKEN_COMMANDS = """
train --lrr=1                              there is no setting lrr: try --lr
train size=toy                             tiny, small or medium, not 'size=toy'
train --size=smal                          size must be toy, tiny, small or medium
train --lr=nan                             lr must be a number above 0
train --max_steps=1.5                      max_steps must be a whole number above 0
train --minutes=1 --max_steps=5            minutes and max_steps
train --n_heads=5                          n_heads=5 does not divide
train --max_seq_len=5000                   lower max_seq_len
train --dropout=1                          dropout must be a number from 0 to below 1
train --bias=None                          bias must be True or False
train --device=meta                        device meta cannot be used here
train --dataset=nothing                    --dataset=nothing
train --data_dir=torn                      not as long as meta.json says
train --out_dir=file/deeper                file
train --init_from=no.pt                    no.pt
train --init_from=data/bytes/train.bin     train.bin is damaged, or not a checkpoint of train.py
train --init_from=out/chars                another shape or tokenizer
gpt --fit out/bytes                        six runs or more
train --block_size=128                     there is no setting block_size: try --help
gpt --export=out/new out/chars             char tokenizer
gpt --import=none out/new                  none is not a GPT-2 to import
sample --temperature=-1                    --temperature
sample --chat                              --chat needs a question
sample --prompt=FILE:latin.txt             latin.txt cannot be read as UTF-8 text
sample out/bytes out/chars --prompt=文     U+6587
prepare --vocabsize=5                      unrecognized arguments: --vocabsize=5: see --help
prepare --tokenizer=char --vocab_size=300  vocab_size is for tokenizer bpe
prepare --tokenizer=data                   cannot load tokenizer data
prepare --dataset=bytes --overwrite --input=latin.txt  latin.txt as UTF-8 text
prepare --input=*.nothing                  there is no *.nothing
"""

@pytest.mark.parametrize("line", MISTAKEN_COMMANDS.strip().splitlines())
def test_a_mistake_is_one_line_that_names_it_and_nothing_is_made_or_lost(runs, monkeypatch, line):
    command, says = re.split(r"\s{2,}", line)
    script, *arguments = shlex.split(command)
    (runs / "latin.txt").write_bytes(b"caf\xe9")
    (runs / "file").touch()
    shutil.copytree(runs / "data", runs / "torn", dirs_exist_ok=True)
    os.truncate(runs / "torn" / "bytes" / "val.bin", 1000)

    def files():
        paths = [*runs.glob("out/*/*"), *runs.glob("data/*/*")]
        return {path: path.read_bytes() for path in paths}

    before = files()
    if script == "train":
        arguments = [*flags(**SMALL_RUN, dataset="bytes", out_dir="out/new"), *arguments]
    assert says in complaint(script, arguments, monkeypatch, runs)
    assert files() == before

# ---- scaling.md --------------------------------------------------------------------------------
PAGE = (HERE / "scaling.md").read_text(encoding="utf-8")
LOGS = HERE / "assets" / "scaling"
FITTED = sorted(path for path in LOGS.glob("*.csv")
                if re.match("iso-3e13|iso-1e14|equal-t|predicted", path.stem))

def test_scaling_md_and_gpt_py_agree_on_every_number_that_both_give():
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in PAGE.splitlines()]
    page = {row[0]: row[1:] for row in rows if len(row) == 5}
    tables = [{label.strip(): text for label, text in gpt.describe(size, config).items()}
              for size, config in T.SIZES.items()]
    both = [label for label in tables[0] if tables[0][label] and label in page]
    assert len(both) >= 15
    for label in both:
        assert page[label] == [table[label] for table in tables], label

def test_each_row_that_names_a_log_has_its_last_loss():
    page = PAGE + (HERE / "assets" / "peers.md").read_text(encoding="utf-8")
    ends = {path.stem: list(csv.DictReader(path.read_text().splitlines()))[-1]
            for path in LOGS.glob("*.csv")}
    found = re.findall(r"^\|.*\| `([\w.-]+)` \|.* (\d\.\d{3}) \|$", page, re.M)
    for name, loss in found:
        assert f"{float(ends[name]['val_loss']):.3f}" == loss, name
    assert len(found) >= 30

def test_scaling_md_has_what_isoflop_and_fit_make_of_the_logs_in_assets():
    pytest.importorskip("matplotlib")
    compared = [*LOGS.glob("iso-*.csv"), LOGS / "equal-tiny.csv"]
    assert len(compared) >= 32 and gpt.isoflop(*compared)[1] in PAGE
    assert len(FITTED) >= 13 and gpt.describe_fit(FITTED) in PAGE

@slow
def test_slow_a_text_of_50_kb_is_memorised_and_best_pt_is_from_before_that(tmp_path):
    text = Path(textwrap.__file__).with_name("argparse.py").read_text(encoding="utf-8")[:50_000]
    (tmp_path / "my.txt").write_text(text, encoding="utf-8")
    run("prepare.py", "--input=my.txt", cwd=tmp_path)
    told = run("train.py", *flags(dataset="my", size="toy", batch_size=8, grad_accum_steps=1,
                                  max_steps=300, lr=0.02), cwd=tmp_path).stdout
    evals = [float(loss) for loss in re.findall(r"eval: val loss ([\d.]+)", told)]
    assert evals[-1] > min(evals) + 1
    model, tokenizer = load(tmp_path / "out/my-toy/ckpt.pt")
    known = 0
    passages = read_back(tmp_path / "data" / "my")["train"]
    for passage in passages:
        ids = tokenizer.encode(passage[200:600])
        new = [int(i) for i in model.generate(torch.tensor([ids[:40]]), 20, temperature=0)]
        known += sum(a == b for a, b in zip(new, ids[40:]))
    assert known > 0.9 * 20 * len(passages) > 160
    assert not torch.equal(load(tmp_path / "out/my-toy")[0].tok_emb.weight, model.tok_emb.weight)

# ---- assets/calculator.html ----------------------------------------------------------------------
CALCULATOR = HERE / "assets" / "calculator.html"

def facts_text():
    return re.search(r'id="facts">(.*?)</script>', CALCULATOR.read_text(encoding="utf-8"), re.S)[1]

def test_facts_in_the_calculator_are_gpt_pys_and_the_logs():
    """UPDATE=1 writes them anew."""
    facts, runs = json.loads(facts_text()), []
    for path in FITTED:
        first, *_, last = csv.DictReader(path.read_text().splitlines())
        ends = map(float, [last[name] for name in ("tokens", "flops", "val_loss", "bpb")])
        runs.append((path.stem, float(first["params"]), *ends))
    shape = "d_model", "n_heads", "n_layers", "max_seq_len"
    facts |= {
        "usual": {name: getattr(TINY, name) for name in ("vocab_size", "bias", "tie_weights")},
        "sizes": {size: {name: getattr(config, name) for name in shape}
                  | {"sequences": T.SEQUENCES[size]} for size, config in T.SIZES.items()},
        "lr_scales": T.LR_SCALES, "layer_time": gpt.LAYER_TIME, "cards": gpt.CARDS,
        "runs": [(name, round(N / 1e3), round(D / 1e3), round(C / 1e12, 2), round(loss, 3))
                 for name, N, D, C, loss, _ in runs]}
    _, N, D, _, losses, bpb = map(np.array, zip(*runs))
    law = [float(f"{x:.5g}") for x in gpt.fit_law(N, D, losses)]
    facts |= {"laws": {"this project": law} | gpt.LAWS, "fit": {
        "text": "stories, prose and books", "runs": len(runs), "N": [min(N), max(N)],
        "D": [min(D), max(D)], "bytes_per_token": round(np.mean(losses / bpb) / math.log(2), 3),
        "error": round(np.mean((gpt.law(N, D, *law) - losses)**2)**0.5, 4)}}
    if os.environ.get("UPDATE"):
        text = ",\n".join(f'"{name}": {json.dumps(fact)}' for name, fact in facts.items())
        page = CALCULATOR.read_text(encoding="utf-8").replace(facts_text(), f"\n{{{text}}}\n")
        CALCULATOR.write_text(page, encoding="utf-8")
    assert json.loads(facts_text()) == json.loads(json.dumps(facts))

@pytest.fixture(scope="session")
def calculator():
    """calculator(choice, width, theme): the page in chromium, with the choice in its address."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    chromium = shutil.which("chromium") or pytest.skip("apt-get install chromium")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=[
            "--no-sandbox", "--disable-dev-shm-usage"])  # for containers
        def open_page(choice="", width=1280, theme="light"):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
            page.goto(f"{CALCULATOR.as_uri()}#{choice}")
            return page
        yield open_page

def exact(page):
    """{name: number} of all that the page shows with its exact value."""
    return page.evaluate("""Object.fromEntries([...document.querySelectorAll("[data-value]")].map(
        x => [x.id || x.closest("tr, li").firstChild.textContent.trim(), +x.dataset.value]))""")

def fitting(n, n_bytes, *how):
    """n sequences, halved until a step takes at most n_bytes, as train.py does."""
    need = sum(gpt.training_bytes(how[0], n, *how[1:]).values())
    return n if not n or need <= n_bytes else fitting(n // 2, n_bytes, *how)

def random_choice(rng, facts):
    """A size, shape, training and machine such as the page can show."""
    yes_or_no, heads = [False, True], rng.randint(1, 16)
    return {name: rng.choice(values) for name, values in {
        "size": [*T.SIZES], "gpu": [*facts["cards"], *facts["cpu"]], "dtype": ["half", "float32"],
        "optimizer": ["muon", "adamw"], "mfu": [0.1, 0.8], "tokens_per_param": [0.02, 0.7, 5.5, 99],
        "grad_checkpoint": yes_or_no, "bias": yes_or_no, "tie_weights": yes_or_no, "price": [1.25],
        "n_heads": [heads], "d_model": range(heads, 128 * heads, heads), "n_layers": range(1, 41),
        "max_seq_len": [16, 64, 700, 4095], "vocab_size": range(257, 130_000)}.items()}

def test_the_calculator_shows_gpt_pys_numbers_for_four_sizes_and_twenty_shapes(calculator):
    page, rng, facts = calculator(), random.Random(1), json.loads(facts_text())
    usual = {"gpu": "T4", "optimizer": "muon", "dtype": "half", "grad_checkpoint": False,
             "tokens_per_param": 20, "mfu": 0.4, "price": 0.35}
    edge = (16 * 256 / 0.58)**(1 / 0.571) / 3_505_152  # where tiny's batch goes from 16 to 32
    given = [{"size": size} for size in T.SIZES] + [random_choice(rng, facts) for _ in range(20)]
    given += [{"size": "tiny", "tokens_per_param": edge * x} for x in (0.999, 1.001)]
    given += [{"size": "small", "gpu": "A100", "price": 1}]  # 65,536 tokens at once
    given += [{"size": "medium", "max_seq_len": 4, "tokens_per_param": 0.01, "dtype": dtype}
              for dtype in ("half", "float32")]  # where Muon's products exceed the activations
    for c in given:
        page.evaluate("hash => { location.hash = hash; readAddress(); }",
                      "&".join(f"{name}={value}" for name, value in c.items()))
        c = usual | asdict(T.SIZES[c["size"]]) | c
        config = GPTConfig(**{name: c[name] for name in asdict(TINY)})
        cpu = c["gpu"] in facts["cpu"]
        memory, teraflops, _ = (facts["cards"] | facts["cpu"])[c["gpu"]]
        with torch.device("meta"):
            model = GPT(config)
        how = c["optimizer"], c["dtype"] == "half", c["grad_checkpoint"]
        tokens, flops = c["tokens_per_param"] * T.count(model), T.flops_per_token(model)
        sequences, lr = T.recipe(config, tokens, T.SEQUENCES[c["size"]], c["optimizer"])
        batch = sequences * config.max_seq_len
        slower = 1 if cpu or how[1] else 8 if c["gpu"] == "T4" else 2  # TF32, which it has not
        step = (1.2 if how[2] else 1) * slower * flops * batch / (c["mfu"] * teraflops * 1e12)
        hours = max(step, 0 if cpu else gpt.LAYER_TIME * config.n_layers) * tokens / batch / 3600
        at_once = 2048 if cpu else 65_536 if memory > 39 else 16_384  # as in choose_device()
        micro, largest = (fitting(n, 0.9e9 * memory, model, *how) for n in (
            min(sequences, max(1, at_once // config.max_seq_len)), sequences))
        parts = gpt.training_bytes(model, micro or 1, *how)
        paper = {label.strip(): text for label, text in gpt.describe(c["size"], config).items()}
        counts = {label: int(paper[label].split()[0].replace(",", "")) for label in (
            "token embeddings", "position embeddings", "attention", "MLP", "LayerNorms", "head")}
        laws = {law: gpt.law(T.count(model), tokens, *x) for law, x in facts["laws"].items()}
        assert exact(page) == pytest.approx(counts | parts | laws | {
            "params": T.count(model), "all_tokens": tokens, "flops": flops * tokens, "hours": hours,
            "cost": hours * c["price"], "share": flops * tokens / hours / 3600 / (teraflops * 1e12),
            "sequences": sequences, "steps": math.ceil(tokens / batch), "lr": lr, "micro": micro,
            "memory": sum(parts.values()), "largest": largest}), page.url
        if c == usual | asdict(T.SIZES[c["size"]]) | {"size": c["size"]}:
            assert f"{page.inner_text('#hours')}, {page.inner_text('#cost')}" in paper.values()

def test_the_calculator_goes_by_keyboard_pointer_link_and_flags(calculator, monkeypatch, tmp_path):
    page, dots = calculator(), "#curve circle >> nth="
    for selector, key in (("[data-of=d_model]", "ArrowRight"), ("#grad_checkpoint", " "),
                          ("[data-of=tokens_per_param]", "Home"), (f"{dots}0", "ArrowRight")):
        page.press(selector, key)
    assert page.inner_text("#named") == page.get_attribute(f"{dots}1", "aria-label") != ""
    page.hover(f"{dots}-1")
    assert page.inner_text("#named") == page.get_attribute(f"{dots}-1", "aria-label") != ""
    again = calculator(page.url.split("#")[1])
    assert exact(again) == exact(page) and again.inner_text("#command") == (
        "python train.py --size=tiny --tokens_per_param=0.1 --d_model=256 --n_heads=8 "
        "--grad_checkpoint=True")  # six heads do not divide 256

    monkeypatch.setattr(gpt.webbrowser, "open", page.goto)
    monkeypatch.setattr(sys, "argv", ["gpt.py", "--calculator", "--size=small", "--bias=False",
                                      "--gpu=RTX 4090", "--dtype=float32"])
    gpt.main()
    assert page.inner_text("#summary").startswith("A changed small on one RTX 4090: ")
    assert page.inner_text("#command") == (
        "python train.py --size=small --tokens_per_param=20 --bias=False --dtype=float32")
    for width, theme in ((390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")):
        page = calculator("size=GPT-3", width, theme)
        page.screenshot(path=tmp_path / f"{width}-{theme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") == width

def test_the_calculators_command_starts_the_run_that_it_shows(calculator, home, tmp_path):
    page = calculator("size=toy&d_model=64&n_layers=1&max_seq_len=64&tokens_per_param=0.035"
                      "&optimizer=adamw&bias=False&gpu=two+CPU+cores")
    flags = *page.inner_text("#command").split()[2:], "--eval_tokens=2048"
    told = run("train.py", *flags, f"--data_dir={home / 'data'}", cwd=tmp_path).stdout
    n, warmup = exact(page), re.search(r"after (\d+) steps", page.inner_text("#numbers"))[1]
    for text in (f"{n['params']:,} parameters", f"{n['sequences']} sequences x 64",
                 f" {n['steps'] * n['sequences'] * 64:,} tokens, ", f" {n['steps']:,}, length",
                 f"micro-batch {n['micro']}\n", f"adamw, lr {n['lr']:.2e} after {warmup} steps"):
        assert text in told, text
