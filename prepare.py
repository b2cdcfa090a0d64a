"""
Text in, tokens out: makes the train.bin, val.bin and meta.json that train.py reads.

    python prepare.py                                    # Python's standard library: no network
    python prepare.py --dataset=tinystories              # downloads 1.9 GB
    python prepare.py --input=my.txt                     # your own text, to data/my
    python prepare.py --input books/ --vocab_size=32000  # the text and the code in a folder
    python prepare.py --input=chats.jsonl                # conversations, or texts: see --field

The text may be larger than memory; it is read twice, for the tokenizer and for the tokens.
"""
import argparse, base64, builtins, bz2, contextlib, difflib, glob, gzip, heapq, http.client
import io, itertools, json, lzma, os, re, shlex, signal, sys, sysconfig, time, urllib.request, zlib
from collections import Counter, defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import regex  # re with \p{L}; tiktoken brings it
import tiktoken

# Settings: edit them here, or give them as --name=value or prepare(name=value)
dataset = "python"  # or tinystories, shakespeare, a name for your text (unset: the input's name)
input_ = None  # your own text: files of any name, folders, globs; .gz, .xz and .bz2 are unpacked
separator = "<|endoftext|>"  # the line between documents; blank: empty lines; line: each is one
literal_markers = False  # True: <|endoftext|> inside a line and <|startoftext|> are plain text
field = None  # the text's field in .jsonl and .json; None: "text", or else the turns of a chat
tokenizer = "bpe"  # bpe (trained here), char, gpt2, or a dataset's folder, a run's or a .pt file
vocab_size = 4096  # from 257 to 1,000,000: tokens of a bpe tokenizer, <|endoftext|> among them
val_fraction = 0.01  # up to 0.5: the part for validation; of a small text it is up to a tenth
data_dir = "data"  # the dataset is made in data_dir/dataset
overwrite = False  # replace a dataset that is there already

PREPARE_SETTINGS = ("dataset input separator literal_markers field tokenizer vocab_size "
                    "val_fraction data_dir overwrite").split()
# How GPT-2 splits text into words, as tiktoken writes it: letters, digits or signs, with the one
# space before them, or white space. No token crosses from a word into the next.
GPT2_PATTERN = (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++"
                r"|\s++$|\s+(?!\S)|\s")
# Ours keeps with a letter the marks that follow it: the vowel signs of Hindi, a separate accent.
BPE_PATTERN = GPT2_PATTERN.replace(r"\p{L}++", r"\p{L}[\p{L}\p{M}]*+")
HUGGING_FACE = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/"
CHAR_RNN = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
DOWNLOADS = {"tinystories": HUGGING_FACE + "TinyStories-train.txt",
             "shakespeare": CHAR_RNN + "input.txt"}
TEXT_ENDINGS = (  # what is read in a folder; a file that is named may be called anything
    ".txt .text .md .rst .tex .org .jsonl .ndjson .py .js .ts .c .h .cc .cpp .hpp .cu .java .kt "
    ".go .rs .rb .php .pl .lua .r .jl .swift .scala .hs .sh .sql .css .html").split()
ENDING = re.compile(r"(\.\w+?)?(\.gz|\.xz|\.bz2)?$", re.IGNORECASE)
JSON = re.compile(r"\.(jsonl?|ndjson)(\.gz|\.xz|\.bz2)?$", re.IGNORECASE)
READ = 1 << 20  # characters: a file is read in blocks of this size
BLOCK = 1 << 16  # characters: documents are encoded in blocks of about this size
LONGEST = 1 << 22  # characters: a longer document is cut
BPE_SAMPLE = 128 << 20  # bytes of text; a tokenizer trained on more would hardly differ
BPE_WORDS = 3 << 20  # bytes of different words; if there are more, the rare ones are sampled

class PrepareError(ValueError):
    """A mistake in the settings or the files, explained in one line. Anything else is a bug."""
    def _render_traceback_(self):  # IPython and Jupyter show this instead of a traceback
        return [f"error: {self}"]

class DatasetExists(PrepareError):
    """In a notebook no mistake, but a second run: the next cell uses the dataset."""

def tell(line):
    """Print. Where nobody reads any more (`| head -1`), the work goes on."""
    try:
        print(line, flush=True)
    except OSError:
        sys.stdout = None  # then print() prints nothing

def progress(line):
    """Print the line, unless another was printed in the last ten seconds."""
    if time.monotonic() - progress.last > 10:
        progress.last = time.monotonic()
        tell(line)
progress.last = time.monotonic()

# --- Where text comes from
def find_text(s):
    """Return the files with the text, and what they are."""
    if s.input:
        return find_input(s.input), " ".join(s.input)
    if s.dataset == "python":  # without tests and packages, in the same order each time
        root = Path(sysconfig.get_path("stdlib"))
        left_out = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
        files = [str(path) for path in sorted(root.rglob("*.py"))
                 if not left_out & set(path.relative_to(root).parts)]
        return files, f"the standard library of Python {sys.version.split()[0]}"
    if s.dataset in DOWNLOADS:
        url = DOWNLOADS[s.dataset]
        path = os.path.join(s.data_dir, "downloads", s.dataset, url.split("/")[-1])
        return [download(url, path)], url
    raise PrepareError(f"dataset={s.dataset} needs an input; {', '.join(DOWNLOADS)}, python do not")

def find_input(items):
    """Return the files that files, folders and globs mean, each once, sorted within each item."""
    paths, first, left_out = [], {}, Counter()  # first: (what a file holds) -> its path
    for item in items:
        found = [item] if os.path.exists(item) else sorted(glob.glob(item, recursive=True))
        if not found:
            raise PrepareError(f"input: there is no {item}")
        for path in map(Path, found):
            for file in filter(Path.is_file, sorted(path.rglob("*")) if path.is_dir() else [path]):
                hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
                ending = "hidden" if hidden else ENDING.search(file.name)[1] or "without ending"
                if file == path or ending.lower() in TEXT_ENDINGS:
                    paths.append(file)
                else:
                    left_out[ending] += 1
    for file in paths:  # a second copy would be in both train and val
        key = content_of(file) if len(paths) > 1 else file
        if first.setdefault(key, file) != file:
            left_out[f"copy ({file} of {first[key]})"] += 1
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in left_out.items())
    if kinds:
        tell(f"{len(first):,} files are read, {left_out.total():,} are left out: {kinds:.400}")
    if not first:
        raise PrepareError(f"input: no text in {' '.join(items)}; --input=FILE reads any file")
    return list(map(str, first.values()))

def content_of(path):
    """What tells a file from all others but its copies; of an empty file, its path."""
    size, checksum = 0, 0
    with reading(path) as file:
        while block := file.read(1 << 20):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return (size, checksum, bool(JSON.search(str(path)))) if size else path

@contextlib.contextmanager
def reading(path):
    """Open a file to read its bytes, unpacked. What goes wrong becomes a PrepareError."""
    openers = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
    try:
        with openers.get(os.path.splitext(path)[1].lower(), open)(path, "rb") as file:
            begin = file.read(1 << 16)
            file.seek(0)
            even, odd = begin[::2].count(0), begin[1::2].count(0)  # in UTF-16 every other byte is 0
            if begin[:2] in (b"\xff\xfe", b"\xfe\xff") or abs(even - odd) > len(begin) / 5 + 2:
                raise PrepareError(f"{path} is UTF-16: save it as UTF-8")
            if even + odd > len(begin) / 100 + 2:
                raise PrepareError(f"{path} is an archive or the like, not text: unpack it")
            try:
                yield file
            except UnicodeDecodeError as error:
                place = file.tell() - len(error.object) + error.start
                byte = f"byte {place:,} is 0x{error.object[error.start]:02x}"
                raise PrepareError(f"{path} is not UTF-8: {byte}") from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise PrepareError(f"cannot read {path}: {reason}") from None

def download(url, path):
    """Fetch url to path and return path. If it breaks, the next run resumes it."""
    if os.path.exists(path):
        return path
    part = Path(path + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    tell(f"downloading {url}, from byte {have:,}")
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        with urllib.request.urlopen(request, timeout=60) as answer:
            with open(part, "ab" if answer.status == 206 else "wb") as file:  # wb: all of it comes
                while file.write(answer.read(1 << 20)):
                    progress(f"downloaded {file.tell() / 1e6:,.0f} MB")
        if answer.length:  # what has not come; None: the server did not say how much there is
            raise OSError(f"{answer.length:,} bytes are missing")
    except (OSError, http.client.HTTPException) as error:
        raise PrepareError(f"{url}: {error}; run the command again, or delete {part}") from None
    part.rename(path)
    return path

# --- Reading: one document after the other
MARKER = r"<\|(?:end|start)oftext\|>(?:[^\S\n]*$\n?)?"
SEPARATED = "<|endoftext|> or <|startoftext|> in text separate documents (--literal_markers: not)"

def read_text(file, between, count):
    """Yield the documents of a text, given the pattern of what is between them."""
    rest = ""
    while block := file.read(READ) + file.readline(READ):  # to the end of a line, if near
        if "\r" in block or "\0" in block:
            block += file.read(1) if block.endswith("\r") else ""
            count["Windows line ends (CRLF) became LF"] += block.count("\r\n")
            count["NUL bytes were left out"] += block.count("\0")
            block = block.replace("\r\n", "\n").replace("\0", "")
        if MARKER in between.pattern:
            count[SEPARATED] += block.count("<|endoftext|>") + block.count("<|startoftext|>")
            count[SEPARATED] -= block.split("\n").count("<|endoftext|>")  # lines of their own
        *documents, rest = between.split(rest + block)
        for text in documents:
            line = text.rstrip(" \t")  # blanks before a separator belong to its line
            yield line if line.endswith("\n") else text
        while len(rest) > LONGEST:
            cut = rest.rfind("\n", 0, LONGEST) + 1 or LONGEST
            count[f"cuts were made in documents of more than {LONGEST:,} characters"] += 1
            yield rest[:cut]
            rest = rest[cut:]
    yield rest

CHAT_ROLES = {"human": "User", "prompter": "User"} | dict.fromkeys(
    ["gpt", "chatgpt", "model", "bot", "ai"], "Assistant")

def chat_turn(role, content):
    """A turn of a conversation as text. sample.py --chat writes a prompt in the same way."""
    return f"{CHAT_ROLES.get(role.lower(), role.capitalize())}: {content.strip()}\n"

def chat_of(record, count):
    """The text of a conversation, as OpenAI, ShareGPT or ChatGPT's export writes it; else None."""
    turns = record.get("messages", record.get("conversations"))
    if "mapping" in record:  # ChatGPT's tree of messages: from the last one up to the first
        turns, node = [], record["current_node"]
        while node and len(turns) <= len(record["mapping"]):
            turns.insert(0, record["mapping"][node]["message"] or {"content": " "})
            node = record["mapping"][node]["parent"]
    text = ""
    for turn in turns or []:
        content = turn.get("content", turn.get("value")) or ""
        if isinstance(content, dict):
            content = content.get("parts", content.get("text", ""))
        content = "".join(part if isinstance(part, str) else part.get("text", "")
                          for part in content)
        if content.strip():
            role = turn.get("role") or turn.get("from") or turn["author"]["role"]
            text += chat_turn(role, content)
        count["turns of conversations have no text and were left out"] += not content
    return None if turns is None else text

def read_json(file, path, field, count):
    """Yield the text of each record: a JSON value per line, or one value that is the whole file."""
    for number, line in enumerate(file, 1):
        if number == 1 and (line.lstrip().startswith("[") or line.strip() == "{"):
            line += file.read()
        try:
            value = json.loads(line) if line.strip() else []
            for record in value if isinstance(value, list) else [value]:
                record = {"text": record} if isinstance(record, str) else record
                fields = [name for name in (field, "text") if name in record]
                text = record[fields[0]] if fields else chat_of(record, count)
                if text is None:
                    raise ValueError(f"it has no {field or 'text'} and no chat, but the fields "
                                     f"{', '.join(record):.300}: name one with --field")
                if field and field not in record:
                    count[f"records without {field}: their text or chat was read"] += 1
                text.encode()  # fails for a number, or for half of a surrogate pair
                yield text
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise PrepareError(f"{path}, line {number:,}: {error}") from None

def read_documents(s, paths, count):
    """Yield the documents of all files but those of white space only; count what was read."""
    own_line = rf"^[^\S\n]*{re.escape(s.separator.strip())}[^\S\n]*$\n?"
    line = {"blank": r"^[^\S\n]*\n", "line": r"\n"}.get(s.separator, own_line)
    marker = "(?!)" if s.literal_markers else MARKER  # (?!) is found nowhere
    for path in paths:
        is_json = JSON.search(path)
        no_line = is_json or (s.separator == "<|endoftext|>" and not s.literal_markers)
        between = re.compile(marker if no_line else f"{line}|{marker}", re.MULTILINE)
        with reading(path) as raw:
            file = io.TextIOWrapper(raw, "utf-8-sig", newline="\n")  # sig: skip Windows' first mark
            files = map(io.StringIO, read_json(file, path, s.field, count)) if is_json else [file]
            for text in filter(str.strip, itertools.chain.from_iterable(
                    read_text(file, between, count) for file in files)):
                count["documents"] += 1
                count["characters"] += len(text)
                count["bytes"] += len(text.encode())
                if not is_json and count["documents"] == 1:  # would a separator find more?
                    count["lines"] = text.strip().count("\n")
                    count["paragraphs"] = len(re.findall(r"\n[^\S\n]*\n", text.strip()))
                progress(f"read {count['bytes'] / 1e6:,.0f} MB")
                yield text

# --- The tokenizer
WORD = regex.compile(BPE_PATTERN)
# White space and what follows it. This is a whole number of words, because no word has white space
# after anything else. Python's re is the faster engine; for it \x1c to \x1f are white space too.
# What is cut after 100 characters, only the training of a tokenizer sees so.
CHUNK = re.compile(r"[^\S\x1c-\x1f]{0,99}[\S\x1c-\x1f]{1,100}|\s{1,100}")

def count_words(texts):
    """Return how often each word occurs in an iterator of str; of very many words, a sample."""
    words, rarity = Counter(), 1
    while chunks := count_chunks(texts):
        for chunk, n in chunks.items():  # few are different, so the slow pattern has little to do
            for word in WORD.findall(chunk):
                words[word] += n
        while sum(len(word.encode()) for word in words) > BPE_WORDS:
            rarity *= 2
            words = sample_words(words, rarity)
    if max(map(len, words), default=0) > 99:
        tell("for the tokenizer's training, words of more than 100 characters were cut")
    if rarity > 1:
        tell(f"for the tokenizer's training, 1 in {rarity} of the words that occur once was taken")
        words = {word: max(n, rarity) for word, n in sample_words(words, rarity).items()}
    return words

def count_chunks(texts):
    """Count the chunks of the next texts, until very many are different."""
    chunks = Counter()
    for text in texts:
        chunks.update(CHUNK.findall(text))
        if len(chunks) > 200_000:
            break
    return chunks

def sample_words(words, rarity):
    """Keep a word that occurs n times with probability n / rarity, by its checksum."""
    limit = 2**32 / rarity
    return Counter({word: n for word, n in words.items() if zlib.crc32(word.encode()) < n * limit})

def train_bpe(texts, vocab_size):
    """Train a byte-level BPE (Sennrich et al. 2016), within words, on an iterable of str. Returns
    vocab_size tokens, each as bytes, by rank: the 256 single bytes, then one for each merge of the
    most frequent pair of neighbours; of equally frequent ones, of that with the smallest (left id,
    right id). Raises PrepareError (a ValueError)."""
    if type(vocab_size) is not int or not 256 <= vocab_size <= 1_000_000:
        raise PrepareError(f"vocab_size must be from 256 to 1,000,000, not {vocab_size!r}")
    # A word is a str; its characters are token ids, at first the word's bytes. So Python finds,
    # replaces and compares ids at the speed of C. A pair is a str of two characters.
    counted = count_words(iter(texts))
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
        progress(f"trained {len(tokens):,} of {vocab_size:,} tokens")
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
        tell(f"no pair is left to merge: {len(tokens) + 1:,} tokens are all that this text gives")
    return tokens

def make_tokenizer(s, texts):
    """Return (name, pattern, tokens by id): a tokenizer trained on texts, or one that is ready."""
    if s.tokenizer == "bpe":
        return "bpe", BPE_PATTERN, train_bpe(texts, s.vocab_size - 1)
    if s.tokenizer == "char":
        characters = {c for text in texts for c in set(text)}
        return "char", "(?s:.)", [c.encode() for c in sorted(characters)]
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
        characters = set(map(bytes.decode, tokens)) if name == "char" else set()
    except Exception as error:  # a damaged checkpoint raises one of a dozen kinds
        raise PrepareError(f"cannot load tokenizer {s.tokenizer} ({error!r:.99}): give bpe, char, "
                           "gpt2 (a download), a dataset's or a run's folder") from None
    for text in texts if characters else []:
        if unknown := set(text) - characters:  # tiktoken would panic
            raise PrepareError(f"input: the char tokenizer does not know {min(unknown)!r}")
    return name, pattern, tokens

# --- Encoding: documents go to train or val, and on all cores become tokens
END = os.urandom(16).hex()  # <|endoftext|> for tiktoken: random, so that no text contains it

def passages(text, longest):
    """Cut a text where a paragraph ends, or at least a line, into parts of at most this length."""
    part = f".{{1,{longest}}}"
    return re.findall(rf"{part}(?:(?<=\n\n)|\Z)|{part}(?<=\n)|{part}", text, re.DOTALL)

def split_in_two(documents, nth, longest):
    """Yield (split, text). To val goes every nth passage; one of `longest` or less is whole."""
    number = itertools.count(1)
    for document in documents:
        parts = passages(document, longest)
        for to_val, group in itertools.groupby(parts, lambda _: next(number) % nth == 0):
            yield "val" if to_val else "train", "".join(group)

def encode(documents, encoding):
    """Yield (split, array of tokens, counts) of blocks of documents (split, text)."""
    size, running = Counter(), deque()  # running: in order, and bounded, because memory is

    def block_of(document):
        split, text = document
        size[split] += len(text)
        return split, size[split] // BLOCK

    def encode_block(split, texts):
        pieces = [END.join([*texts, ""])]
        if len(pieces[0]) > 500_000:  # tiktoken fails where a million blanks are in a row
            pieces = [piece for text in texts for piece in [*passages(text, 500_000), END]]
        ids = np.concatenate([encoding.encode_to_numpy(piece, allowed_special="all")
                              for piece in pieces])
        n_bytes = len("".join(texts).encode())
        return split, ids, {"documents": len(texts), "bytes": n_bytes, "tokens": len(ids)}

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads: tiktoken releases Python's lock
        for (split, _), block in itertools.groupby(documents, block_of):
            running.append(pool.submit(encode_block, split, [text for _, text in block]))
            if len(running) > 2 * os.cpu_count():
                yield running.popleft().result()
        for future in running:
            yield future.result()

# --- The whole of it: from settings to three files
def write_dataset(s, paths, source, folder):
    """Write train.bin, val.bin, meta.json to folder; return meta.json's. The text is read twice."""
    total = Counter()
    every = sum(map(os.path.getsize, paths)) // BPE_SAMPLE + 1 if s.tokenizer == "bpe" else 1
    texts = read_documents(s, paths, total)
    name, pattern, tokens = make_tokenizer(s, itertools.islice(texts, 0, None, every))
    deque(texts, maxlen=0)  # read what the tokenizer did not, to count it
    size = total["characters"]
    if size < 20:
        raise PrepareError(f"input: {source} is empty or too short")
    tell(f"{total['documents']:,} documents, {total['bytes']:,} bytes; {name} tokenizer of "
         f"{len(tokens) + 1:,} tokens" + (f", from 1 document in {every}" if every > 1 else ""))
    for note, n in total.items():  # the notes are sentences, the other keys are words
        if n and " " in note:
            tell(f"{n:,} {note}")
    if total["documents"] == 1 and total["lines"]:
        way = "blank" if total["paragraphs"] else "line"
        tell(f"the text is one document; it would be several with --separator={way}")

    # Of many documents, every nth is for validation; of few, every nth passage.
    nth, longest = round(1 / s.val_fraction), 2 * LONGEST  # longer than any document
    if total["documents"] < max(100, nth):
        length = max(size * s.val_fraction, min(size / 10, 100_000))  # of val, in characters
        longest = int(length / max(2, min(8, length // 256), length // 4096))
        nth = round(size / length) + 1  # 11 or 101, primes: not in step with a regular text
        tell(f"val: every {nth}th passage (paragraphs or lines, up to {longest:,} characters)")
    documents = split_in_two(read_documents(s, paths, Counter()), nth, longest)
    ranks = {token: rank for rank, token in enumerate(tokens)}
    encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks,
                                 special_tokens={END: len(ranks)})
    dtype = np.dtype("uint16" if len(tokens) < 65536 else "uint32")
    splits = {split: Counter(crc32=0) for split in ("train", "val")}
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("meta.json", "train.bin", "val.bin"):  # without meta.json there is no dataset
        (folder / file).unlink(missing_ok=True)
    with open(folder / "train.bin", "wb") as train, open(folder / "val.bin", "wb") as val:
        for split, ids, counts in encode(documents, encoding):
            data = ids.astype(dtype.newbyteorder("<")).tobytes()
            (train if split == "train" else val).write(data)
            splits[split].update(counts)
            splits[split]["crc32"] = zlib.crc32(data, splits[split]["crc32"])
    for split, of in splits.items():
        tell(f"{split}: {of['documents']:,} documents, {of['bytes']:,} bytes, {of['tokens']:,} "
             f"tokens, {of['bytes'] / of['tokens']:.2f} bytes per token")
    if splits["val"]["tokens"] < 2048 and nth > 11:
        tell("val is short: --val_fraction=0.1 --overwrite keeps every 10th document for it")
    spec = {"name": name, "pattern": pattern,
            "tokens": [base64.b64encode(token).decode() for token in tokens]}
    meta = {"format": 1, "dtype": dtype.name, "vocab_size": len(tokens) + 1, "splits": splits,
            "source": source[:300], "tokenizer": spec}
    (folder / "meta.json.new").write_text(json.dumps(meta))
    (folder / "meta.json.new").replace(folder / "meta.json")
    return meta

def read_setting(name, value):
    """Return the value in the setting's own type, whether it came as text or from Python."""
    if name not in PREPARE_SETTINGS:
        near = difflib.get_close_matches(name.split("=")[0], PREPARE_SETTINGS, 1)
        near = near or [f"input={name}"]
        raise PrepareError(f"there is no setting {name}; did you mean --{near[0]}?")
    with contextlib.suppress(TypeError, ValueError, LookupError):
        if name in ("input", "field") and value is None:
            return None
        if name == "input":
            items = [value] if isinstance(value, (str, os.PathLike)) else value
            if items:
                return list(map(os.fspath, items))
        elif name in ("literal_markers", "overwrite"):
            return {"True": True, "False": False}[str(value)]
        elif name == "vocab_size":
            if 257 <= int(str(value)) <= 1_000_000:
                return int(str(value))
        elif name == "val_fraction":
            if 1e-9 < float(value) <= 0.5:
                return float(value)
        else:
            folder = r"(?!downloads$)[^./\\:\s][^/\\:\r\n]*"
            return re.fullmatch(folder if name == "dataset" else r".*\S.*", os.fspath(value))[0]
    raise PrepareError(f"{name} cannot be {value!r}: --help says what it can be")

def prepare(**settings):
    """Make a dataset by the settings given and, for others, those at the top of this file. Returns
    its folder, vocab_size and splits. Raises PrepareError (a ValueError): it cannot be made."""
    given = {name: globals()["input_" if name == "input" else name] for name in PREPARE_SETTINGS}
    given |= settings
    s = argparse.Namespace(**{name: read_setting(name, value) for name, value in given.items()})
    if "vocab_size" in settings and s.tokenizer != "bpe":
        raise PrepareError(f"vocab_size is for tokenizer bpe; {s.tokenizer} has its own")
    if s.input and "dataset" not in settings and s.dataset == "python":
        path = os.path.abspath(s.input[0])  # my for books/my.txt.gz, books for books/*.txt
        if not os.path.exists(path):
            path = re.sub(r"[\\/][^\\/]*[*?[].*", "", path)
        name = os.path.basename(path) if os.path.isdir(path) else ENDING.sub("", Path(path).name)
        name = re.sub(r"[\\:\s]+", " ", name).strip(" .")
        s.dataset = "text" if name in ("", "downloads") else name
    folder = Path(s.data_dir, s.dataset)
    try:
        if (folder / "meta.json").exists() and not s.overwrite:
            raise DatasetExists(f"{folder} is there already; --overwrite replaces it, "
                                "--dataset=NAME keeps it")
        meta = write_dataset(s, *find_text(s), folder)
    except OSError as error:
        raise PrepareError(f"{error.filename or folder}: {error.strerror or error}") from None
    flags = [f"--dataset={s.dataset}"] + [f"--data_dir={s.data_dir}"] * (s.data_dir != "data")
    tell(f"{folder} is ready; next: " + shlex.join(["python", "train.py", *flags]))
    return {"folder": str(folder), "vocab_size": meta["vocab_size"], "splits": meta["splits"]}

def read_command_line():
    """Return the settings that the command line gives. --help prints those at the file's top."""
    text = Path(__file__).read_text(encoding="utf-8")
    settings = text.split("prepare(name=value)\n")[1].split("\n\n")[0]
    settings = re.sub(r"^(\w+?)_? = ", r"--\1=", settings, flags=re.MULTILINE)
    parser = argparse.ArgumentParser(usage=__doc__, description=settings, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in PREPARE_SETTINGS:  # a flag alone, as --overwrite, means True
        how = {"nargs": "?", "const": True}
        if name == "input":
            how = {"nargs": "*", "action": "extend"}
        parser.add_argument("--" + name, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **how)
    known, unknown = parser.parse_known_args()
    return vars(known) | {flag.split("=")[0][2:] if flag.startswith("--") else flag: None
                          for flag in unknown}

if __name__ == "__main__":
    notebook = hasattr(builtins, "get_ipython")
    if not notebook:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C: no traceback
        if sys.stdout:  # it may be closed, or its terminal may lack characters
            sys.stdout.reconfigure(errors="replace")
    try:
        prepare(**(read_command_line() if "__file__" in globals() else {}))  # a cell has no flags
    except PrepareError as error:
        if not notebook:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        if not isinstance(error, DatasetExists):
            raise PrepareError(error) from None
        tell(error)
