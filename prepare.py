"""Text in, tokens out: makes the train.bin, val.bin and meta.json that train.py reads.

    python prepare.py                                    # Python's standard library: no network
    python prepare.py --dataset=tinystories              # downloads 1.9 GB
    python prepare.py --input=my.txt                     # your own text, to data/my
    python prepare.py --input books/ --vocab_size=32000  # every .txt and .jsonl in a folder

In this order: where text comes from, how it is read, how a tokenizer is trained on it, how text
becomes tokens, how the files are put in place. The text may be larger than memory.
"""
import argparse, base64, builtins, bz2, contextlib, difflib, glob, gzip, hashlib, heapq
import http.client, io, itertools, json, lzma, math, os, re, shlex, shutil, sys, sysconfig, time
import urllib.error, urllib.request, zlib
from collections import Counter, defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import regex  # re with \p{L}; tiktoken brings it
import tiktoken

# Settings: edit them here, or give them as --name=value or prepare(name=value)
dataset = "python"  # or tinystories, shakespeare, a name for your text (unset: the input's name)
input_ = None  # your own text: files, folders, globs of .txt and .jsonl ("text"), also .gz .xz .bz2
tokenizer = "bpe"  # bpe (trained here), char, gpt2, or the folder of a dataset that lends its own
vocab_size = 4096  # tokens of a bpe tokenizer, <|endoftext|> among them
val_fraction = 0.01  # for validation: every n-th document; of few documents, the end of the text
separator = "<|endoftext|>"  # the line that separates documents in a .txt; "blank": empty lines
data_dir = "data"  # the dataset is made in data_dir/dataset
overwrite = False  # replace a dataset that is there already

# How GPT-2 splits text into words, as tiktoken writes it: letters, digits or signs, with the one
# space before them, or white space. No token crosses from a word into the next.
GPT2_PATTERN = (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++"
                r"|\s++$|\s+(?!\S)|\s")
TINYSTORIES = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStories-"
CHAR_RNN = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
DOWNLOADS = {  # text to train on and, where there is one, text to validate on
    "tinystories": [TINYSTORIES + "train.txt", TINYSTORIES + "valid.txt"],
    "shakespeare": [CHAR_RNN + "tinyshakespeare/input.txt"]}
BLOCK = 1 << 16  # characters: text is read and encoded in blocks of about this size
BPE_SAMPLE = 256 << 20  # bytes of text; a tokenizer trained on more would hardly differ

class PrepareError(ValueError):
    """A mistake in the settings or the files, explained in one line. Anything else is a bug."""

    def _render_traceback_(self):  # IPython and Jupyter show this instead of a traceback
        return [f"error: {self}"]

class DatasetExists(PrepareError):
    """No mistake where a notebook's cells are run again: the next cell uses the dataset."""

def progress(line):
    """Print the line, unless another was printed in the last ten seconds."""
    if time.monotonic() - progress.last > 10:
        progress.last = time.monotonic()
        print(line, flush=True)
progress.last = time.monotonic()

# --- Where text comes from
TEXT_FILE = re.compile(r"(.*)\.(txt|jsonl)(\.gz|\.xz|\.bz2)?", re.IGNORECASE | re.DOTALL)

def find_text(s):
    """Return the files to train on, those to validate on if there are any, and what they are."""
    if s.input:
        return find_input(s.input), [], " ".join(s.input)
    if s.dataset == "python":  # without tests and packages, in the same order each time
        root = Path(sysconfig.get_path("stdlib"))
        left_out = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
        files = [str(path) for path in sorted(root.rglob("*.py"))
                 if not left_out & set(path.relative_to(root).parts)]
        return files, [], f"the standard library of Python {sys.version.split()[0]}"
    if s.dataset in DOWNLOADS:
        folder, urls = os.path.join(s.data_dir, "downloads", s.dataset), DOWNLOADS[s.dataset]
        files = [download(url, os.path.join(folder, url.split("/")[-1])) for url in urls]
        return files[:1], files[1:], urls[0]
    raise PrepareError(f"dataset must be python, {', '.join(DOWNLOADS)} or have an input, "
                       f"not {s.dataset}")

def find_input(items):
    """Return the .txt and .jsonl files of files, folders and globs, sorted within each of these."""
    paths = {}  # real path -> path: a file given twice would be in both train and val
    for item in items:
        pattern = glob.escape(item) + "/**" if os.path.isdir(item) else item
        found = [path for path in sorted(glob.glob(pattern, recursive=True) or [item])
                 if TEXT_FILE.fullmatch(path) and not os.path.isdir(path)]
        if not found:
            raise PrepareError(f"input: {item} is no .txt, .jsonl (.gz .xz .bz2) or folder of them")
        paths |= {os.path.realpath(path): path for path in found}
    return list(paths.values())

class Redirect(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but not away from HTTPS; keep the SHA-256 that Hugging Face sends."""
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
    """Fetch url to path and return path. A broken download resumes where it stopped."""
    if os.path.exists(path):
        return path
    part = Path(path + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(5):
        time.sleep(attempt)  # seconds
        have = part.stat().st_size if part.exists() else 0
        print(f"downloading {url}: attempt {attempt + 1}, from byte {have:,}", flush=True)
        try:
            redirect = Redirect()
            request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"})
            with urllib.request.build_opener(redirect).open(request, timeout=60) as answer:
                with open(part, "ab" if answer.status == 206 else "wb") as file:  # wb: all comes
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
            if getattr(error, "code", 0) == 416:  # the part here is longer than the file there
                part.unlink()
    raise PrepareError(f"cannot download {url}: {problem}; --dataset=python needs no network")

# --- Reading: one document after the other, long ones in parts: (text, does its document end here)
def read_txt(file, separator):
    """Yield a file's text. A line that is the separator, blanks aside, ends a document."""
    if separator == "blank":
        line = r"^[^\S\n]*\n"
    else:  # a pattern that starts with plain text is fast; blanks before it are looked at below
        line = re.escape(separator.strip()) + r"[^\S\n]*$\n?"
    line, rest = re.compile(line, re.MULTILINE), ""
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
            text.encode()  # fails for a number, or for half of a surrogate pair
        except (ValueError, LookupError, TypeError, AttributeError):
            raise PrepareError(f'{path}, line {number:,}: no JSON object with a "text"') from None
        for start in range(0, len(text), BLOCK):
            yield text[start:start + BLOCK], start + BLOCK >= len(text)

def read_documents(paths, separator, count):
    """Yield the parts of all files, without documents of white space only; count what was read."""
    openers = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
    for path in paths:
        name, inside = path.lower(), False  # inside: a part of this document has been passed on
        opener = openers.get(os.path.splitext(name)[1], open)
        try:
            raw = opener(path, "rb")
            file = io.TextIOWrapper(raw, "utf-8-sig", newline="\n")  # sig: skip Windows' first mark
            jsonl = ".jsonl" in name[-10:]
            for text, ends in read_jsonl(file, path) if jsonl else read_txt(file, separator):
                if inside or not ends or text.strip():
                    yield text, ends
                    inside = not ends
                    count["documents"] += ends
                    count["characters"] += len(text)
                    count["bytes"] += len(text.encode())
                    progress(f"read {count['bytes'] / 1e6:,.0f} MB")
        except UnicodeDecodeError as error:
            place = raw.tell() - len(error.object) + error.start
            byte = error.object[error.start]
            raise PrepareError(f"{path} is not UTF-8: byte {place:,} is 0x{byte:02x}") from None
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise PrepareError(f"cannot read {path}: {reason}") from None

# --- The tokenizer
WORD = regex.compile(GPT2_PATTERN)
# White space and what follows it. This is a whole number of words, because no word has white space
# after anything else. Python's re is the faster engine; for it \x1c to \x1f are white space too.
CHUNK = re.compile(r"[^\S\x1c-\x1f]*[\S\x1c-\x1f]+|\s+")

def count_words(texts):
    """Return how often each word of GPT-2's pattern occurs in an iterable of str."""
    chunks, words = Counter(), Counter()
    for text in texts:
        chunks.update(CHUNK.findall(text))
    for chunk, count in chunks.items():  # few are different, so the slow pattern has little to do
        for word in WORD.findall(chunk):
            words[word] += count
    return words

def train_bpe(texts, vocab_size):
    """
    Train a byte-level BPE (Sennrich et al. 2016), within words like GPT-2's, on an iterable of str.
    Return vocab_size tokens, each as bytes, by rank: the 256 single bytes, then one for each merge
    of the most frequent pair of neighbours. Of equally frequent pairs the one with the smallest
    (left id, right id) is merged first. Raises PrepareError (a ValueError).
    """
    if type(vocab_size) is not int or not 256 <= vocab_size <= 1_000_000:
        raise PrepareError(f"vocab_size must be from 256 to 1,000,000, not {vocab_size!r}")
    # A word is a str; its characters are token ids, at first the word's bytes. So Python finds,
    # replaces and compares ids at the speed of C. A pair is a str of two characters.
    counted = count_words(texts)
    words = [word.encode().decode("latin-1") for word in counted]
    counts = list(counted.values())
    pair_counts = defaultdict(int)
    words_with = defaultdict(list)  # pair -> indices of the words that have it, or had it
    for i, word in enumerate(words):
        for left, right in itertools.pairwise(word):
            pair_counts[left + right] += counts[i]
            words_with[left + right].append(i)

    # Every pair that a merge adds has the new token in it, so no known pair's count ever rises. A
    # count in the heap may be too high by now; it is corrected when it comes to the top.
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
                for a, b in itertools.pairwise(words[i]):
                    if a == new or b == new:  # a pair that takes the place of another
                        old = (right if a == new else a) + (left if b == new else b)
                        pair_counts[old] -= counts[i]
                        new_counts[a + b] += counts[i]
                        words_with[a + b].append(i)
        pair_counts[pair] = 0
        pair_counts.update(new_counts)
        for added, count in new_counts.items():
            heapq.heappush(heap, (-count, added))
    if len(tokens) < vocab_size:
        print(f"no pair is left to merge: {len(tokens):,} tokens instead of {vocab_size:,} "
              "(<|endoftext|> not counted)")
    return tokens

def make_tokenizer(s, texts):
    """Return (name, pattern, tokens by id): a tokenizer trained on texts, or one that is ready."""
    if s.tokenizer == "bpe":
        return "bpe", GPT2_PATTERN, train_bpe(texts, s.vocab_size - 1)
    if s.tokenizer == "char":
        characters = {c for text in texts for c in set(text)}
        return "char", "(?s:.)", [c.encode() for c in sorted(characters)]
    try:
        if s.tokenizer == "gpt2":
            gpt2 = tiktoken.get_encoding("gpt2")
            return "gpt2", GPT2_PATTERN, [gpt2.decode_single_token_bytes(i) for i in range(50256)]
        ready = json.loads(Path(s.tokenizer, "meta.json").read_bytes())["tokenizer"]
        tokens = [base64.b64decode(token) for token in ready["tokens"]]
        return ready["name"], ready["pattern"], tokens
    except (ValueError, LookupError, TypeError, OSError) as error:
        raise PrepareError(f"cannot load tokenizer {s.tokenizer} ({type(error).__name__}): "
                           "give bpe, char, gpt2 (a download) or a dataset's folder") from None

# --- Encoding: documents go to train or val, and on all cores become tokens
END = os.urandom(16).hex()  # <|endoftext|> for tiktoken: random, so that no text contains it

def split_documents(documents, nth, mark):
    """Yield blocks of (split, text): to val go each nth document and all text from `mark` on."""
    blocks, read, number, inside = {"train": "", "val": ""}, 0, 1, False
    for text, ends in documents:
        parts = [(text, ends)]
        if read < mark <= read + len(text):  # the document is cut in two at the mark
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
    tokens = encoding.token_byte_values() if encoding.name == "char" else []
    characters = set(map(bytes.decode, tokens))  # all that a char tokenizer knows

    def encode_block(split, text):
        plain = text.replace(END, "")
        if characters and (unknown := set(plain) - characters):  # tiktoken would panic
            raise PrepareError(f"input: the char tokenizer does not know {min(unknown)!r}")
        return split, encoding.encode_to_numpy(text, allowed_special="all"), len(plain.encode())

    running = deque()  # in order, and bounded, because memory is
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads: tiktoken releases Python's lock
        for block in blocks:
            running.append(pool.submit(encode_block, *block))
            if len(running) > 2 * os.cpu_count():
                yield running.popleft().result()
        for future in running:
            yield future.result()

# --- The whole of it: from settings to a folder in its place
def write_dataset(s, paths, val_paths, source, folder):
    """Write train.bin, val.bin, meta.json to folder; return meta.json's. The text is read twice."""
    start, total, again = time.monotonic(), Counter(), Counter()
    every = sum(map(os.path.getsize, paths)) // BPE_SAMPLE + 1 if s.tokenizer == "bpe" else 1
    texts = (text for text, _ in read_documents(paths, s.separator, total))
    name, pattern, tokens = make_tokenizer(s, itertools.islice(texts, 0, None, every))
    deque(texts, maxlen=0)  # read what the tokenizer did not, to count it
    sample = f" from every {every}th part" if every > 1 else ""
    print(f"{total['documents']:,} documents, {total['bytes']:,} bytes; {name} tokenizer of "
          f"{len(tokens) + 1:,} tokens{sample} in {time.monotonic() - start:.1f} s")
    if total["documents"] == 1 and s.separator != "blank":
        print("the text is one document; --separator=blank would separate it at empty lines")

    start, size = time.monotonic(), total["characters"]
    nth, mark = round(1 / s.val_fraction), math.inf
    if val_paths:  # they come after the text to train on
        nth, mark = math.inf, size
    elif total["documents"] < 2 * nth:  # of a small text a tenth or 8 KB: some windows for train.py
        nth, mark = math.inf, size - math.ceil(max(size * s.val_fraction, min(size / 10, 8192)))
    splits = {split: Counter(tokens=0, bytes=0, documents=0, crc32=0) for split in ("train", "val")}
    blocks = split_documents(read_documents(paths + val_paths, s.separator, again), nth, mark)
    ranks = {token: rank for rank, token in enumerate(tokens)}
    encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks,
                                 special_tokens={END: len(tokens)})
    dtype = "uint16" if len(tokens) < 65536 else "uint32"
    with open(folder / "train.bin", "wb") as train, open(folder / "val.bin", "wb") as val:
        for split, ids, n_bytes in encode(blocks, encoding):
            data = ids.astype(np.dtype(dtype).newbyteorder("<")).tobytes()
            (train if split == "train" else val).write(data)
            splits[split].update(tokens=len(ids), bytes=n_bytes,
                                 documents=int((ids == len(tokens)).sum()))
            splits[split]["crc32"] = zlib.crc32(data, splits[split]["crc32"])
        for file in (train, val):  # to the disk now: a power cut must not leave an empty dataset
            file.flush()
            os.fsync(file.fileno())
    if again != total and not val_paths:
        raise PrepareError(f"input: {source} changed while it was read; try again when it does not")
    for split, of in splits.items():
        if not of["tokens"]:
            raise PrepareError(f"input: {source} is empty or too short: nothing left for {split}")
        print(f"{split}: {of['documents']:,} documents, {of['bytes']:,} bytes, {of['tokens']:,} "
              f"tokens, {of['bytes'] / of['tokens']:.2f} bytes per token")
    seconds = time.monotonic() - start
    print(f"encoded in {seconds:.1f} s, {again['bytes'] / 1e6 / seconds:.1f} MB/s")
    vocabulary = [base64.b64encode(token).decode() for token in tokens]
    spec = {"name": name, "pattern": pattern, "tokens": vocabulary}
    meta = {"format": 1, "dtype": dtype, "vocab_size": len(tokens) + 1, "splits": splits,
            "source": source[:300], "tokenizer": spec}
    (folder / "meta.json").write_text(json.dumps(meta))
    return meta

PREPARE_SETTINGS = {  # how each is read, what it must be in words, and the test of that
    "dataset": (os.fspath, "a name for a folder",
                re.compile(r"(?!downloads$)[^./\\:\s][^/\\:\r\n]*").fullmatch),
    "input": (lambda v: [os.fspath(x) for x in ([v] if isinstance(v, (str, os.PathLike)) else v)],
              "files, folders or globs", bool),
    "tokenizer": (os.fspath, "bpe, char, gpt2 or a dataset's folder", str.strip),
    "vocab_size": (lambda v: int(str(v)), "from 257 to 1,000,000", lambda v: 257 <= v <= 1_000_000),
    "val_fraction": (float, "above 0 and at most 0.5", lambda v: 1e-9 < v <= 0.5),
    "separator": (os.fspath, 'a line, or "blank"', re.compile(r".*\S.*").fullmatch),
    "data_dir": (os.fspath, "a folder", str.strip),
    "overwrite": (lambda v: ["False", "True"].index(str(v)), "True or False", lambda v: True)}

def read_setting(name, value):
    """Return the value in the setting's own type, whether it came as text or from Python."""
    if name not in PREPARE_SETTINGS:
        near = difflib.get_close_matches(name.split("=")[0], PREPARE_SETTINGS, 1)
        near = near or [f"input={name}"]
        raise PrepareError(f"there is no setting {name}; did you mean --{near[0]}?")
    if name == "input" and value is None:
        return None
    read, expected, valid = PREPARE_SETTINGS[name]
    with contextlib.suppress(TypeError, ValueError):
        if valid(read(value)):
            return read(value)
    raise PrepareError(f"{name} must be {expected}, not {value!r}")

def prepare(**settings):
    """
    Make a dataset by the settings given and, for the others, those at the top of this file. Return
    its folder, vocab_size and splits. Raises PrepareError (a ValueError) when it cannot be made;
    then a dataset that was there before still is, and nothing half-made.
    """
    given = {name: globals()["input_" if name == "input" else name] for name in PREPARE_SETTINGS}
    given |= settings
    s = SimpleNamespace(**{name: read_setting(name, value) for name, value in given.items()})
    if "vocab_size" in settings and s.tokenizer != "bpe":
        raise PrepareError(f"vocab_size is for tokenizer bpe; {s.tokenizer} has its own")
    if s.input and "dataset" not in settings and s.dataset == "python":
        # the input's name: books/my.txt.gz is called my, and books/*.txt books
        first = re.sub(r"[\\/][^\\/]*[*?[].*", "", os.path.abspath(s.input[0]))
        s.dataset = read_setting("dataset", TEXT_FILE.sub(r"\1", os.path.basename(first)))
    names = s.dataset, f".{s.dataset}.new", f".{s.dataset}.old"
    folder, new, old = (Path(s.data_dir, name) for name in names)

    def tidy():  # after this run, or one that was killed
        if os.path.exists(old) and not os.path.exists(folder):  # it stopped between its two renames
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(new, ignore_errors=True)

    try:
        tidy()
        ready = (folder / "meta.json").exists()
        if os.path.lexists(folder) and not (s.overwrite and ready):
            raise (DatasetExists if ready else PrepareError)(
                f"{folder} is there already; --overwrite replaces it, --dataset=NAME keeps it")
        text = find_text(s)
        new.mkdir(parents=True)
        meta = write_dataset(s, *text, new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise PrepareError(f"{error.filename or new}: {error.strerror or error}") from None
    finally:
        tidy()
    usual = {"dataset": "python", "data_dir": "data"}
    flags = [f"--{name}={vars(s)[name]}" for name in usual if vars(s)[name] != usual[name]]
    print(f"{folder} is ready; next: " + shlex.join(["python", "train.py", *flags]))
    return {"folder": str(folder), "vocab_size": meta["vocab_size"], "splits": meta["splits"]}

def read_command_line():
    """Return the settings that the command line gives. --help prints those at the file's top."""
    text = Path(__file__).read_text(encoding="utf-8")
    settings = text.split("prepare(name=value)\n")[1].split("\n\n")[0]
    settings = re.sub(r"^(\w+?)_? = ", r"--\1=", settings, flags=re.MULTILINE)
    parser = argparse.ArgumentParser(usage=__doc__, description=settings, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in PREPARE_SETTINGS:  # a flag alone, as --overwrite, means True
        how = {"nargs": "*"} if name == "input" else {"nargs": "?", "const": True}
        parser.add_argument("--" + name, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **how)
    known, unknown = parser.parse_known_args()
    return vars(known) | {flag.split("=")[0][2:] if flag.startswith("--") else flag: None
                          for flag in unknown}

if __name__ == "__main__":
    in_notebook = hasattr(builtins, "get_ipython")
    try:
        if hasattr(sys.stdout, "reconfigure"):  # not in Jupyter; a character that a terminal lacks
            sys.stdout.reconfigure(errors="replace")  # becomes a question mark
        prepare(**(read_command_line() if "__file__" in globals() else {}))  # a cell has no flags
    except (PrepareError, KeyboardInterrupt) as error:
        stopped = "stopped; what was there before still is"
        if not in_notebook:
            print(f"error: {error}" if str(error) else stopped, file=sys.stderr)
            sys.exit(2 if str(error) else 130)
        if not isinstance(error, DatasetExists):
            raise PrepareError(str(error) or stopped) from None
        print(error)
