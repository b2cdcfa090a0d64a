"""
Text out of trained models.

    python sample.py                                             # the newest run under out/ writes a document
    python sample.py --prompt="Once upon a time" --num_samples=3
    python sample.py out/a out/b --prompt="import os"            # several models, the same prompt and seed
    python sample.py out/a out/b --prompts=questions.txt         # a table: a line each, and each model's answer
"""
import argparse, codecs, glob, itertools, os, shutil, sys, textwrap
from types import SimpleNamespace

import torch

from gpt import ENDOFTEXT, checkpoint_file, load, number, read_flags
from train import UserError, choose_device, printable


def read_text(path):
    """The text of a file, or of standard input for "-"; its last line's newline, which editors add, is left off."""
    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
        return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise UserError(f"the prompt's file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"the prompt's file {path} is not UTF-8: byte {error.start:,} is 0x{data[error.start]:02x}; "
                        f"convert it first") from None


def newest_run(folder):
    """The run whose checkpoint was written last, among `folder` itself and the folders in it."""
    files = [file for depth in ("", "*") for file in glob.glob(os.path.join(glob.escape(folder), depth, "*.pt"))
             if os.path.basename(file) in ("best.pt", "ckpt.pt", "ckpt_prev.pt") and os.path.isfile(file)]
    if not files:
        raise UserError(f"there is no run in {folder}: make one by python prepare.py, then python train.py "
                        f"--minutes=3, or say where runs are by --out_dir=FOLDER")
    return os.path.dirname(max(files, key=os.path.getmtime))


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


def print_texts(models, prompt, flags):
    """Each model's text under a heading, where there are several, each token as it comes."""
    prompts = [prompt_ids(prompt, path, model, tokenizer) for path, model, tokenizer in models]
    for (path, model, tokenizer), ids in zip(models, prompts):
        for i in range(flags.num_samples):
            if len(models) * flags.num_samples > 1:
                n_params = sum(p.numel() for p in model.parameters())
                print(f"\n--- {path}, {n_params:,} parameters, seed {flags.seed + i}")
            if prompt not in ("", ENDOFTEXT):
                print(printable(tokenizer.decode(ids)), end="", flush=True)
            for piece in continuation(model, tokenizer, ids, flags, flags.seed + i):
                print(piece, end="", flush=True)
            print()


def print_table(models, prompts, flags):
    """A row a prompt: the prompt, then each model's answer in a column of its own, as wide as the terminal."""
    width = shutil.get_terminal_size((80, 24)).columns
    first = max(10, width // (len(models) + 2))
    widths = [first] + [max(10, (width - first) // len(models) - 2)] * len(models)

    def print_row(cells):
        columns = [[piece for line in cell.expandtabs(4).splitlines() for piece in textwrap.wrap(line, n) or [""]]
                   for cell, n in zip(cells, widths)]
        for line in itertools.zip_longest(*columns, fillvalue=""):
            print("  ".join(piece.ljust(n) for piece, n in zip(line, widths)).rstrip())
        print(flush=True)

    starts = [[prompt_ids(prompt, path, model, tokenizer) for path, model, tokenizer in models] for prompt in prompts]
    print_row(["prompt"] + [path for path, _, _ in models])
    for prompt, row in zip(prompts, starts):
        for i in range(flags.num_samples):
            answers = ["".join(continuation(model, tokenizer, ids, flags, flags.seed + i)).strip("\n")
                       for (_, model, tokenizer), ids in zip(models, row)]
            print_row([printable(prompt), *answers])


def main():
    parser = argparse.ArgumentParser(usage="python sample.py [RUN ...] [--name=value ...]", allow_abbrev=False,
                                     description="Text out of trained models.")
    parser.add_argument("runs", nargs="*", metavar="RUN", help="runs' folders or .pt files [the newest run in out_dir]")
    parser.add_argument("--out_dir", default="out", metavar="FOLDER", help="where to look for the newest run [out]")
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", default=ENDOFTEXT, metavar="TEXT",
                        help="what to continue; FILE:path reads a file, - standard input [a document's start]")
    prompt.add_argument("--prompts", metavar="FILE", help="a prompt a line: prints a table of them and their answers")
    parser.add_argument("--num_samples", type=number(int, 1, 10**6), default=1, metavar="INT",
                        help="texts of each prompt [1]")
    parser.add_argument("--max_new_tokens", type=number(int, 1, 10**9), default=256, metavar="INT",
                        help=f"the longest text, unless {ENDOFTEXT} ends it [256]")
    parser.add_argument("--temperature", type=number(float, 0, 1000), default=0.8, metavar="FLOAT",
                        help="below 1 safer, above 1 wilder; 0 always takes the likeliest token [0.8]")
    parser.add_argument("--top_k", type=number(int, 1, 10**9), metavar="INT", help="only the k likeliest tokens [all]")
    parser.add_argument("--top_p", type=number(float, 0.000001, 1), metavar="FLOAT",
                        help="only the likeliest tokens that together are this probable [all]")
    parser.add_argument("--seed", type=number(int, 0, 2**32 - 1), default=1337, metavar="INT",
                        help="the same seed writes the same text; sample i takes seed + i [1337]")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps [the best there is]")
    flags = read_flags(parser)

    # All that can be wrong is found before the first text is printed.
    text = read_text(flags.prompts) if flags.prompts is not None else flags.prompt
    if flags.prompts is None and (text == "-" or text.startswith("FILE:")):
        text = read_text(text.removeprefix("FILE:"))
    prompts = [line for line in text.splitlines() if line.strip()]
    if flags.prompts is not None and not prompts:
        raise UserError(f"prompts={flags.prompts} has no line with a prompt in it")
    machine = SimpleNamespace(device=flags.device, dtype="float32", compile=False)
    choose_device(machine)
    paths = [checkpoint_file(run) for run in flags.runs or [newest_run(flags.out_dir)]]
    models = [(path, *load(path, machine.device)) for path in paths]
    if not flags.runs:
        print(f"{paths[0]} on {machine.device}:", file=sys.stderr)

    if flags.prompts is not None:
        print_table(models, prompts, flags)
    else:
        print_texts(models, text, flags)


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character shows a question mark
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print()
        sys.exit(130)
    except BrokenPipeError:  # the reader, head for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
