"""Text in, tokens out: makes the train.bin, val.bin and meta.json that train.py reads.

    python prepare.py                                    # the Python standard library: needs no network
    python prepare.py --dataset=tinystories              # downloads 1.9 GB
    python prepare.py --input=my.txt                     # your own text, to data/my
    python prepare.py --input books/ --vocab_size=32000  # every .txt and .jsonl in a folder

In this order: where text comes from, how it is read, how a tokenizer is trained on it, how it becomes tokens, and how
these are put in place. No text is ever held as a whole, so it may be larger than memory.
"""
import argparse, base64, bz2, difflib, glob, gzip, heapq, http.client, io, json, lzma, os, re, shlex, shutil
import sys, sysconfig, time, types, urllib.error, urllib.request, zlib
from collections import Counter, defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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

EOT = "<|endoftext|>"  # ends each document; the last id of each vocabulary
# GPT-2's way to part text into words, as tiktoken spells it: letters, digits or signs, with the one space before them,
# or white space. No token crosses from a word into the next.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
PATTERNS = {"bpe": GPT2_PATTERN, "gpt2": GPT2_PATTERN, "char": "(?s:.)"}
TINYSTORIES = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStories-"
DOWNLOADS = {  # text to train on and, where there is one, text to validate on
    "tinystories": [TINYSTORIES + "train.txt", TINYSTORIES + "valid.txt"],
    "shakespeare": ["https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"],
}
BLOCK = 1 << 20  # bytes read at once, and characters that a thread encodes at once
BPE_SAMPLE = 512 << 20  # bytes of text; a tokenizer trained on more would hardly differ


class UserError(ValueError):
    """Something that its one line explains. Whatever else is raised is a bug."""


def progress(verb, total):
    """Return a function to call with the bytes done so far; it prints them now and then."""
    start = last = time.monotonic()

    def tell(done):
        nonlocal last
        now = time.monotonic()
        if now - last > (5 if sys.stdout.isatty() else 20):  # seconds; spares notebooks and logs
            last = now
            speed = done / 1e6 / (now - start)
            print(f"{verb} {done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {speed:.1f} MB/s", flush=True)
    return tell


# ----------------------------------------------------------------------------------------------------------------------
# Where text comes from

OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
TEXT_FILE = re.compile(r"(.*)\.(txt|jsonl)(\.gz|\.xz|\.bz2)?", re.IGNORECASE | re.DOTALL)


def find_input(inputs):
    """Return the .txt and .jsonl files in a list of files, folders and globs, sorted within each of these."""
    paths = []
    for item in inputs:
        found = [item]
        if os.path.isdir(item):
            found = [path for path in glob.glob(glob.escape(item) + "/**", recursive=True) if TEXT_FILE.fullmatch(path)]
        elif not os.path.exists(item) and glob.has_magic(item):
            found = glob.glob(item, recursive=True)
        if not found:
            raise UserError(f"input: there is no .txt or .jsonl file in {item}")
        paths += sorted(found)
    for path in paths:
        if not TEXT_FILE.fullmatch(path):
            raise UserError(f"input: {path} is not named .txt or .jsonl, or one of these with .gz, .xz or .bz2")
        if not os.path.isfile(path):
            raise UserError(f"input: {path} is {'not a file' if os.path.exists(path) else 'missing'}")
    return list({os.path.realpath(path): path for path in paths}.values())  # one given twice would be in train and val


def find_python():
    """Return the .py files of the standard library, in the same order each time, without tests and packages."""
    root = Path(sysconfig.get_path("stdlib"))
    left_out = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
    paths, skipped = [], 0
    for name in sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py")):
        if not left_out & set(name.split("/")):
            try:
                (root / name).read_text("utf-8")
                paths.append(str(root / name))
            except (UnicodeDecodeError, OSError):
                skipped += 1
    if not paths:
        raise UserError(f"dataset: there are no .py files in {root}; give a text of your own by --input=FILE")
    print(f"standard library in {root}: {len(paths):,} files" + f", {skipped} unreadable skipped" * (skipped > 0))
    return paths


def download(url, path):
    """Fetch url to path and return path. A download that broke goes on where it stopped, a complete one is kept."""
    part = path + ".part"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    for attempt in range(8):
        if os.path.exists(path):
            return path
        time.sleep(min(attempt, 5))  # seconds
        try:
            have = os.path.getsize(part) if os.path.exists(part) else 0
            print(f"downloading {url}" + f" from byte {have:,}" * (have > 0))
            request = urllib.request.Request(url, headers={"Range": f"bytes={have}-", "User-Agent": "prepare.py"})
            with urllib.request.urlopen(request, timeout=60) as answer, open(part, "ab") as file:
                if answer.status != 206:  # the server sends all of it, whatever was asked for
                    file.truncate(have := 0)
                total = have + int(answer.headers.get("Content-Length", 0))
                tell = progress("downloaded", total)
                while block := answer.read(BLOCK):
                    have += file.write(block)
                    tell(have)
            problem = f"{have:,} of {total:,} bytes came"
            if os.path.getsize(part) == total:
                os.replace(part, path)
        except (OSError, http.client.HTTPException) as error:
            problem = getattr(error, "reason", error)
            if getattr(error, "code", 0) == 416:  # what is here is not the beginning of what is there
                os.remove(part)
            elif attempt == 0 and isinstance(error, urllib.error.URLError):
                break  # not broken on the way but never begun
    raise UserError(f"dataset: cannot download {url}: {problem}; the same command goes on where it stopped, "
                    "and `python prepare.py` (dataset python) needs no network")


# ----------------------------------------------------------------------------------------------------------------------
# Reading: documents one after the other, in pieces of bounded size. A piece is (text, whether its document ends here).

SAFE_CUT = regex.compile(r"\S(?=\s)")


def cut(text, size=BLOCK // 2):
    """Return text as a list of strings of size to 2 * size characters, whose tokens are together those of the whole.

    In GPT-2's pattern nothing but white space can follow white space in a word, and no word looks behind itself. So
    where white space follows anything else, a word has ended whatever stands around it. Where there is no such place
    (a megabyte of DNA), the text is cut all the same, at the cost of a token more or less.
    """
    parts, start = [], 0
    while len(text) - start > 2 * size:
        place = SAFE_CUT.search(text, start + size, start + 2 * size)
        end = place.end() if place else start + 2 * size
        parts.append(text[start:end])
        start = end
    return parts + [text[start:]]


def read_txt(file, parting):
    """Yield the pieces of a text in which lines that match parting part the documents."""
    pending, at_line_start = "", True  # pending: what has been read of a document whose end has not
    while block := file.read(BLOCK) + file.readline(BLOCK):  # whole lines, unless they are longer than a block
        head = 0 if at_line_start else (block.find("\n") + 1 or len(block))  # the rest of such a line parts nothing
        at_line_start = block.endswith("\n")
        first, *others = parting.split(block[head:])
        *documents, pending = [pending + block[:head] + first, *others]
        yield from ((document, True) for document in documents)
        *parts, pending = cut(pending)
        yield from ((part, False) for part in parts)
    yield pending, True


def read_jsonl(file, path):
    """Yield the pieces of a file with a document {"text": "..."} on each line."""
    for number, line in enumerate(file, 1):
        try:
            text = json.loads(line)["text"] if line.strip() else ""
            text.encode()  # half of a surrogate pair is valid JSON, yet no text
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise UserError(f'{path}, line {number:,}: not a JSON object with its text in a field "text"') from None
        *parts, last = cut(text)
        yield from ((part, False) for part in parts)
        yield last, True


def read_file(path, separator, seen):
    """Yield the pieces of one file; seen notices one that changes from one reading to the next."""
    line = r"[ \t]*\r?\n" if separator == "blank" else re.escape(separator) + r"\r?(?:\n|\Z)"
    parting = regex.compile("^" + line, regex.MULTILINE)  # in this place four times as fast as re
    try:
        with OPENERS.get(Path(path).suffix.lower(), open)(path, "rb") as raw:
            file = io.TextIOWrapper(raw, "utf-8-sig", newline="\n")  # sig: without the mark that Windows puts first
            try:
                is_jsonl = re.search(r"\.jsonl(\.\w+)?$", path, re.IGNORECASE)
                yield from read_jsonl(file, path) if is_jsonl else read_txt(file, parting)
            except UnicodeDecodeError as error:
                place = raw.tell() - len(error.object) + error.start
                raise UserError(f"{path} is not UTF-8: byte {place:,} is 0x{error.object[error.start]:02x}") from None
            mark = raw.tell(), os.stat(path).st_mtime_ns
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if seen.setdefault(path, mark) != mark:
        raise UserError(f"{path} changed while it was read; try again when it is left alone")


def read_documents(paths, separator, seen, characters=None):
    """Yield the pieces of all files, but for documents of nothing but white space. Line ends stay as they are.

    seen: a dict for all readings. characters: the only ones that may occur, if given.
    """
    for path in paths:
        inside = False  # whether a part of this document has been passed on
        for text, ends in read_file(path, separator, seen):
            if characters and (unknown := set(text) - characters):  # tiktoken would panic
                at, character = min((text.index(character), character) for character in unknown)
                raise UserError(f"{path}: the char tokenizer does not know {character!r} (U+{ord(character):04X}) "
                                f"in {text[max(0, at - 20):at + 20]!r}")
            if inside or not ends or text.strip():
                yield text, ends
                inside = not ends


# ----------------------------------------------------------------------------------------------------------------------
# The tokenizer

WORD = regex.compile(GPT2_PATTERN)
# White space and then anything else: a whole number of words (see cut), found by a faster engine. To that one, four
# control characters are white space that are not to GPT-2.
CHUNK = re.compile(r"[^\S\x1c-\x1f]*[\S\x1c-\x1f]+|\s+")


def count_words(texts):
    """Return how often each word of GPT-2's pattern occurs in an iterable of str."""
    words, chunks = Counter(), Counter()

    def fold():  # most chunks occur again and again, which leaves the slow pattern little to do
        for chunk, count in chunks.items():
            for word in WORD.findall(chunk):
                words[word] += count
        chunks.clear()

    for text in texts:
        for part in cut(text):
            chunks.update(CHUNK.findall(part))
        if len(chunks) > 1_000_000:  # about 100 MB
            fold()
    fold()
    return words


def train_bpe(texts, vocab_size):
    """Train a byte-level BPE (Sennrich et al. 2016; on bytes and within words, as GPT-2's).

    texts: an iterable of str. vocab_size: tokens wanted, at least 256.
    Returns a list of bytes by rank: the 256 single bytes, then what each merge makes of the most frequent pair of
    neighbours; of equals, that with the smallest (left id, right id). Stops short, and says so, when no pair is left.
    Raises UserError (a ValueError) for other arguments.
    """
    if isinstance(texts, (str, bytes)):
        raise UserError("texts must be an iterable of str; for a single text, [text]")
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
    """Return (name, tokens by id) of GPT-2's tokenizer, or of that in a dataset's folder or meta.json."""
    if which == "gpt2":
        try:
            gpt2 = tiktoken.get_encoding("gpt2")
        except (OSError, ValueError) as error:
            raise UserError(f"tokenizer: gpt2 has to be downloaded once; bpe needs no network ({error})") from None
        return which, [gpt2.decode_single_token_bytes(i) for i in range(gpt2.n_vocab - 1)]
    try:
        meta = json.loads(Path(which, "meta.json" if os.path.isdir(which) else "").read_bytes())
        name = meta["tokenizer"]["name"]
        tokens = [base64.b64decode(token, validate=True) for token in meta["tokenizer"]["tokens"]]
        singles = sum(len(token.decode() if name == "char" else token) == 1 for token in tokens)
        if (meta["format"], meta["tokenizer"]["pattern"], meta["vocab_size"]) != (1, PATTERNS[name], len(tokens) + 1):
            raise ValueError("its format, pattern or vocab_size is not ours")
        if not tokens or len(set(tokens)) < len(tokens) or singles != (len(tokens) if name == "char" else 256):
            raise ValueError("its tokens are no vocabulary")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise UserError(f"tokenizer must be bpe, char, gpt2 or a dataset's folder, not {which}: {error}") from None
    return name, tokens


# ----------------------------------------------------------------------------------------------------------------------
# Encoding: each piece goes to train or val, and on all cores becomes tokens


def split_by_document(pieces, n):
    """Yield (split, text, whether its document ends here); every n-th document is for validation."""
    number = 1
    for text, ends in pieces:
        yield "train" if number % n else "val", text, ends
        number += ends


def split_by_position(pieces, train_bytes):
    """Yield the same, where the text after train_bytes, or the last line end before, is for validation."""
    split, inside = "train", False
    for text, ends in pieces:
        size = len(text.encode())
        if split == "train" and size > train_bytes:
            at = len(text) * train_bytes // size
            near = max(0, at - 1000)  # characters; where no line ends there, a word does, or else
            at = text.rfind("\n", near, at) + 1 or text.rfind(" ", near, at) + 1 or at
            if at or inside:
                yield "train", text[:at], True
            split, text = "val", text[at:]
        yield split, text, ends
        train_bytes -= size
        inside = not ends


def batches(pieces):
    """Yield (split, list of (text, whether its document ends here)) with about BLOCK characters each."""
    lists, sizes = {"train": [], "val": []}, Counter()
    for split, text, ends in pieces:
        lists[split].append((text, ends))
        sizes[split] += len(text)
        if sizes[split] > BLOCK:
            yield split, lists[split]
            lists[split], sizes[split] = [], 0
    yield from lists.items()


def encode(batch, encoding):
    """Return (array of tokens, bytes, documents) of a batch."""
    documents = sum(ends for _, ends in batch)
    whole = "".join(text + EOT * ends for text, ends in batch)
    size = len(whole.encode()) - documents * len(EOT)
    if whole.count(EOT) == documents:  # so the text itself has none, and one call does it all
        try:
            return encoding.encode_to_numpy(whole, allowed_special={EOT}, disallowed_special=()), size, documents
        except ValueError:
            pass  # tiktoken gives up on a million blanks in a row
    arrays = []
    for text, ends in batch:
        arrays += [encoding.encode_to_numpy(part, disallowed_special=()) for part in cut(text, 50_000)]
        arrays += [np.array([encoding.eot_token], np.uint32)] * ends
    return np.concatenate(arrays), size, documents


def write_splits(folder, pieces, encoding, dtype, total):
    """Write the tokens of (split, text, ends) pieces to folder/train.bin and val.bin; return splits as in meta.json."""
    splits = {split: Counter(tokens=0, bytes=0, documents=0, crc32=0) for split in ("train", "val")}
    files = {split: open(os.path.join(folder, split + ".bin"), "wb") for split in splits}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    tell = progress("encoded", total)
    running = deque()  # in order, and bounded, so that memory is

    def finish_one():
        split, future = running.popleft()
        tokens, size, documents = future.result()
        data = tokens.astype(dtype).tobytes()
        files[split].write(data)
        splits[split].update(tokens=len(tokens), bytes=size, documents=documents)
        splits[split]["crc32"] = zlib.crc32(data, splits[split]["crc32"])
        tell(splits["train"]["bytes"] + splits["val"]["bytes"])

    with ThreadPoolExecutor(cores) as pool:  # threads do, as tiktoken releases Python's lock while it works
        for split, batch in batches(pieces):
            running.append((split, pool.submit(encode, batch, encoding)))
            if len(running) > 2 * cores:
                finish_one()
        while running:
            finish_one()
    for file in files.values():
        file.close()
    return splits


# ----------------------------------------------------------------------------------------------------------------------
# The whole of it: from settings to a folder in its place


def check_settings(changes):
    """Return all settings as a namespace, with the changes made; raise UserError for a value that cannot be."""
    for name in changes:
        if name not in SETTINGS:
            near = difflib.get_close_matches(name, SETTINGS, 1, 0)[0]
            raise UserError(f"there is no setting {name}; did you mean {near}?")
    s = types.SimpleNamespace(**{name: globals()[name] for name in SETTINGS} | changes)
    s.input = [s.input] if isinstance(s.input, (str, os.PathLike)) else s.input or []

    def is_path(value):
        return isinstance(value, (str, os.PathLike)) and os.fspath(value) and "\0" not in os.fspath(value)

    for name, right, wanted in [
        ("input", isinstance(s.input, (list, tuple)) and all(map(is_path, s.input)), "files, folders or globs"),
        ("tokenizer", is_path(s.tokenizer), "bpe, char, gpt2 or a dataset's folder"),
        ("vocab_size", type(s.vocab_size) is int and 257 <= s.vocab_size <= 1_000_000, "from 257 to 1,000,000"),
        ("val_fraction", type(s.val_fraction) is float and 0 < s.val_fraction <= 0.5, "above 0 and at most 0.5"),
        ("separator", isinstance(s.separator, str) and re.fullmatch(r"[^\r\n]+", s.separator), 'a line, or "blank"'),
        ("data_dir", is_path(s.data_dir), "a folder"),
        ("overwrite", type(s.overwrite) is bool, "True or False"),
    ]:
        if not right:
            raise UserError(f"{name} must be {wanted}, not {getattr(s, name)!r}")
    s.input, s.data_dir, s.tokenizer = list(map(os.fspath, s.input)), os.fspath(s.data_dir), os.fspath(s.tokenizer)
    if s.dataset is None:
        first = os.path.abspath(s.input[0] if s.input else "python")
        while glob.has_magic(first) and not os.path.exists(first):
            first = os.path.dirname(first)  # books/*.txt is called books
        s.dataset = TEXT_FILE.sub(r"\1", os.path.basename(first))
    not_a_name = r"^$|^\.|^downloads$|[/\\:\0-\x1f\x7f-\x9f\ud800-\udfff]"  # the last are bytes that are no text
    if not isinstance(s.dataset, str) or re.search(not_a_name, s.dataset):
        raise UserError(f"dataset must be a name for a folder, not {s.dataset!r}")
    if not s.input and s.dataset not in ("python", *DOWNLOADS):
        raise UserError(f"dataset must be python, {', '.join(DOWNLOADS)} or have its text in input, not {s.dataset!r}")
    return s


def prepare(**settings):
    """Make a dataset, by the settings given and, for the others, those at the top of this file.

    Returns a dict: folder, vocab_size, and splits as in meta.json. Raises UserError (a ValueError) when it cannot be
    made; then what was there before still is, and nothing half-made.
    """
    s = check_settings(settings)
    folder = os.path.join(s.data_dir, s.dataset)
    old, new = (os.path.join(s.data_dir, f".{s.dataset}.{kind}") for kind in ("old", "new-"))

    def settle():  # a run may have ended between its two renames
        if os.path.exists(folder):
            shutil.rmtree(old, ignore_errors=True)
        elif os.path.exists(old):
            os.rename(old, folder)

    try:
        os.makedirs(s.data_dir, exist_ok=True)
        settle()
        if os.path.lexists(folder) and not s.overwrite:
            raise UserError(f"dataset: {folder} is there already; --overwrite replaces it, --dataset=NAME leaves it")
        if os.path.lexists(folder) and set(os.listdir(folder)) - {"train.bin", "val.bin", "meta.json"}:
            raise UserError(f"dataset: {folder} has other files in it, so it is not replaced; try --dataset=NAME")
        for leftover in glob.glob(glob.escape(new) + "*"):  # of runs that were killed
            shutil.rmtree(leftover)
        os.mkdir(new := new + str(os.getpid()))
        meta = make_dataset(s, new)
        if os.path.exists(folder):
            os.rename(folder, old)
        os.rename(new, folder)
        sync(s.data_dir)
    except OSError as error:
        raise UserError(f"data_dir: {error.filename or new}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
        settle()
    flags = [f"--{name}={getattr(s, name)}" for name, usual in (("dataset", "python"), ("data_dir", "data"))
             if getattr(s, name) != usual]
    print(f"{folder} is ready; next: " + shlex.join(["python", "train.py", *flags]))
    return {"folder": folder, "vocab_size": meta["vocab_size"], "splits": meta["splits"]}


def make_dataset(s, folder):
    """Write train.bin, val.bin and meta.json to folder by the settings s; return what is in meta.json."""
    start = time.monotonic()
    name, tokens = (s.tokenizer, None) if s.tokenizer in ("bpe", "char") else load_tokenizer(s.tokenizer)
    characters = {token.decode() for token in tokens} if name == "char" and tokens else None
    if s.input:
        paths, source = [find_input(s.input)], " ".join(s.input)
    elif s.dataset == "python":
        paths, source = [find_python()], f"the standard library of Python {sys.version.split()[0]}"
    else:
        cache = os.path.join(s.data_dir, "downloads", s.dataset)  # kept, for the next vocabulary
        paths = [[download(url, os.path.join(cache, url.rpartition("/")[2]))] for url in DOWNLOADS[s.dataset]]
        source = DOWNLOADS[s.dataset][0]

    # The first reading: how much text there is, and its tokenizer
    size = sum(os.path.getsize(path) * (4 if path.lower().endswith(tuple(OPENERS)) else 1) for path in paths[0])
    sample_every = size // BPE_SAMPLE + 1 if name == "bpe" else 1  # bytes, and 4 is about what packing saves
    total, seen = Counter(), {}

    def survey():
        tell = progress("read", size)
        for number, (text, ends) in enumerate(read_documents(paths[0], s.separator, seen, characters)):
            total.update(bytes=len(text.encode()), documents=ends)
            tell(total["bytes"])
            if number % sample_every == 0:
                yield text

    if tokens is not None:
        deque(survey(), maxlen=0)  # no more than counts
    elif name == "bpe":
        tokens = train_bpe(survey(), s.vocab_size - 1)
    else:
        characters = set().union(*survey())
        tokens = [character.encode() for character in sorted(characters)]
    if not total["documents"]:
        raise UserError(f"input: {source} is empty")
    middle = time.monotonic()
    print(f"{total['documents']:,} documents, {total['bytes']:,} bytes; {name} tokenizer of {len(tokens) + 1:,} tokens"
          + f" from every {sample_every}th piece" * (sample_every > 1) + f" in {middle - start:.1f} s")

    # The second: tokens
    pieces, *own_val = (read_documents(some, s.separator, seen, characters) for some in paths)
    n = round(1 / s.val_fraction)
    if own_val:
        pieces = ((split, *piece) for split, some in (("train", pieces), ("val", *own_val)) for piece in some)
    elif total["documents"] >= 2 * n:
        pieces = split_by_document(pieces, n)
    else:  # of a small text a tenth or 8 KB, for train.py to have some windows in it
        val_bytes = max(int(total["bytes"] * s.val_fraction), min(total["bytes"] // 10, 8192))
        pieces = split_by_position(pieces, total["bytes"] - val_bytes)
        print(f"fewer than {2 * n} documents: the last {val_bytes:,} bytes are for validation")
    encoding = tiktoken.Encoding(name, pat_str=PATTERNS[name], special_tokens={EOT: len(tokens)},
                                 mergeable_ranks={token: rank for rank, token in enumerate(tokens)})
    dtype = "uint16" if len(tokens) < 65536 else "uint32"
    splits = write_splits(folder, pieces, encoding, np.dtype(dtype).newbyteorder("<"), size)
    for split, of in splits.items():
        if not of["documents"]:
            raise UserError(f"input: {source} is too short: nothing is left for {split}")
        print(f"{split}: {of['documents']:,} documents, {of['bytes']:,} bytes, {of['tokens']:,} tokens, "
              f"{of['bytes'] / of['tokens']:.2f} bytes a token")
    seconds = time.monotonic() - middle
    print(f"encoded in {seconds:.1f} s, {(splits['train']['bytes'] + splits['val']['bytes']) / 1e6 / seconds:.1f} MB/s")
    meta = {"format": 1, "dtype": dtype, "vocab_size": len(tokens) + 1,
            "tokenizer": {"name": name, "pattern": PATTERNS[name],
                          "tokens": [base64.b64encode(token).decode() for token in tokens]},
            "splits": splits, "source": "".join(c if c.isprintable() else "?" for c in source[:300])}
    Path(folder, "meta.json").write_text(json.dumps(meta))
    for path in [*Path(folder).iterdir(), folder]:
        sync(path)
    return meta


def sync(path):
    """Flush a file or folder to the disk, so that a rename never outlives a power cut that its content did not."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def read_command_line():
    """Return the settings that the command line gives. Their help is the comments at the top of this file."""
    def fail(message):
        raise UserError(message + " (see --help)")

    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = fail
    comments = dict(re.findall(r"^(\w+) = .*?  # (.+)$", Path(__file__).read_text(encoding="utf-8"), re.MULTILINE))
    kinds = {"input": {"nargs": "+", "action": "extend"}, "vocab_size": {"type": int}, "val_fraction": {"type": float},
             "overwrite": {"nargs": "?", "const": True, "type": lambda x: {"True": True, "False": False}.get(x, x)}}
    for name in SETTINGS:
        usual = "" if globals()[name] is None else f" (default: {globals()[name]})"
        parser.add_argument("--" + name, default=argparse.SUPPRESS, metavar="X", help=comments[name] + usual,
                            **kinds.get(name, {}))
    known, others = parser.parse_known_args()
    for other in others:
        if other.startswith("-") or "input" not in known:
            near = difflib.get_close_matches(other.strip("-").split("=")[0], SETTINGS, 1, 0)[0]
            fail(f"there is no {other}; did you mean --{near if other.startswith('-') else 'input'}?")
        known.input.append(other)  # --input=a.txt b.txt
    return vars(known)


def main():
    in_notebook = "__file__" not in globals()  # then the command line is another program's, and an exit an error
    status, message = 0, ""
    try:
        prepare(**({} if in_notebook else read_command_line()))
    except UserError as error:
        status, message = 2, f"error: {error}"
    except KeyboardInterrupt:
        status, message = 130, "stopped; what was there before still is"
    print("".join(c if c.isprintable() else "?" for c in message), file=sys.stderr, end="\n" * (status > 0))
    if status and not in_notebook:
        sys.exit(status)


if __name__ == "__main__":
    main()
