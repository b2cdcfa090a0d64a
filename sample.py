"""
Text from trained models.

    python sample.py                                    # the newest run in out/ writes a document
    python sample.py out/a out/b --prompt="Once upon a time" --num_samples=3   # of several models
    python sample.py out/a out/b --prompts=prompts.txt  # a table: a prompt per line, the answers
    python sample.py out/chats --chat --prompt="Who are you?"   # a model trained on conversations
"""
import builtins, codecs, itertools, os, re, shutil, signal, sys, unicodedata

import torch

from gpt import Parser, checkpoint_file, load, number, run_script
from prepare import chat_turn
from train import UserError, choose_device, count

def read_text(path):
    """The text of a file, or of standard input for "-", without the newline at its end."""
    try:
        with open(0 if path == "-" else path, encoding="utf-8-sig") as file:
            return file.read().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:  # either says what is wrong, and where
        raise UserError(f"{path} cannot be read as UTF-8 text: {error}") from None

def continuation(model, tokenizer, prompt, flags, seed):
    """Yield the text after a prompt, up to <|endoftext|>: a piece per token, characters whole."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    ids = tokenizer.encode(prompt) or [tokenizer.endoftext]  # as at the start of a document
    for token in model.generate(torch.tensor([ids], device=model.head.weight.device),
                                flags.max_new_tokens, flags.temperature, flags.top_k, flags.top_p,
                                seed):
        if token == tokenizer.endoftext:
            break
        yield decoder.decode(tokenizer.token_bytes(token.item()))

def answer_to(model, tokenizer, prompt, flags, seed):
    """The continuation's pieces; in a chat one piece, the answer, up to the next role's line."""
    if not flags.chat:
        return continuation(model, tokenizer, prompt, flags, seed)
    answer, prompt = "", chat_turn("user", prompt) + "Assistant:"
    for piece in continuation(model, tokenizer, prompt, flags, seed):
        answer += piece
        if re.search(r"\n(User|Assistant|System|Tool|Function|Developer):", answer):
            answer = answer[:answer.rindex("\n")]
            break
    return ["\n" + answer.strip()]

def print_texts(models, prompt, flags):
    """Each model's texts, as they are written. The heading of a single text goes to stderr."""
    file = sys.stdout if len(models) * flags.num_samples > 1 else sys.stderr
    for path, model, tokenizer in models:
        for seed in range(flags.seed, flags.seed + flags.num_samples):
            print(f"\n--- {path}, {count(model):,} parameters on {model.head.weight.device}, "
                  f"seed {seed}", file=file, flush=True)
            pieces = answer_to(model, tokenizer, prompt, flags, seed)
            for piece in itertools.chain([prompt], pieces, ["\n"]):
                print(piece, end="", flush=True)

def width(text):
    """The columns of a terminal that a text takes: Chinese takes 2, a combining mark 0."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text
               if unicodedata.category(c) not in ("Mn", "Me", "Cf"))

def wrap(text, columns):
    """The lines of a text, none wider than this. A wide line is cut at a space in its last half."""
    lines = []
    for line in text.expandtabs(4).splitlines():
        while width(line) > columns:
            n = sum(end <= columns for end in itertools.accumulate(map(width, line)))
            if " " in line[n // 2:n + 1]:
                n = line.rindex(" ", 0, n + 1)
            lines.append(line[:n])
            line = line[n:].lstrip(" ")
        lines.append(line)
    return lines

def print_table(models, prompts, flags):
    """A row per prompt: the prompt, then each model's answer; all in columns of equal width."""
    columns = max(10, shutil.get_terminal_size().columns // (len(models) + 1) - 2)

    def print_row(*cells):
        for pieces in itertools.zip_longest(*(wrap(cell, columns) for cell in cells), fillvalue=""):
            print("  ".join(piece + " " * (columns - width(piece)) for piece in pieces).rstrip(" "))
        print(flush=True)

    print_row("prompt", *(path for path, _, _ in models))
    for prompt in prompts:
        for seed in range(flags.seed, flags.seed + flags.num_samples):
            answers = (answer_to(model, tokenizer, prompt, flags, seed)
                       for _, model, tokenizer in models)
            print_row(prompt, *("".join(answer).strip("\n") for answer in answers))

def main():
    # The command line.
    parser = Parser("python sample.py", allow_abbrev=False)
    add, whole = parser.add_argument, number(int, 1, 10**9)
    add("runs", nargs="*", default=["out"], help="run folders or .pt files [the newest run in out]")
    add("--prompt", default="", help="text, FILE:path or - for standard input [a document's start]")
    add("--prompts", metavar="FILE", help="a prompt per line: prints a table of the answers")
    add("--chat", action="store_true", help="a prompt is a question, and the model answers it")
    add("--num_samples", type=whole, default=1, help="texts per prompt [1]")
    add("--max_new_tokens", type=whole, default=256, help="the longest text [256]")
    add("--temperature", type=number(float, 0, 1000), default=0.8, help="0: the likeliest [0.8]")
    add("--top_k", type=whole, help="only the k most likely tokens")
    add("--top_p", type=number(float, 1e-6, 1), help="only the likeliest, this probable together")
    add("--seed", type=number(int, 0, 2**32), default=1337, help="of the first text [1337]")
    add("--device", help="cpu, cuda, cuda:1 or mps [the best there is]")
    flags = parser.parse_intermixed_args()

    # The prompts and the models. What is wrong with them is found before the first text.
    prompts = [flags.prompt]
    if flags.prompts:
        prompts = [line for line in read_text(flags.prompts).splitlines() if line.strip()]
    elif flags.prompt == "-" or flags.prompt.startswith("FILE:"):
        prompts = [read_text(flags.prompt.removeprefix("FILE:"))]
    if flags.chat and not any(map(str.strip, prompts)):
        raise UserError("--chat needs a question: --prompt, --prompts, or --prompt=- to type it")
    device, *_ = choose_device(flags.device)
    models = [(path, *load(path, device)) for path in map(checkpoint_file, flags.runs)]
    for path, model, tokenizer in models:
        context = model.config.max_seq_len
        if max((len(tokenizer.encode(prompt)) for prompt in prompts), default=0) > context:
            print(f"warning: {path} reads the last {context:,} tokens of a prompt", file=sys.stderr)

    if flags.prompts:
        print_table(models, prompts, flags)
    else:
        print_texts(models, prompts[0], flags)

if __name__ == "__main__":
    if not hasattr(builtins, "get_ipython"):
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C: no traceback
        if sys.stdout:  # it may be closed
            utf8 = not sys.stdout.isatty() and "PYTHONIOENCODING" not in os.environ
            sys.stdout.reconfigure(encoding="utf-8" if utf8 else None, newline="", errors="replace")
    run_script(main)
