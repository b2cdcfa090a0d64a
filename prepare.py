"""Text in, tokens out: makes the train.bin, val.bin and meta.json that train.py reads.

    python prepare.py                                    # the Python standard library: needs no network
    python prepare.py --dataset=tinystories              # downloads 1.9 GB
    python prepare.py --input=my.txt                     # your own text, to data/my
    python prepare.py --input books/ --vocab_size=32000  # every .txt and .jsonl in a folder

In this order: where text comes from, how it is read, how a tokenizer is trained on it, how it becomes tokens, and how
these are put in place. No text is ever held as a whole, so it may be larger than memory.
"""
import argparse, base64, bz2, contextlib, difflib, glob, gzip, hashlib, heapq, http.client, io, itertools, json, lzma
import math, os, re, shlex, shutil, signal, sys, sysconfig, time, urllib.error, urllib.request, zlib
from collections import Counter, defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

if __name__ == "__main__" and "__file__" in globals():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until prepare() sees to it, Ctrl-C leaves without a traceback

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

# GPT-2's way to part text into words, as tiktoken spells it: letters, digits or signs, with the one space before them,
# or white space. No token crosses from a word into the next.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
TINYSTORIES = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStories-"
DOWNLOADS = {  # text to train on and, where there is one, text to validate on
    "tinystories": [TINYSTORIES + "train.txt", TINYSTORIES + "valid.txt"],
    "shakespeare": ["https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"],
}
BLOCK = 1 << 16  # characters: text is read and encoded in blocks of about this size
BPE_SAMPLE = 256 << 20  # bytes of text; a tokenizer trained on more would hardly differ


class UserError(ValueError):
    """Something that its one line explains. Whatever else is raised is a bug."""


def progress(line, told=[time.monotonic()]):
    """Print the line, unless another was told in the last ten seconds."""
    if time.monotonic() - told[0] > 10:
        told[0] = time.monotonic()
        print(line, flush=True)


# --- Where text comes from

TEXT_FILE = re.compile(r"(.*)\.(txt|jsonl)(\.gz|\.xz|\.bz2)?", re.IGNORECASE | re.DOTALL)


def find_text(s):
    """Return the files to train on, those to validate on if the dataset has its own, and what they are."""
    if s.input:
        return find_input(s.input), [], " ".join(s.input)
    if s.dataset == "python":  # without tests and packages, in the same order each time
        root = Path(sysconfig.get_path("stdlib"))
        left_out = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
        files = [str(path) for path in sorted(root.rglob("*.py")) if not left_out & set(path.relative_to(root).parts)]
        return files, [], f"the standard library of Python {sys.version.split()[0]}"
    if s.dataset in DOWNLOADS:
        folder, urls = os.path.join(s.data_dir, "downloads", s.dataset), DOWNLOADS[s.dataset]
        files = [download(url, os.path.join(folder, url.split("/")[-1])) for url in urls]
        return files[:1], files[1:], urls[0]
    raise UserError(f"dataset must be python, {', '.join(DOWNLOADS)} or have an input, not {s.dataset}")


def find_input(items):
    """Return the .txt and .jsonl files in a list of files, folders and globs, sorted within each of these."""
    paths = {}  # real path -> path: a file given twice would be in both train and val
    for item in items:
        found = glob.glob(glob.escape(item) + "/**" if os.path.isdir(item) else item, recursive=True) or [item]
        found = [path for path in sorted(found) if TEXT_FILE.fullmatch(path) and not os.path.isdir(path)]
        if not found:
            raise UserError(f"input: {item} is no .txt or .jsonl (or one with .gz, .xz, .bz2), nor a folder with any")
        paths |= {os.path.realpath(path): path for path in found}
    return list(paths.values())


class Redirect(urllib.request.HTTPRedirectHandler):
    """Follows a redirect, but not away from HTTPS, and keeps the file's SHA-256, which Hugging Face tells with it."""
    sha256 = ""

    def redirect_request(self, request, file, code, message, headers, url):
        self.sha256 = headers.get("X-Linked-ETag", "").strip('"')
        if request.type == "https" and not url.startswith("https:"):
            raise urllib.error.URLError(f"it redirects to {url}, which is not HTTPS")
        return super().redirect_request(request, file, code, message, headers, url)


def sha256_of(path):
    """Return a file's SHA-256 in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def download(url, path):
    """
    Fetch url to path and return path. A broken download goes on where it stopped; a complete one is kept, if its length
    and, where the source tells one, its SHA-256 are right.
    """
    if os.path.exists(path):
        return path
    part = Path(path + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(5):
        time.sleep(attempt)  # seconds
        have = part.stat().st_size if part.exists() else 0
        print(f"downloading {url}: attempt {attempt + 1}, from byte {have:,}", flush=True)
        try:
            redirect, request = Redirect(), urllib.request.Request(url, headers={"Range": f"bytes={have}-"})
            with urllib.request.build_opener(redirect).open(request, timeout=60) as answer:
                with open(part, "ab" if answer.status == 206 else "wb") as file:  # not 206: all of it comes
                    size = file.tell() + int(answer.headers["Content-Length"])
                    while file.write(answer.read(1 << 20)):
                        progress(f"downloaded {file.tell() / 1e6:,.0f} of {size / 1e6:,.0f} MB")
            if part.stat().st_size != size:
                problem = f"{part.stat().st_size:,} of {size:,} bytes came"
            elif len(redirect.sha256) == 64 and sha256_of(part) != redirect.sha256:
                problem = f"the SHA-256 is not {redirect.sha256}"
                part.unlink()
            else:
                part.rename(path)
                return path
        except (OSError, http.client.HTTPException) as error:
            problem = error
            if getattr(error, "code", 0) == 416:  # what is here is not the beginning of what is there
                part.unlink()
    raise UserError(f"cannot download {url}: {problem}; try again, or dataset python, which needs no network")


# --- Reading: one document after the other, long ones in parts: (text, whether its document ends here)

def read_txt(file, separator):
    """Yield a text in which each line that is the separator, blanks around it aside, ends a document."""
    line = r"^[^\S\n]*\n" if separator == "blank" else re.escape(separator.strip()) + r"[^\S\n]*$\n?"
    line, rest = re.compile(line, re.MULTILINE), ""  # blanks before it are seen to below: a literal start is found fast
    while block := file.read(BLOCK) + file.readline(BLOCK):  # to the end of a line, if that is near
        text, start = rest + block, 0
        for found in line.finditer(text):
            of_line = max(start, text.rfind("\n", start, found.start()) + 1)
            if not text[of_line:found.start()].strip():
                yield text[start:of_line], True
                start = found.end()
        rest = text[start:]
        if len(rest) > BLOCK:
            yield rest, False
            rest = ""
    yield rest, True


def read_jsonl(file, path):
    """Yield the documents of a file with {"text": "..."} on each line."""
    for number, line in enumerate(file, 1):
        try:
            text = json.loads(line)["text"] if line.strip() else ""
            text.encode()  # fails for what is no text: a number, or half of a surrogate pair
        except (ValueError, LookupError, TypeError, AttributeError):
            raise UserError(f'{path}, line {number:,}: not a JSON object with its text in a field "text"') from None
        for start in range(0, len(text), BLOCK):
            yield text[start:start + BLOCK], start + BLOCK >= len(text)


def read_documents(paths, separator, count):
    """Yield the parts of all files, but for documents of nothing but white space; count what was read."""
    for path in paths:
        name, inside = path.lower(), False  # inside: whether a part of this document has been passed on
        opener = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}.get(os.path.splitext(name)[1], open)
        try:
            raw = opener(path, "rb")
            file = io.TextIOWrapper(raw, "utf-8-sig", newline="\n")  # sig: without the mark that Windows puts first
            for text, ends in read_jsonl(file, path) if ".jsonl" in name[-10:] else read_txt(file, separator):
                if inside or not ends or text.strip():
                    yield text, ends
                    inside = not ends
                    count["documents"] += ends
                    count["characters"] += len(text)
                    count["bytes"] += len(text.encode())
                    progress(f"read {count['documents']:,} documents, {count['bytes'] / 1e6:,.0f} MB")
        except UnicodeDecodeError as error:
            place = raw.tell() - len(error.object) + error.start
            raise UserError(f"{path} is not UTF-8: byte {place:,} is 0x{error.object[error.start]:02x}") from None
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


# --- The tokenizer

WORD = regex.compile(GPT2_PATTERN)
# White space and what follows it, which is a whole number of words: none has white space behind anything else. Python's
# re is the faster engine; to it \x1c to \x1f are white space too.
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
    """Train a byte-level BPE (Sennrich et al. 2016; on bytes and within words, as GPT-2's) on an iterable of str.

    Returns a list of vocab_size bytes by rank: the 256 single bytes, then what each merge makes of the most frequent
    pair of neighbours; of equals, that with the smallest (left id, right id). Raises UserError (a ValueError).
    """
    if type(vocab_size) is not int or not 256 <= vocab_size <= 1_000_000:
        raise UserError(f"vocab_size must be from 256 to 1,000,000, not {vocab_size!r}")
    # A word is a str whose characters are token ids, at first its bytes: so Python finds, replaces and compares ids at
    # the speed of C. A pair is a str of two.
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
        for i in set(words_with.pop(pair)):
            if pair in words[i]:
                words[i] = words[i].replace(pair, new)
                for a, b in zip(words[i], words[i][1:]):
                    if a == new or b == new:  # a pair that takes the place of another
                        pair_counts[(right if a == new else a) + (left if b == new else b)] -= counts[i]
                        new_counts[a + b] += counts[i]
                        words_with[a + b].append(i)
        pair_counts[pair] = 0
        pair_counts.update(new_counts)
        for added, count in new_counts.items():
            heapq.heappush(heap, (-count, added))
    if len(tokens) < vocab_size:
        print(f"no pair is left to merge: {len(tokens):,} tokens instead of {vocab_size:,} (<|endoftext|> not counted)")
    return tokens


def make_tokenizer(s, texts):
    """Return (name, pattern, tokens by id): a tokenizer trained on texts, or one that is ready."""
    if s.tokenizer == "bpe":
        return "bpe", GPT2_PATTERN, train_bpe(texts, s.vocab_size - 1)
    if s.tokenizer == "char":
        return "char", "(?s:.)", [c.encode() for c in sorted({c for text in texts for c in set(text)})]
    try:
        if s.tokenizer == "gpt2":
            gpt2 = tiktoken.get_encoding("gpt2")
            return "gpt2", GPT2_PATTERN, [gpt2.decode_single_token_bytes(i) for i in range(gpt2.n_vocab - 1)]
        ready = json.loads(Path(s.tokenizer, "meta.json").read_bytes())["tokenizer"]
        return ready["name"], ready["pattern"], [base64.b64decode(token) for token in ready["tokens"]]
    except (ValueError, LookupError, TypeError, OSError) as error:
        raise UserError(f"cannot load tokenizer {s.tokenizer} ({type(error).__name__}): there are bpe, char, gpt2 "
                        "(downloaded once) and those of prepared datasets, by their folder") from None


# --- Encoding: documents go to train or val, and on all cores become tokens

END = os.urandom(16).hex()  # what tiktoken takes for <|endoftext|>: drawn anew each time, so that no text has it in it


def split_documents(documents, nth, mark):
    """Yield blocks of (split, text): each nth document and all from the character mark on go to val."""
    blocks, read, number, inside = {"train": "", "val": ""}, 0, 1, False
    for text, ends in documents:
        parts = [(text, ends)]
        if read < mark <= read + len(text):  # what comes before the mark ends there, as a document of its own
            parts = [(text[:mark - read], True), (text[mark - read:], ends)]
        for part, ends in parts:
            if part or inside:
                split = "val" if read >= mark or number % nth == 0 else "train"
                read, number, inside = read + len(part), number + ends, not ends
                blocks[split] += part + END * ends
                if len(blocks[split]) > BLOCK:
                    yield split, blocks[split]
                    blocks[split] = ""
    yield from blocks.items()


def encode(blocks, encoding):
    """Yield (split, array of tokens, bytes of text) for each (split, text)."""
    characters = set(map(bytes.decode, encoding.token_byte_values())) if encoding.name == "char" else None

    def encode_block(split, text):
        plain = text.replace(END, "")
        if characters and (unknown := set(plain) - characters):  # tiktoken would panic
            raise UserError(f"input: the char tokenizer does not know {min(unknown)!r} (U+{ord(min(unknown)):04X})")
        return split, encoding.encode_to_numpy(text, allowed_special="all"), len(plain.encode())

    running = deque()  # in order, and bounded, so that memory is
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads do, as tiktoken releases Python's lock while it works
        for block in blocks:
            running.append(pool.submit(encode_block, *block))
            if len(running) > 2 * os.cpu_count():
                yield running.popleft().result()
        for future in running:
            yield future.result()


# --- The whole of it: from settings to a folder in its place

def write_dataset(s, paths, val_paths, source, folder):
    """Write train.bin, val.bin and meta.json to folder; return what is in meta.json. The text is read twice."""
    start, total, again = time.monotonic(), Counter(), Counter()
    every = sum(map(os.path.getsize, paths)) // BPE_SAMPLE + 1 if s.tokenizer == "bpe" else 1
    texts = (text for text, _ in read_documents(paths, s.separator, total))
    name, pattern, tokens = make_tokenizer(s, itertools.islice(texts, 0, None, every))
    deque(texts, maxlen=0)  # a tokenizer that was ready has not read them
    print(f"{total['documents']:,} documents, {total['bytes']:,} bytes; {name} tokenizer of {len(tokens) + 1:,} tokens"
          + f" from every {every}th part" * (every > 1) + f" in {time.monotonic() - start:.1f} s")
    if total["documents"] == 1 and s.separator != "blank":
        print("the text is one document; --separator=blank would part it at empty lines")

    start, size = time.monotonic(), total["characters"]
    nth, mark = round(1 / s.val_fraction), math.inf
    if val_paths:  # they come after the text to train on
        nth, mark = math.inf, size
    elif total["documents"] < 2 * nth:  # of a small text a tenth or 8 KB, for train.py to have some windows in it
        nth, mark = math.inf, size - math.ceil(max(size * s.val_fraction, min(size / 10, 8192)))
    splits = {split: Counter(tokens=0, bytes=0, documents=0, crc32=0) for split in ("train", "val")}
    blocks = split_documents(read_documents(paths + val_paths, s.separator, again), nth, mark)
    encoding = tiktoken.Encoding(name, pat_str=pattern, special_tokens={END: len(tokens)},
                                 mergeable_ranks={token: rank for rank, token in enumerate(tokens)})
    dtype = "uint16" if len(tokens) < 65536 else "uint32"
    with open(folder / "train.bin", "wb") as train, open(folder / "val.bin", "wb") as val:
        for split, ids, n_bytes in encode(blocks, encoding):
            data = ids.astype(np.dtype(dtype).newbyteorder("<")).tobytes()
            (train if split == "train" else val).write(data)
            splits[split].update(tokens=len(ids), bytes=n_bytes, documents=int((ids == len(tokens)).sum()))
            splits[split]["crc32"] = zlib.crc32(data, splits[split]["crc32"])
        for file in (train, val):  # on the disk before it gets its name: a power cut leaves no empty dataset
            file.flush()
            os.fsync(file.fileno())
    if again != total and not val_paths:
        raise UserError(f"input: {source} changed while it was read; try again when it is left alone")
    for split, of in splits.items():
        if not of["tokens"]:
            raise UserError(f"input: {source} is empty or too short: nothing is left for {split}")
        print(f"{split}: {of['documents']:,} documents, {of['bytes']:,} bytes, {of['tokens']:,} tokens, "
              f"{of['bytes'] / of['tokens']:.2f} bytes a token")
    seconds = time.monotonic() - start
    print(f"encoded in {seconds:.1f} s, {again['bytes'] / 1e6 / seconds:.1f} MB/s")
    vocabulary = [base64.b64encode(token).decode() for token in tokens]
    meta = {"format": 1, "dtype": dtype, "vocab_size": len(tokens) + 1, "splits": splits, "source": source[:300],
            "tokenizer": {"name": name, "pattern": pattern, "tokens": vocabulary}}
    (folder / "meta.json").write_text(json.dumps(meta))
    return meta


SETTINGS = {  # how each is read, what it must be in words, and the test of that
    "dataset": (os.fspath, "a name for a folder", re.compile(r"(?!downloads$)[^./\\:\s][^/\\:\r\n]*").fullmatch),
    "input": (lambda value: list(map(os.fspath, [value] if isinstance(value, (str, os.PathLike)) else value)),
              "files, folders or globs", bool),
    "tokenizer": (os.fspath, "bpe, char, gpt2 or a dataset's folder", str.strip),
    "vocab_size": (lambda value: int(str(value)), "from 257 to 1,000,000", lambda value: 257 <= value <= 1_000_000),
    "val_fraction": (float, "above 0 and at most 0.5", lambda value: 1e-9 < value <= 0.5),
    "separator": (os.fspath, 'a line, or "blank"', re.compile(r".*\S.*").fullmatch),
    "data_dir": (os.fspath, "a folder", str.strip),
    "overwrite": (lambda value: ["False", "True"].index(str(value)), "True or False", lambda value: True),
}


def read_setting(name, value):
    """Return a setting's value, given as text or in its type; raise UserError for one that it cannot have."""
    if name not in SETTINGS:
        near = (difflib.get_close_matches(name.split("=")[0], SETTINGS, 1) or [f"input={name}"])[0]
        raise UserError(f"there is no setting {name}; did you mean --{near}?")
    if value is None and globals()[name] is None:
        return None
    read, expected, valid = SETTINGS[name]
    with contextlib.suppress(TypeError, ValueError):
        if valid(read(value)):
            return read(value)
    raise UserError(f"{name} must be {expected}, not {value!r}")


def prepare(**settings):
    """Make a dataset by the settings given and, for the others, those above. Return its folder, vocab_size and splits.

    Raises UserError (a ValueError) when it cannot be made; then what was there before still is, and nothing half-made.
    """
    given = {name: globals()[name] for name in SETTINGS} | settings
    s = SimpleNamespace(**{name: read_setting(name, value) for name, value in given.items()})
    if "vocab_size" in settings and s.tokenizer != "bpe":
        raise UserError(f"vocab_size is for tokenizer bpe; {s.tokenizer} has its own")
    if s.dataset is None:  # books/my.txt.gz is called my, and books/*.txt books
        first = re.sub(r"[\\/][^\\/]*[*?[].*", "", os.path.abspath(s.input[0] if s.input else "python"))
        s.dataset = read_setting("dataset", TEXT_FILE.sub(r"\1", os.path.basename(first)))
    folder, new, old = (Path(s.data_dir, name) for name in (s.dataset, f".{s.dataset}.new", f".{s.dataset}.old"))

    def tidy():  # after this run, or one that was killed
        if os.path.exists(old) and not os.path.exists(folder):  # it stopped between its two renames
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(new, ignore_errors=True)

    try:
        tidy()
        if os.path.lexists(folder) and not (s.overwrite and (folder / "meta.json").exists()):
            raise UserError(f"dataset: {folder} is there already; --overwrite replaces it, --dataset=NAME keeps it")
        text = find_text(s)
        new.mkdir(parents=True)
        meta = write_dataset(s, *text, new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise UserError(f"{error.filename or new}: {error.strerror or error}") from None
    finally:
        tidy()
    flags = [f"--{name}={getattr(s, name)}" for name, usual in (("dataset", "python"), ("data_dir", "data"))
             if getattr(s, name) != usual]
    print(f"{folder} is ready; next: " + shlex.join(["python", "train.py", *flags]))
    return {"folder": str(folder), "vocab_size": meta["vocab_size"], "splits": meta["splits"]}


def read_command_line():
    """Return the settings that the command line gives. --help prints those at the top of this file as they stand."""
    settings = Path(__file__).read_text(encoding="utf-8").split("prepare(name=value)\n")[1].split("\n\n")[0]
    parser = argparse.ArgumentParser(usage=__doc__, allow_abbrev=False, description=re.sub(
        r"^(\w+) = ", r"--\1=", settings, flags=re.MULTILINE), formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in SETTINGS:  # a flag alone, as --overwrite, means True
        values = {"nargs": "*"} if name == "input" else {"nargs": "?", "const": True}
        parser.add_argument("--" + name, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **values)
    known, unknown = parser.parse_known_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character shows a question mark
    return vars(known) | {flag.split("=")[0][2:] if flag.startswith("--") else flag: None for flag in unknown}


if __name__ == "__main__":
    try:
        prepare(**(read_command_line() if "__file__" in globals() else {}))  # a notebook's cell has no command line
    except (UserError, KeyboardInterrupt) as error:
        print(f"error: {error}" if str(error) else "stopped; what was there before still is", file=sys.stderr)
        if "__file__" in globals() or not str(error):  # a notebook's next cell goes on with the dataset that is there
            sys.exit(2 if str(error) else 130)
