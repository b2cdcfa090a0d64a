"""
Text out of trained models.

    python sample.py                                             # the newest run under out/ writes a document
    python sample.py --prompt="Once upon a time" --num_samples=3
    python sample.py out/a out/b --prompt="import os"            # several models, the same prompt and seed
    python sample.py out/a out/b --prompts=questions.txt         # a table: a line each, and each model's answer
"""
import argparse, codecs, itertools, os, shutil, signal, sys, textwrap
from pathlib import Path
from types import SimpleNamespace

if __name__ == "__main__":  # Ctrl-C, or a reader such as head that has seen enough, ends it without a traceback
    for name in {"SIGINT", "SIGPIPE"} & set(dir(signal)):  # Windows has no SIGPIPE
        signal.signal(getattr(signal, name), signal.SIG_DFL)

import torch

from gpt import checkpoint_file, load, number, read_flags
from train import UserError, choose_device, printable


def read_text(path):
    """The text of a file, or of standard input for "-"; its last line's newline, which editors add, is left off."""
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:  # either says what is wrong and where
        raise UserError(f"the prompt's file {path} cannot be read as UTF-8 text: {error}") from None


def prompt_ids(prompt, path, model, tokenizer):
    """The prompt's token ids, cut to the end that the model's context holds. At least one: a document's start."""
    ids, context = tokenizer.encode(prompt), model.config.max_seq_len
    if len(ids) > context:
        print(f"warning: the prompt has {len(ids):,} tokens, the context of {path} holds {context:,}: only the last "
              f"{context:,} are read", file=sys.stderr)
    return ids[-context:] or [tokenizer.endoftext]


def continuation(model, tokenizer, ids, flags, seed):
    """
    The text that follows ids, up to <|endoftext|>, as pieces: one a token, safe to show on a terminal.

    A token may end inside a character; its bytes wait in the decoder until the character is whole.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    prompt = torch.tensor([ids], device=model.head.weight.device)  # (1, T)
    for token in model.generate(prompt, flags.max_new_tokens, flags.temperature, flags.top_k, flags.top_p, seed):
        if token.item() == tokenizer.endoftext:
            break
        yield printable(decoder.decode(tokenizer.token_bytes(token.item())))
    yield printable(decoder.decode(b"", final=True))


def print_texts(models, prompt, ids, flags):
    """Each model's text under a heading, each token as it comes. One text alone has its heading on stderr."""
    for (path, model, tokenizer), start in zip(models, ids):
        n_params = sum(p.numel() for p in model.parameters())
        for seed in range(flags.seed, flags.seed + flags.num_samples):
            print(f"\n--- {path}, {n_params:,} parameters on {model.head.weight.device}, seed {seed}",
                  file=sys.stdout if len(models) * flags.num_samples > 1 else sys.stderr, flush=True)
            if prompt:
                print(printable(tokenizer.decode(start)), end="", flush=True)
            for piece in continuation(model, tokenizer, start, flags, seed):
                print(piece, end="", flush=True)
            print()


def print_table(models, prompts, ids, flags):
    """A row a prompt: the prompt, then each model's answer in a column of its own, as wide as the terminal."""
    width = max(10, shutil.get_terminal_size().columns // (len(models) + 1) - 2)

    def print_row(cells):
        columns = [[piece for line in cell.expandtabs(4).splitlines() for piece in textwrap.wrap(line, width) or [""]]
                   for cell in cells]
        for line in itertools.zip_longest(*columns, fillvalue=""):
            print("  ".join(piece.ljust(width) for piece in line).rstrip())
        print(flush=True)

    print_row(["prompt"] + [path for path, _, _ in models])
    for prompt, row in zip(prompts, ids):
        for seed in range(flags.seed, flags.seed + flags.num_samples):
            answers = ["".join(continuation(model, tokenizer, start, flags, seed)).strip("\n")
                       for (_, model, tokenizer), start in zip(models, row)]
            print_row([printable(prompt), *answers])


def main():
    parser = argparse.ArgumentParser(usage="python sample.py [RUN ...] [--name=value ...]", allow_abbrev=False)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="a run's folder or .pt file [the newest run in out]")
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", default="", metavar="X", help="text, FILE:path or - for stdin [a document's start]")
    prompt.add_argument("--prompts", metavar="FILE", help="a prompt a line: prints a table of them and their answers")
    flags = read_flags(parser, [
        ("num_samples", number(int, 1, 10**6), 1, "texts of each prompt"),
        ("max_new_tokens", number(int, 1, 10**9), 256, "the longest text, unless <|endoftext|> ends it"),
        ("temperature", number(float, 0, 1000), 0.8, "below 1 safer, above 1 wilder; 0: always the likeliest token"),
        ("top_k", number(int, 1, 10**9), None, "only the k likeliest tokens"),
        ("top_p", number(float, 1e-6, 1), None, "only the likeliest tokens that together are this probable"),
        ("seed", number(int, 0, 2**32 - 1), 1337, "the same seed writes the same text; sample i takes seed + i"),
        ("device", str, None, "cpu, cuda, cuda:1, mps; None: the best there is")])

    # All that can be wrong is found before the first text is printed.
    for run in flags.runs:
        if not os.path.exists(run):
            raise UserError(f'there is no run {run}; a text to continue goes into quotes: --prompt="Once upon"')
    prompts = [flags.prompt]
    if flags.prompts is not None:
        prompts = [line for line in read_text(flags.prompts).splitlines() if line.strip()]
    elif flags.prompt == "-" or flags.prompt.startswith("FILE:"):
        prompts = [read_text(flags.prompt.removeprefix("FILE:"))]
    if not prompts:
        raise UserError(f"prompts={flags.prompts} has no line with a prompt in it")
    machine = SimpleNamespace(device=flags.device, dtype="float32", compile=False)
    choose_device(machine)
    paths = [checkpoint_file(run) for run in flags.runs or ["out"]]
    models = [(path, *load(path, machine.device)) for path in paths]
    ids = [[prompt_ids(prompt, *model) for model in models] for prompt in prompts]
    if flags.prompts is None:
        print_texts(models, prompts[0], ids[0], flags)
    else:
        print_table(models, prompts, ids, flags)


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character shows a question mark
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
