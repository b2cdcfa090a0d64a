"""
Text in, tokens out: makes the train.bin, val.bin and meta.json that train.py reads.

    python prepare.py                                    # Python's standard library: no network
    python prepare.py --dataset=tinystories              # downloads 1.9 GB
    python prepare.py --input=my.txt                     # your own text, to data/my
    python prepare.py --input books/ --vocab_size=32000  # the text and the code in a folder
    python prepare.py --input=chats.jsonl                # conversations, or texts: see --field
"""
import argparse, base64, builtins, bz2, contextlib, glob, gzip, hashlib, heapq, http.client, io
import itertools, json, lzma, os, re, shlex, signal, sys, sysconfig, time, urllib.request, zlib
from collections import Counter, defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import regex  # re with \p{L}; tiktoken brings it
import tiktoken

class PrepareError(ValueError):
    """A mistake in the settings or the files. Its one line says what is wrong and what to do."""
    def _render_traceback_(self):  # IPython and Jupyter show this instead of a traceback
        return [f"error: {self}"]

class Settings(argparse.ArgumentParser):
    def error(self, message):
        raise PrepareError(f"{message}: see --help")

# ---- Settings: --name=value or prepare(name=value), or edit the defaults here --------------------
SETTINGS_PARSER = Settings(usage=__doc__, allow_abbrev=False)
setting = SETTINGS_PARSER.add_argument
switch = {"type": ["False", "True"].index, "nargs": "?", "const": True}  # "False" -> 0
setting("--dataset", help="python, tinystories or shakespeare; or a name for your own text")
setting("--input", nargs="*", action="extend", help="files, folders, globs; also .gz, .xz, .bz2")
setting("--separator", help="line between documents; blank: empty lines; line: a document per line")
setting("--literal_markers", **switch, help="<|endoftext|> and <|startoftext|> separate nothing")
setting("--field", help="the one with the text in a .jsonl; if not set, 'text', or a chat")
setting("--tokenizer", default="bpe", help="bpe, char, gpt2, or a folder or .pt that has one")
setting("--vocab_size", type=int, default=4096, help="of bpe, <|endoftext|> included: 257 or more")
setting("--val_fraction", type=float, default=0.01, help="for validation; of small texts a tenth")
setting("--data_dir", default="data", help="the dataset is made in DATA_DIR/DATASET")
setting("--overwrite", **switch, help="replace a dataset that is there already")

# How GPT-2 splits text into words, as tiktoken writes it: letters, digits or signs, with the one
# space before them, or white space. No token crosses from a word into the next.
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
# Ours keeps marks in the word of the letter before them: vowel signs of Hindi, separate accents.
BPE_PATTERN = GPT2_PATTERN.replace(r"\p{L}++", r"\p{L}[\p{L}\p{M}]*+")
HUGGING_FACE = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/"
CHAR_RNN = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
DOWNLOADS = {"tinystories": HUGGING_FACE + "TinyStories-train.txt",
             "shakespeare": CHAR_RNN + "input.txt"}
TEXT_ENDINGS = (  # what is read in a folder; a file that is named may be called anything
    ".txt .text .md .rst .tex .org .jsonl .ndjson .py .js .ts .c .h .cc .cpp .hpp .cu .java .kt "
    ".go .rs .rb .php .pl .lua .r .jl .swift .scala .hs .sh .sql .css .html").split()
ENDING = re.compile(r"(\.\w+?)?(\.gz|\.xz|\.bz2)?$", re.IGNORECASE)  # ".txt", ".gz" of a.txt.gz
LONGEST = 800_000  # characters: a longer document is cut. tiktoken fails at a million blanks
END = os.urandom(16).hex()  # <|endoftext|> for tiktoken: random, so that no text has it
READ = 1 << 16  # characters: a file is read in blocks of this size
BPE_SAMPLE = 128 << 20  # bytes of text: a tokenizer trained on more would hardly differ
BPE_WORDS = 3 << 20  # bytes of different words: if there are more, the rare ones are sampled

def tell(line, seconds=0):
    """Print a line, unless the last one is younger than these seconds."""
    if time.monotonic() - tell.last >= seconds:
        tell.last = time.monotonic()
        try:
            print(line, flush=True)
        except OSError:  # nobody reads any more (`| head -1`): the work goes on
            sys.stdout = None  # then print() prints nothing
tell.last = time.monotonic()

# ---- Files: which ones, and their bytes
def find_files(s):
    """Return the paths of the files with the text."""
    if s.input is not None:
        return find_input(s.input)
    if s.dataset == "python":  # without tests and packages, in the same order each time
        root = Path(sysconfig.get_path("stdlib"))
        left_out = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
        return [path for path in sorted(root.rglob("*.py"))
                if not left_out & set(path.relative_to(root).parts)]
    if s.dataset in DOWNLOADS:
        url = DOWNLOADS[s.dataset]
        return [download(url, Path(s.data_dir, s.dataset, url.split("/")[-1]))]
    raise PrepareError(f"dataset={s.dataset} needs an input; {', '.join(DOWNLOADS)}, python do not")

def find_input(items):
    """Return the files that files, folders and globs mean, each once, sorted within each item."""
    files, first, left_out = [], {}, Counter()  # first: hash of a content -> its first file
    for item in items:
        found = [item] if os.path.exists(item) else sorted(glob.glob(item, recursive=True))
        if not found:
            raise PrepareError(f"input: there is no {item}")
        for path in map(Path, found):
            inside = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in (f for f in inside if f.is_file() or f.is_symlink()):
                hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
                kind = "hidden" if hidden else ending_of(file) or "without ending"
                if file.is_file() and (file == path or kind in TEXT_ENDINGS):
                    files.append(file)
                else:
                    left_out[kind] += 1
    for file in dict.fromkeys(files):  # a copy would be in both train and val
        key = file  # a single file has no copies
        if len(files) > 1:
            with reading(file) as raw:
                key = hashlib.file_digest(raw, "sha256").digest()
        if first.setdefault(key, file) != file:
            left_out[f"copy ({file} of {first[key]})"] += 1
    if left_out:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in left_out.most_common())
        tell(f"{len(first):,} files are read, {left_out.total():,} are left out: {kinds:.1000}")
    if not first:
        raise PrepareError(f"input: no text in {' '.join(items)}; --input 'DIR/*' reads any file")
    return list(first.values())

def ending_of(path):
    """Return .txt for a.txt, a.TXT and a.txt.gz."""
    return (ENDING.search(path.name)[1] or "").lower()

@contextlib.contextmanager
def reading(path):
    """Open a file to read its bytes, unpacked. What goes wrong becomes a PrepareError."""
    openers = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
    try:
        with openers.get(path.suffix.lower(), open)(path, "rb") as file:
            begin = file.read(1 << 16)
            file.seek(0)
            if begin[:2] in (b"\xff\xfe", b"\xfe\xff") or begin.count(0) > len(begin) / 100 + 2:
                raise PrepareError(f"{path} is no text, or UTF-16: unpack it or save it as UTF-8")
            yield file  # errors of those who read it arrive here too
    except (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError) as e:
        reason = f"{e.reason}: convert or remove it" if hasattr(e, "reason") else e
        raise PrepareError(f"cannot read {path} as UTF-8 text: {reason}") from None

def download(url, path):
    """Fetch url to path and return path. If it breaks, the next run resumes it."""
    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(part, "ab") as file:
            tell(f"downloading {url}, from byte {file.tell():,}")
            request = urllib.request.Request(url, headers={"Range": f"bytes={file.tell()}-"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                if answer.status != 206:  # not the part that was asked for but all of it
                    file.truncate(0)
                while file.write(answer.read(1 << 20)):
                    tell(f"downloaded {file.tell() / 1e6:,.0f} MB", 10)
            if answer.length:  # counted down while it comes; None: the server did not tell it
                raise OSError(f"{answer.length:,} bytes are missing")
    except (OSError, http.client.HTTPException) as error:
        raise PrepareError(f"{url}: {error}; run the command again, or delete {part}") from None
    return part.rename(path)

# ---- Documents: what is between two separators, a record of a .jsonl, or else a whole file -------
MARKER = r"<\|(?:end|start)oftext\|>[^\S\n]*\n?"
MARKERS_NOTE = "<|endoftext|> or <|startoftext|> separate documents (--literal_markers: not)"
CUTS_NOTE = f"cuts were made in documents of more than {LONGEST:,} characters"  # 3 cuts were ...

def read_documents(s, paths, count, notes):
    """Yield the documents of all files but those of white space only. count: what was read; notes:
    what was changed, as in {"NUL bytes were left out": 2}."""
    patterns = [] if s.literal_markers else [MARKER]
    if separator := (s.separator or "").strip():
        own_line = rf"^[^\S\n]*{re.escape(separator)}[^\S\n]*$\n?"
        patterns.append({"blank": r"^[^\S\n]*\n", "line": r"\n"}.get(separator, own_line))
    between = re.compile("|".join(patterns) or "(?!)", re.MULTILINE)  # (?!) is found nowhere
    for path in paths:
        with reading(path) as raw:
            streams = [io.TextIOWrapper(raw, "utf-8-sig", newline="\n")]  # sig: skip Windows' mark
            if ending_of(path) in (".json", ".jsonl", ".ndjson"):
                streams = map(io.StringIO, read_json(streams[0], path, s.field, notes))
            for stream in streams:
                for text in split_text(stream, between, notes):
                    count["documents"] += 1
                    count["characters"] += len(text)
                    count["of several lines"] += "\n" in text.strip()  # for a hint
                    tell(f"read {count['characters'] / 1e6:,.0f} million characters", 10)
                    yield text

def split_text(stream, between, notes):
    """Yield the documents of a text stream, given the pattern of what is between them."""
    rest = ""
    while block := stream.read(READ) + stream.readline(READ):  # to a line's end, for ^ and $
        block += stream.read(1) if block.endswith("\r") else ""  # its LF: the line is very long
        notes["Windows line ends (CRLF) became LF"] += block.count("\r\n")
        notes["NUL bytes were left out"] += block.count("\0")
        block = block.replace("\r\n", "\n").replace("\0", "")
        if MARKER in between.pattern:
            notes[MARKERS_NOTE] += len(re.findall(MARKER, block))
        *documents, rest = between.split(rest + block)
        yield from filter(str.strip, documents)
        if len(rest) > LONGEST:
            *parts, rest = passages(rest, LONGEST)
            notes[CUTS_NOTE] += len(parts)
            yield from parts
    yield from filter(str.strip, [rest])

def passages(text, longest):
    """Cut a text into parts of at most `longest` characters: after paragraphs or lines, if any."""
    part = f".{{1,{longest}}}"
    ends = [r"(?:(?<=\n\n)|\Z)", r"(?<=\n)", ""]  # at each place the first that fits
    return re.findall("|".join(part + end for end in ends), text, re.DOTALL)

def read_json(file, path, field, notes):
    """Yield the text of each record. A .json is one value, a .jsonl has one per line."""
    lines = [file.read()] if ending_of(path) == ".json" else file
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line) if line.strip() else []
            for record in value if isinstance(value, list) else [value]:
                record = {field or "text": record} if isinstance(record, str) else record
                text = record.get(field or "text")
                if text is None and not field:
                    text = chat_of(record, notes)
                if text is None:
                    raise ValueError(f"it has no {field or 'text'} (or null), but the fields "
                                     f"{', '.join(record):.300}: name one with --field")
                text.encode()  # fails for a number, or for half of a surrogate pair
                yield text
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise PrepareError(f"{path}, line {number:,}: {error}") from None

def chat_of(record, notes):
    """A conversation as text, as OpenAI, ShareGPT or ChatGPT's export has it; None: no chat."""
    turns = record.get("messages", record.get("conversations"))
    if "mapping" in record:  # ChatGPT's tree of messages: from the last one up to the first
        turns, node = [], record["mapping"][record["current_node"]]
        while node:
            turns[:0] = [node["message"]] if node["message"] else []
            node = record["mapping"].get(node["parent"])
    text = ""
    for turn in turns or []:
        content = turn.get("content") or turn.get("value") or turn.get("text") or ""
        if isinstance(content, dict):  # ChatGPT's export
            content = content.get("parts") or content.get("text") or ""
        if isinstance(content, list):  # of texts and, without text, pictures
            content = "".join(c if isinstance(c, str) else c.get("text") or "" for c in content)
        if content.strip():
            role = turn.get("role") or turn.get("from") or turn["author"]["role"]
            text += chat_turn(role, content)
        else:
            notes["turns of chats have no text, or none that is known"] += 1
    return None if turns is None else text

CHAT_ROLES = {"human": "User", "prompter": "User", "gpt": "Assistant", "chatgpt": "Assistant",
              "model": "Assistant", "bot": "Assistant", "ai": "Assistant"}

def chat_turn(role, content):
    """A turn of a conversation as text. sample.py --chat writes a prompt in the same way."""
    return f"{CHAT_ROLES.get(role.lower(), role.capitalize())}: {content.strip()}\n"

# ---- The tokenizer
WORD = regex.compile(BPE_PATTERN)
# A chunk is white space, then what is none, as " word" or "\n\n  (one)"; no word goes beyond.
# Chunks repeat: counting them first saves work. (\x1c to \x1f are white space to re, not to regex.)
CHUNK = re.compile(r"[^\S\x1c-\x1f]{0,99}[\S\x1c-\x1f]{1,100}|\s{1,100}")

def count_words(texts):
    """Return how often each word occurs in an iterable of str. If too many are different,
    one that occurs n times is kept with probability n / rarity; a dropped one starts at 0 again."""
    words, chunks, rarity = Counter(), Counter(), 1
    for text in itertools.chain(texts, [None]):  # None: the end
        chunks.update(CHUNK.findall(text or ""))
        if text is not None and len(chunks) < 200_000:  # not all, because memory is bounded
            continue
        for chunk, n in chunks.items():
            for word in WORD.findall(chunk):
                words[word] += n
        chunks.clear()
        while sum(len(word.encode()) for word in words) > BPE_WORDS:
            rarity *= 2
            words = Counter({word: n for word, n in words.items()  # crc32 as a die, no seed
                             if zlib.crc32(word.encode()) < n * 2**32 / rarity})
    if rarity > 1 or max(map(len, words), default=0) > 99:
        tell(f"the tokenizer learns from words cut at 100 characters, 1 in {rarity} of rare ones")
    return words

def train_bpe(texts, vocab_size):
    """Train a byte-level BPE (Sennrich et al. 2016), within words, on an iterable of str. Returns
    vocab_size tokens as bytes, by rank: the 256 single bytes, then one for each merge of the most
    frequent pair of neighbours (of several, the one with the smallest (left id, right id))."""
    # A word is a str; its characters are token ids, at first the word's bytes. So Python finds,
    # replaces and compares ids at the speed of C. A pair is a str of two characters.
    counted = count_words(texts)
    words = [word.encode().decode("latin-1") for word in counted]
    counts = list(counted.values())
    pair_counts = defaultdict(int)
    words_with = defaultdict(list)  # pair -> indices of words that have it, or had it
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
        tell(f"trained {len(tokens):,} of {vocab_size:,} tokens", 10)
        new_counts = defaultdict(int)
        for i in set(words_with.pop(pair)):
            if pair in words[i]:
                words[i] = words[i].replace(pair, new)
                for a, b in itertools.pairwise(words[i]):
                    if a == new or b == new:  # x l r y: (x, new) was (x, l), (new, y) was (r, y)
                        old = (right if a == new else a) + (left if b == new else b)
                        pair_counts[old] -= counts[i]
                        new_counts[a + b] += counts[i]
                        words_with[a + b].append(i)
        pair_counts[pair] = 0
        pair_counts.update(new_counts)
        for added, count in new_counts.items():
            heapq.heappush(heap, (-count, added))
    return tokens

def make_tokenizer(s, texts):
    """Return (name, pattern, tokens by id): a tokenizer trained on texts, or one that is ready."""
    if s.tokenizer == "bpe":
        return "bpe", BPE_PATTERN, train_bpe(texts, s.vocab_size - 1)  # and <|endoftext|>
    if s.tokenizer == "char":
        return "char", "(?s:.)", sorted({c.encode() for text in texts for c in set(text)})
    try:
        if s.tokenizer == "gpt2":
            gpt2 = tiktoken.get_encoding("gpt2")
            return "gpt2", GPT2_PATTERN, [gpt2.decode_single_token_bytes(i) for i in range(50256)]
        path = Path(s.tokenizer)
        files = [path / name for name in ("meta.json", "best.pt", "ckpt.pt", "ckpt_prev.pt")]
        path = next(filter(Path.exists, files), path)
        if path.suffix == ".json":
            spec = json.loads(path.read_bytes())["tokenizer"]
        else:
            import torch  # only here: it takes seconds
            spec = torch.load(path, "cpu", weights_only=True)["tokenizer"]
        name, pattern = spec["name"], spec["pattern"]
        tokens = [base64.b64decode(token) for token in spec["tokens"]]
    except Exception as error:  # a damaged checkpoint raises one of a dozen kinds
        raise PrepareError(f"cannot load tokenizer {s.tokenizer} ({error!r:.99}): --help") from None
    if name == "char" and (new := {c.encode() for text in texts for c in set(text)} - set(tokens)):
        raise PrepareError(f"input: the char tokenizer does not know {min(new).decode()!r}")
    return name, pattern, tokens

# ---- Encoding: documents go to train or val, and on all cores become tokens ---------------------
def split_in_two(documents, nth, longest):
    """Yield (split, text): every nth passage for val; those between, joined again, for train."""
    number = itertools.count(1)
    for document in documents:
        parts = [(next(number) % nth == 0, passage) for passage in passages(document, longest)]
        for is_val, group in itertools.groupby(parts, lambda part: part[0]):
            yield "val" if is_val else "train", "".join(passage for _, passage in group)

def encode(documents, encoding):
    """Yield (split, ids, counts) of a few documents (split, text) at a time, in their order."""
    def encode_texts(split, texts):
        ids = encoding.encode_to_numpy(END.join([*texts, ""]), allowed_special="all")
        n_bytes = len("".join(texts).encode())
        return split, ids, {"documents": len(texts), "bytes": n_bytes, "tokens": len(ids)}

    running = deque()  # in order, and never many, because memory is bounded
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads: tiktoken releases Python's lock
        while few := list(itertools.islice(documents, 16)):
            for split in ("train", "val"):
                texts = [text for of, text in few if of == split]
                running.append(pool.submit(encode_texts, split, texts))
            while len(running) > 4 * os.cpu_count():
                yield running.popleft().result()
        for future in running:
            yield future.result()

# ---- The whole of it: from settings to three files
def write_dataset(s, folder):
    """Write train.bin, val.bin, meta.json to folder; return meta.json's. The text is read twice."""
    # First reading: to count, and for the tokenizer, which learns from a part of a very long text.
    paths, source = find_files(s), " ".join(s.input or [s.dataset])
    count, notes = Counter(), Counter()
    every = sum(map(os.path.getsize, paths)) // BPE_SAMPLE + 1 if s.tokenizer == "bpe" else 1
    texts = read_documents(s, paths, count, notes)
    name, pattern, tokens = make_tokenizer(s, itertools.islice(texts, 0, None, every))
    deque(texts, maxlen=0)  # to the end, to count: gpt2, for one, has read nothing
    size, n_documents = count["characters"], max(1, count["documents"] - notes[CUTS_NOTE])
    if size < 3000:
        raise PrepareError(f"input: {source} is empty or too short: {size} of 3,000 characters")
    tell(f"{n_documents:,} documents, {size:,} characters; {name} tokenizer of "
         f"{len(tokens) + 1:,} tokens" + (f", from 1 document in {every}" if every > 1 else ""))
    for note, n in (+notes).items():  # +: those above 0
        tell(f"{n:,} {note}")
    if n_documents == 1 and count["of several lines"]:
        tell("the text is one document; --separator=blank or --separator=line would make several")

    # Of many documents, every nth is for validation; of few, every nth passage, from all over.
    share, longest = s.val_fraction, 2 * LONGEST  # passages() cuts nothing
    if n_documents < max(100, 1 / share):
        share = max(share, min(0.1, 100_000 / size))
        longest = int(min(4096, max(256, size * share / 8)))  # ideally 8 are for val
        tell(f"val: 1 passage in {1 / share:.0f} (paragraphs or lines, {longest:,} characters)")
    nth = round(1 / share)

    # Second reading: for the tokens. meta.json marks a whole dataset: deleted first, written last.
    documents = split_in_two(read_documents(s, paths, Counter(), Counter()), nth, longest)
    ranks = {token: rank for rank, token in enumerate(tokens)}
    encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks,
                                 special_tokens={END: len(ranks)})
    dtype = np.dtype("uint16" if len(tokens) < 65536 else "uint32")
    splits = {split: Counter(crc32=0) for split in ("train", "val")}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.json").unlink(missing_ok=True)
    with open(folder / "train.bin", "wb") as train, open(folder / "val.bin", "wb") as val:
        for split, ids, counts in encode(documents, encoding):
            data = ids.astype(dtype.newbyteorder("<")).tobytes()
            (train if split == "train" else val).write(data)
            splits[split].update(counts)
            splits[split]["crc32"] = zlib.crc32(data, splits[split]["crc32"])
    for split, of in splits.items():
        tell(f"{split}: {of['documents']:,} texts, {of['tokens']:,} tokens, "
             f"{of['bytes'] / of['tokens']:.2f} bytes per token")
    if splits["val"]["tokens"] < 2048:
        tell("val is short: more text or a larger --val_fraction (with --overwrite) helps")
    spec = {"name": name, "pattern": pattern, "tokens": [
        base64.b64encode(token).decode() for token in tokens]}
    meta = {"format": 1, "dtype": dtype.name, "vocab_size": len(tokens) + 1, "splits": splits,
            "source": source, "made": s.made, "tokenizer": spec}
    (folder / "meta.json.new").write_text(json.dumps(meta))
    (folder / "meta.json.new").replace(folder / "meta.json")
    return meta

def prepare(*flags, **settings):
    """Make a dataset; return its folder, vocab_size and splits. Raises PrepareError: it cannot."""
    for name, value in settings.items():
        values = (value or [""]) if isinstance(value, (list, tuple)) else [value]  # [] -> --input=
        flags += tuple(f"--{name}={item}" for item in values if item is not None)
    s = SETTINGS_PARSER.parse_args(flags)
    if not (257 <= s.vocab_size <= 1_000_000 and 1e-9 < s.val_fraction <= 0.5):
        raise PrepareError("vocab_size must be from 257 to 1,000,000, val_fraction up to 0.5")
    if s.tokenizer != "bpe" and s.vocab_size != SETTINGS_PARSER.get_default("vocab_size"):
        raise PrepareError(f"vocab_size is for tokenizer bpe; {s.tokenizer} has its own")
    if s.dataset is not None and not re.fullmatch(r"[^./\\:\s][^/\\:\r\n]*", s.dataset):
        raise PrepareError(f"dataset cannot be {s.dataset!r}: it is the name of a folder")
    first = Path((s.input or ["python"])[0]).absolute()
    name = first.name if first.is_dir() else ENDING.sub("", first.name)
    s.dataset = s.dataset or re.sub(r"[^\w.()\[\]-]+", " ", name).strip(" .") or "text"
    folder = Path(s.data_dir, s.dataset)
    there = folder / "meta.json"
    s.made = {name: value for name, value in vars(s).items()
              if name not in ("dataset", "data_dir", "overwrite")}
    meta = {}
    with contextlib.suppress(OSError, ValueError):  # there is none, or a damaged one
        meta = json.loads(there.read_bytes())
    ready = s.input is None and meta.get("made") == s.made  # an input's text may have changed
    if there.exists() and not ready and not s.overwrite:
        raise PrepareError(f"{folder} is there already: add --overwrite or another --dataset")
    if s.overwrite or not ready:
        meta = write_dataset(s, folder)
    flags = [f"--dataset={s.dataset}"] + [f"--data_dir={s.data_dir}"] * (s.data_dir != "data")
    tell(f"{folder} is ready; next: " + shlex.join(["python", "train.py", *flags]))
    return {"folder": str(folder), "vocab_size": meta["vocab_size"], "splits": meta["splits"]}

if __name__ == "__main__":
    notebook = hasattr(builtins, "get_ipython")
    if not notebook:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C: no traceback
        if sys.stdout:  # it may be closed, or its terminal may lack characters
            sys.stdout.reconfigure(errors="replace")
    try:
        prepare(*(sys.argv[1:] if "__file__" in globals() else []))  # a pasted cell has no flags
    except (PrepareError, OSError) as error:  # in a notebook the next cells still run
        print(f"error: {error}", file=sys.stderr)
        if not notebook:
            sys.exit(2)
