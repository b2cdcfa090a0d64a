"""Text in, tokens out: makes the train.bin, val.bin and meta.json that train.py reads.

    python prepare.py                                    # the Python standard library: needs no network
    python prepare.py --dataset=tinystories              # downloads 1.9 GB
    python prepare.py --input=my.txt                     # your own text, to data/my
    python prepare.py --input books/ --vocab_size=32000  # every .txt and .jsonl in a folder

In this order: where text comes from, how it is read, how a tokenizer is trained on it, how it becomes tokens, and how
these are put in place. No text is ever held as a whole, so it may be larger than memory.
"""
import argparse, base64, bz2, difflib, glob, gzip, heapq, http.client, io, itertools, json, lzma, os, re, shlex, shutil
import sys, sysconfig, time, urllib.error, urllib.request, zlib
from collections import Counter, defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import regex  # re with \p{L}; tiktoken brings it
import tiktoken

# Settings: edit them here, or give them as --name=value or prepare(name=value)
dataset = None  # python, tinystories, shakespeare, or a name for your own text (default: python, or the input's name)
input = None  # your own text: files, folders or globs of .txt and .jsonl (field "text"), also as .gz, .xz, .bz2
tokenizer = "bpe"  # bpe (trained here), char, gpt2, or a prepared dataset's folder, to use its tokenizer again
vocab_size = 4096  # tokens of a bpe tokenizer, <|endoftext|> among them
val_fraction = 0.01  # of the text for validation: every n-th document or, where these are few, the end of the text
separator = "<|endoftext|>"  # the line that parts documents in a .txt; "blank" for empty lines
data_dir = "data"  # the dataset is made in data_dir/dataset
overwrite = False  # replace a dataset that is there already
SETTINGS = "dataset input tokenizer vocab_size val_fraction separator data_dir overwrite".split()

# GPT-2's way to part text into words, as tiktoken spells it: letters, digits or signs, with the one space before them,
# or white space. No token crosses from a word into the next.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
PATTERNS = {"bpe": GPT2_PATTERN, "gpt2": GPT2_PATTERN, "char": "(?s:.)"}
TINYSTORIES = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStories-"
DOWNLOADS = {  # text to train on and, where there is one, text to validate on
    "tinystories": [TINYSTORIES + "train.txt", TINYSTORIES + "valid.txt"],
    "shakespeare": ["https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"],
}
PIECE = 4096  # characters: text is read and kept in pieces of at most this
BATCH = 128  # pieces that a thread encodes at once; tiktoken gives up on a word of a million characters
BPE_SAMPLE = 256 << 20  # bytes of text; a tokenizer trained on more would hardly differ


class UserError(ValueError):
    """Something that its one line explains. Whatever else is raised is a bug."""


def progress(line, told=[time.monotonic()]):
    """Print the line, unless another was told in the last ten seconds."""
    if time.monotonic() - told[0] > 10:
        told[0] = time.monotonic()
        print(line, flush=True)


# --- Where text comes from

OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
NAME = re.compile(r"(?!downloads$)[^./\\:\s][^/\\:\r\n]*")  # of a folder in data_dir
TEXT_FILE = re.compile(r"(.*)\.(txt|jsonl)(\.gz|\.xz|\.bz2)?", re.IGNORECASE | re.DOTALL)


def find_input(items):
    """Return the .txt and .jsonl files in a list of files, folders and globs, sorted within each of these."""
    paths = {}  # real path -> path: a file given twice would be in both train and val
    for item in items:
        pattern = glob.escape(item) + "/**" if os.path.isdir(item) else item
        found = glob.glob(pattern, recursive=True) or [item]
        found = [path for path in sorted(found) if TEXT_FILE.fullmatch(path) and not os.path.isdir(path)]
        if not found:
            raise UserError(f"input: {item} is no .txt or .jsonl (or one with .gz, .xz, .bz2), nor a folder with any")
        paths |= {os.path.realpath(path): path for path in found}
    return list(paths.values())


def find_python():
    """Return the .py files of the standard library, in the same order each time, without tests and packages."""
    root = Path(sysconfig.get_path("stdlib"))
    left_out = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
    return [str(path) for path in sorted(root.rglob("*.py")) if not left_out & set(path.relative_to(root).parts)]


def download(url, path):
    """Fetch url to path, and return path. A download that broke goes on where it stopped, a complete one is kept."""
    part = Path(path + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(5):
        if os.path.exists(path):
            return path
        time.sleep(attempt)  # seconds
        have = part.stat().st_size if part.exists() else 0
        print(f"downloading {url} from byte {have:,}")
        try:
            request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"})
            with urllib.request.urlopen(request, timeout=60) as answer, open(part, "ab") as file:
                if answer.status != 206:  # the server sends all of it, whatever was asked for
                    file.truncate(have := 0)
                total = have + int(answer.headers["Content-Length"])
                while block := answer.read(1 << 20):
                    have += file.write(block)
                    progress(f"downloaded {have / 1e6:,.0f} of {total / 1e6:,.0f} MB")
            problem = f"{have:,} of {total:,} bytes came"
            if have == total:
                part.rename(path)
        except (OSError, http.client.HTTPException) as error:
            problem = error
            print(f"{error}: trying again")
            if getattr(error, "code", 0) == 416:  # what is here is not the beginning of what is there
                part.unlink()
    raise UserError(f"cannot download {url}: {problem}; try again, or dataset python, which needs no network")


# --- Reading: one document after the other, in pieces of bounded size: (text, whether its document ends here)

# In GPT-2's pattern nothing but white space can follow white space in a word, and no word looks behind itself. So where
# white space follows anything else, a word has ended whatever stands around it. (?r) finds the last such place.
CUT = regex.compile(r"(?r)(?<=\S)\s")


def cut(text, size):
    """Yield a document in pieces of at most size characters, whose tokens are together those of the whole."""
    start = 0
    while len(text) - start > size:
        place = CUT.search(text, start + 1, start + size)
        end = place.start() if place else start + size  # a long word is cut all the same, at the cost of a token or so
        yield text[start:end], False
        start = end
    yield text[start:], True


def read_txt(file, separator):
    """Yield the pieces of a text in which each line that is the separator, blanks around it aside, ends a document."""
    text, at_line_start = "", True
    while line := file.readline(PIECE):  # or a part of it
        if at_line_start and line.strip() == separator:
            yield text, True
            text = ""
        else:
            text += line
            if len(text) > PIECE:
                *pieces, (text, _) = cut(text, PIECE)
                yield from pieces
        at_line_start = line.endswith("\n")
    yield text, True


def read_jsonl(file, path):
    """Yield the pieces of a file with a document {"text": "..."} on each line."""
    for number, line in enumerate(file, 1):
        try:
            text = json.loads(line)["text"] if line.strip() else ""
            text.encode()  # fails for what is no text: a number, or half of a surrogate pair
        except (ValueError, LookupError, TypeError, AttributeError):
            raise UserError(f'{path}, line {number:,}: not a JSON object with its text in a field "text"') from None
        yield from cut(text, PIECE)


def read_documents(paths, separator, count):
    """Yield the pieces of all files, but for documents of nothing but white space; count documents and bytes."""
    separator = "" if separator == "blank" else separator.strip()
    for path in paths:
        name, inside = path.lower(), False  # inside: whether a part of this document has been passed on
        try:
            raw = OPENERS.get(os.path.splitext(name)[1], open)(path, "rb")
            file = io.TextIOWrapper(raw, "utf-8-sig", newline="\n")  # sig: without the mark that Windows puts first
            for text, ends in read_jsonl(file, path) if ".jsonl" in name[-10:] else read_txt(file, separator):
                if inside or not ends or text.strip():
                    yield text, ends
                    inside = not ends
                    count["documents"] += ends
                    count["bytes"] += len(text.encode())
                    progress(f"read {count['documents']:,} documents, {count['bytes'] / 1e6:,.0f} MB")
        except UnicodeDecodeError as error:
            place = raw.tell() - len(error.object) + error.start
            raise UserError(f"{path} is not UTF-8: byte {place:,} is 0x{error.object[error.start]:02x}") from None
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


# --- The tokenizer

WORD = regex.compile(GPT2_PATTERN)
# A whole number of words (see CUT), found by a faster engine, to which \x1c to \x1f are white space too.
CHUNK = re.compile(r"[^\S\x1c-\x1f]*[\S\x1c-\x1f]+|\s+")


def count_words(texts):
    """Return how often each word of GPT-2's pattern occurs in an iterable of str."""
    chunks, words = Counter(), Counter()
    for text in texts:
        chunks.update(CHUNK.findall(text))
    for chunk, count in chunks.items():  # most occur again and again, which leaves the slow pattern little to do
        for word in WORD.findall(chunk):
            words[word] += count
    return words


def train_bpe(texts, vocab_size):
    """Train a byte-level BPE (Sennrich et al. 2016; on bytes and within words, as GPT-2's).

    texts: an iterable of str. vocab_size: tokens wanted, at least 256.
    Returns a list of bytes by rank: the 256 single bytes, then what each merge makes of the most frequent pair of
    neighbours; of equals, that with the smallest (left id, right id). Raises UserError (a ValueError).
    """
    if type(vocab_size) is not int or not 256 <= vocab_size <= 1_000_000:
        raise UserError(f"vocab_size must be from 256 to 1,000,000, not {vocab_size!r}")
    # A word is a str whose characters are token ids, at first its bytes: so Python finds, splits, joins and compares
    # ids at the speed of C. A pair is a str of two.
    counted = count_words(texts)
    words = [word.encode().decode("latin-1") for word in counted]
    counts = list(counted.values())
    pair_counts = defaultdict(int)
    words_with = defaultdict(list)  # pair -> indices of the words that have it, or had it
    for i, word in enumerate(words):
        for left, right in zip(word, word[1:]):
            pair_counts[left + right] += counts[i]
            words_with[left + right].append(i)

    # All pairs that a merge adds have the new token in them, so the count of a pair never rises once it is known. The
    # heap may therefore hold counts that are too high by now; they are put right when they come to its top.
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    tokens = [bytes([i]) for i in range(256)]
    while heap and len(tokens) < vocab_size:
        count, pair = heapq.heappop(heap)
        if -count != pair_counts[pair]:
            if pair_counts[pair]:
                heapq.heappush(heap, (-pair_counts[pair], pair))
            continue
        left, right = pair
        new = chr(len(tokens))
        tokens.append(tokens[ord(left)] + tokens[ord(right)])
        new_counts = defaultdict(int)
        for i in words_with.pop(pair):
            parts = words[i].split(pair)
            words[i] = new.join(parts)
            for k in range(len(parts) - 1):  # where the pair stood between two parts, the new token does now
                before, after = parts[k], parts[k + 1]
                if before:  # else it has another pair before it, and that one saw to both
                    pair_counts[before[-1] + left] -= counts[i]
                    new_counts[before[-1] + new] += counts[i]
                    words_with[before[-1] + new].append(i)
                if after or k + 2 < len(parts):
                    pair_counts[right + (after or left)[0]] -= counts[i]
                    new_counts[new + (after or new)[0]] += counts[i]
                    words_with[new + (after or new)[0]].append(i)
        pair_counts[pair] = 0
        for pair, count in new_counts.items():
            pair_counts[pair] = count
            heapq.heappush(heap, (-count, pair))
    if len(tokens) < vocab_size:
        print(f"no pair is left to merge: {len(tokens):,} tokens instead of {vocab_size:,}")
    return tokens


def load_tokenizer(which):
    """Return (name, tokens by id) of GPT-2's tokenizer or of a dataset's."""
    try:
        if which == "gpt2":
            gpt2 = tiktoken.get_encoding("gpt2")
            return which, [gpt2.decode_single_token_bytes(i) for i in range(gpt2.n_vocab - 1)]
    except (ValueError, OSError) as error:
        raise UserError(f"tokenizer: gpt2 has to be downloaded once, bpe has not ({type(error).__name__})") from None
    try:
        of = json.loads(Path(which, "meta.json").read_bytes())["tokenizer"]
        if of["pattern"] != PATTERNS[of["name"]]:
            raise ValueError("its pattern is not one of ours")
        return of["name"], [base64.b64decode(token) for token in of["tokens"]]
    except (ValueError, LookupError, TypeError, OSError) as error:
        raise UserError(f"tokenizer must be bpe, char, gpt2 or a dataset's folder, not {which}: {error}") from None


# --- Encoding: each piece goes to train or val, and on all cores becomes tokens

END = os.urandom(16).hex()  # what tiktoken takes for <|endoftext|>: drawn anew each time, so that no text has it in it


def split_by_position(pieces, left):
    """Yield (split, text, ends), where all is for validation once left bytes, or 256 characters more, are in train."""
    for text, ends in pieces:
        for part, last in cut(text, 256):
            before, left = left, left - len(part.encode())
            yield "train" if before > 0 else "val", part, (ends and last) or before > 0 >= left


def encode(pieces, encoding):
    """Yield (split, array of tokens, bytes, documents) for batches of (split, text, ends), in their order."""
    characters = set(map(bytes.decode, encoding.token_byte_values())) if encoding.name == "char" else None

    def encode_batch(batch):
        for split in ("train", "val"):
            text = "".join(text + END * ends for of, text, ends in batch if of == split)
            if characters and (unknown := set(text.replace(END, "")) - characters):  # tiktoken would panic
                names = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in sorted(unknown)[:9])
                raise UserError(f"input: the char tokenizer does not know {names}")
            tokens = encoding.encode_to_numpy(text, allowed_special={END}, disallowed_special=())
            yield split, tokens, len(text.replace(END, "").encode()), text.count(END)

    running = deque()  # in order, and bounded, so that memory is
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads do, as tiktoken releases Python's lock while it works
        while batch := list(itertools.islice(pieces, BATCH)):
            running.append(pool.submit(list, encode_batch(batch)))
            if len(running) > 2 * os.cpu_count():
                yield from running.popleft().result()
        for future in running:
            yield from future.result()


# --- The whole of it: from settings to a folder in its place


def write_dataset(s, paths, val_paths, source, folder):
    """Write train.bin, val.bin and meta.json of the text in paths to folder; return what is in meta.json."""
    start, total, again = time.monotonic(), Counter(), Counter()
    # The first reading: how much text there is, and its tokenizer
    every = sum(map(os.path.getsize, paths)) // BPE_SAMPLE + 1 if s.tokenizer == "bpe" else 1
    pieces = read_documents(paths, s.separator, total)
    texts = (text for number, (text, _) in enumerate(pieces) if number % every == 0)
    if s.tokenizer == "bpe":
        name, tokens = "bpe", train_bpe(texts, s.vocab_size - 1)
    elif s.tokenizer == "char":
        name, tokens = "char", [c.encode() for c in sorted({c for text in texts for c in set(text)})]
    else:
        name, tokens = load_tokenizer(s.tokenizer)
        deque(texts, maxlen=0)  # for total alone
    print(f"{total['documents']:,} documents, {total['bytes']:,} bytes; {name} tokenizer of {len(tokens) + 1:,} tokens"
          + f" from every {every}th piece" * (every > 1) + f" in {time.monotonic() - start:.1f} s")

    # The second reading: tokens
    start, n = time.monotonic(), round(1 / s.val_fraction)
    pieces = read_documents(paths, s.separator, again)
    if val_paths:
        own_val = read_documents(val_paths, s.separator, Counter())
        pieces = ((split, *piece) for split, some in (("train", pieces), ("val", own_val)) for piece in some)
    elif total["documents"] >= 2 * n:
        pieces = (("train" if (again["documents"] + 1) % n else "val", *piece) for piece in pieces)
    else:  # of a small text a tenth or 8 KB, for train.py to have some windows in it
        val_bytes = max(total["bytes"] * s.val_fraction, min(total["bytes"] / 10, 8192))
        pieces = split_by_position(pieces, total["bytes"] - val_bytes)
    encoding = tiktoken.Encoding(name, pat_str=PATTERNS[name], special_tokens={END: len(tokens)},
                                 mergeable_ranks={token: rank for rank, token in enumerate(tokens)})
    dtype = "uint16" if len(tokens) < 65536 else "uint32"
    splits = {split: Counter(tokens=0, bytes=0, documents=0, crc32=0) for split in ("train", "val")}
    with open(folder / "train.bin", "wb") as train, open(folder / "val.bin", "wb") as val:
        for split, ids, size, documents in encode(pieces, encoding):
            data = ids.astype(np.dtype(dtype).newbyteorder("<")).tobytes()
            (train if split == "train" else val).write(data)
            splits[split].update(tokens=len(ids), bytes=size, documents=documents)
            splits[split]["crc32"] = zlib.crc32(data, splits[split]["crc32"])
        for file in (train, val):  # on the disk before it gets its name: a power cut leaves no empty dataset
            file.flush()
            os.fsync(file.fileno())
    seconds = time.monotonic() - start
    if again != total:
        raise UserError(f"input: {source} changed while it was read; try again when it is left alone")
    for split, of in splits.items():
        if not of["tokens"]:
            raise UserError(f"input: {source} is empty or too short: nothing is left for {split}")
        print(f"{split}: {of['documents']:,} documents, {of['bytes']:,} bytes, {of['tokens']:,} tokens, "
              f"{of['bytes'] / of['tokens']:.2f} bytes a token")
    print(f"encoded in {seconds:.1f} s, {total['bytes'] / 1e6 / seconds:.1f} MB/s")
    vocabulary = [base64.b64encode(token).decode() for token in tokens]
    meta = {"format": 1, "dtype": dtype, "vocab_size": len(tokens) + 1, "splits": splits, "source": source[:300],
            "tokenizer": {"name": name, "pattern": PATTERNS[name], "tokens": vocabulary}}
    (folder / "meta.json").write_text(json.dumps(meta))
    return meta


def check_settings(given):
    """Return all settings, those given and the globals for the others; raise UserError for one that cannot be."""
    for name in given.keys() - set(SETTINGS):
        near = (difflib.get_close_matches(name, SETTINGS, 1) or [f"input={name}"])[0]
        raise UserError(f"there is no setting {name}; did you mean --{near}?")
    s = SimpleNamespace(**{name: globals()[name] for name in SETTINGS} | given)
    s.input = [str(item) for item in (s.input if isinstance(s.input, (list, tuple)) else [s.input] if s.input else [])]
    if s.dataset is None:  # books/my.txt.gz is called my, and books/*.txt books
        first = re.sub(r"[\\/][^\\/]*[*?[].*", "", os.path.abspath(s.input[0] if s.input else "python"))
        s.dataset = TEXT_FILE.sub(r"\1", os.path.basename(first))
    for name, wanted, right in [
        ("dataset", "a name for a folder", isinstance(s.dataset, str) and NAME.fullmatch(s.dataset)),
        ("vocab_size", "from 257 to 1,000,000", type(s.vocab_size) is int and 257 <= s.vocab_size <= 1_000_000),
        ("val_fraction", "above 0 and at most 0.5", type(s.val_fraction) is float and 1e-9 < s.val_fraction <= 0.5),
        ("tokenizer", "bpe, char, gpt2 or a dataset's folder", isinstance(s.tokenizer, (str, os.PathLike))),
        ("data_dir", "a folder", isinstance(s.data_dir, (str, os.PathLike))),
        ("separator", 'a line, or "blank"', isinstance(s.separator, str) and re.fullmatch(r".*\S.*", s.separator)),
        ("overwrite", "True or False", type(s.overwrite) is bool),
    ]:
        if not right:
            raise UserError(f"{name} must be {wanted}, not {getattr(s, name)!r}")
    return s


def prepare(**settings):
    """Make a dataset, by the settings given and, for the others, those at the top of this file.

    Returns a dict: folder, vocab_size, and splits as in meta.json. Raises UserError (a ValueError) when it cannot be
    made; then what was there before still is, and nothing half-made.
    """
    s = check_settings(settings)
    folder, new, old = (Path(s.data_dir, name) for name in (s.dataset, f".{s.dataset}.new", f".{s.dataset}.old"))
    try:
        new.parent.mkdir(parents=True, exist_ok=True)
        if old.exists() and not folder.exists():  # a run was killed between its two renames
            old.rename(folder)
        if os.path.lexists(folder) and not (s.overwrite and (folder / "meta.json").exists()):
            raise UserError(f"dataset: {folder} is there already; --overwrite replaces it, --dataset=NAME keeps it")
        shutil.rmtree(new, ignore_errors=True)  # of a run that was killed
        val_paths = []
        if s.input:
            paths, source = find_input(s.input), " ".join(s.input)
        elif s.dataset == "python":
            paths, source = find_python(), f"the standard library of Python {sys.version.split()[0]}"
        elif s.dataset in DOWNLOADS:
            cache, urls = os.path.join(s.data_dir, "downloads", s.dataset, ""), DOWNLOADS[s.dataset]
            files = [download(url, cache + url.split("/")[-1]) for url in urls]  # kept, for the next vocabulary
            paths, val_paths, source = files[:1], files[1:], urls[0]
        else:
            raise UserError(f"dataset must be python, {', '.join(DOWNLOADS)} or have an input, not {s.dataset}")
        new.mkdir()
        meta = write_dataset(s, paths, val_paths, source, new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise UserError(f"{error.filename or new}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if os.path.exists(folder):
            shutil.rmtree(old, ignore_errors=True)
    flags = [f"--{name}={getattr(s, name)}" for name, usual in (("dataset", "python"), ("data_dir", "data"))
             if str(getattr(s, name)) != usual]
    print(f"{folder} is ready; next: " + shlex.join(["python", "train.py", *flags]))
    return {"folder": str(folder), "vocab_size": meta["vocab_size"], "splits": meta["splits"]}


def read_command_line():
    """Return the settings that the command line gives. Their help is the comments at the top of this file."""
    def fail(message):
        raise UserError(message + " (see --help)")

    parser = argparse.ArgumentParser(usage=__doc__, allow_abbrev=False)
    parser.error = fail
    comments = dict(re.findall(r"^(\w+) = .*?  # (.+)$", Path(__file__).read_text(encoding="utf-8"), re.MULTILINE))
    kinds = {"input": {"nargs": "+"}, "vocab_size": {"type": int}, "val_fraction": {"type": float},
             "overwrite": {"nargs": "?", "const": True, "type": {"True": True, "False": False}.get}}
    for name in SETTINGS:
        parser.add_argument("--" + name, default=argparse.SUPPRESS, metavar="X",
                            help=f"{comments[name]} [{globals()[name]}]", **kinds.get(name, {}))
    known, unknown = parser.parse_known_args()
    return vars(known) | {flag.split("=")[0].lstrip("-"): None for flag in unknown}


if __name__ == "__main__":
    try:
        prepare(**(read_command_line() if "__file__" in globals() else {}))  # a notebook's cell has no command line
    except (UserError, KeyboardInterrupt) as error:
        print(f"error: {error}" if str(error) else "stopped; what was there before still is", file=sys.stderr)
        sys.exit(2 if str(error) else 130)
