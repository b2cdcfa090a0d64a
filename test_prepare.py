"""prepare.py, by what it promises: real text, real files, real processes, a real server that breaks off."""
import base64, bz2, gzip, http.server, io, json, lzma, os, random, re, signal, subprocess, sys, threading, time, zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiktoken
from hypothesis import given, settings, strategies as st

import prepare
from prepare import EOT, GPT2_PATTERN, UserError, train_bpe

HERE = Path(__file__).resolve().parent
SHARED = HERE.parent / "shared" / "data"
STORY = "One day, Lily's dog ran to the sea.\n\n\"Come back!\" she said. It didn't; it swam 20 miles.\r\n  The end \u2014 or not?\n"


def run(*flags, cwd, **options):
    return subprocess.run([sys.executable, HERE / "prepare.py", *map(str, flags)], cwd=cwd, capture_output=True, text=True, **options)


def shared(name):
    if not (SHARED / name).exists():
        pytest.skip(f"../shared/data/{name} is absent")
    return SHARED / name


def encoding_of(meta):
    tokens = [base64.b64decode(token) for token in meta["tokenizer"]["tokens"]]
    return tiktoken.Encoding("x", pat_str=meta["tokenizer"]["pattern"], mergeable_ranks={t: i for i, t in enumerate(tokens)},
                             special_tokens={EOT: len(tokens)})


def read_back(folder):
    """The documents of each split, decoded; checks on the way that meta.json is true of the files."""
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["format"] == 1 and meta["dtype"] == ("uint32" if meta["vocab_size"] > 65536 else "uint16")
    assert meta["vocab_size"] == len(meta["tokenizer"]["tokens"]) + 1
    encoding, result = encoding_of(meta), {}
    for split, of in meta["splits"].items():
        data = (folder / f"{split}.bin").read_bytes()
        ids = np.frombuffer(data, "<u2" if meta["dtype"] == "uint16" else "<u4")
        ends = np.flatnonzero(ids == meta["vocab_size"] - 1)
        assert len(ids) == of["tokens"] and zlib.crc32(data) == of["crc32"] and len(ends) == of["documents"]
        assert ends[-1] == len(ids) - 1
        result[split] = [encoding.decode_bytes(part[part != meta["vocab_size"] - 1].tolist()).decode() for part in np.split(ids, ends + 1)[:-1]]
        assert sum(len(text.encode()) for text in result[split]) == of["bytes"]
    assert os.path.getsize(folder / "meta.json") < 20_000_000
    return result


# --- the tokenizer

def naive_bpe(texts, vocab_size):
    words = Counter(tuple(word.encode()) for text in texts for word in prepare.regex.findall(GPT2_PATTERN, text))
    tokens = [bytes([i]) for i in range(256)]
    while len(tokens) < vocab_size:
        pairs = Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merged = Counter()
        for word, count in words.items():
            new, i = [], 0
            while i < len(word):
                if word[i:i + 2] == best:
                    new.append(len(tokens))
                    i += 2
                else:
                    new.append(word[i])
                    i += 1
            merged[tuple(new)] += count
        words = merged
        tokens.append(tokens[best[0]] + tokens[best[1]])
    return tokens


odd_text = st.text(st.sampled_from("aaabbc  \n\t'st1\u00e9\u3000\x1c\r\u00a0.!"), max_size=60)


@settings(max_examples=200, deadline=None)
@given(st.lists(odd_text, max_size=6), st.integers(256, 300))
def test_bpe_merges_what_a_naive_trainer_merges(texts, vocab_size):
    tokens = train_bpe(texts, vocab_size)
    assert tokens == naive_bpe(texts, vocab_size) and len(set(tokens)) == len(tokens)


def test_bpe_equals_rustbpe_on_stories():
    rustbpe = pytest.importorskip("rustbpe")
    text = lzma.open(shared("stories.txt.xz"), "rt", encoding="utf-8", newline="").read()
    documents = text.split(EOT + "\n")
    peer = rustbpe.Tokenizer()
    peer.train_from_iterator(iter(documents), 4096, pattern=GPT2_PATTERN)
    theirs = [bytes(token) for token, _ in sorted(peer.get_mergeable_ranks(), key=lambda item: item[1])]
    assert train_bpe(documents, 4096) == theirs


def test_bpe_stops_short_and_says_so(capsys):
    assert len(train_bpe(["aaaa aaaa"], 300)) == 259 and "259 tokens instead of 300" in capsys.readouterr().out
    for wrong in [lambda: train_bpe("text", 300), lambda: train_bpe(["x"], 255), lambda: train_bpe(["x"], 300.0)]:
        with pytest.raises(ValueError, match="texts|vocab_size"):
            wrong()


TRAINED = tiktoken.Encoding("t", pat_str=GPT2_PATTERN, special_tokens={EOT: 400},
                            mergeable_ranks={t: i for i, t in enumerate((train_bpe([STORY * 3, "  \n\n  \n aab abab  aa"], 400) + [b"%d" % i + b"~" for i in range(400)])[:400])})


@settings(max_examples=300, deadline=None)
@given(st.one_of(odd_text, st.text(max_size=80)), st.integers(1, 9))
def test_tokens_of_the_pieces_are_the_tokens_of_the_whole(text, size):
    parts = prepare.cut(text, size)
    assert "".join(parts) == text and all(len(part) <= 2 * size for part in parts)
    safe = [a for a, b in zip(parts, parts[1:]) if not (not prepare.regex.match(r"\s", a[-1]) and prepare.regex.match(r"\s", b[0]))]
    if not safe:
        assert sum((TRAINED.encode_ordinary(part) for part in parts), []) == TRAINED.encode_ordinary(text)
    assert sum(prepare.count_words([text]).values()) == len(prepare.regex.findall(GPT2_PATTERN, text))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.one_of(odd_text, st.just("a " + EOT + " b")), st.booleans()), min_size=1, max_size=8))
def test_a_batch_is_encoded_as_its_documents_are(batch):
    tokens, size, documents = prepare.encode(batch, TRAINED)
    texts = "".join(text + "\0" * ends for text, ends in batch).split("\0")
    want = [i for k, text in enumerate(texts) for i in TRAINED.encode_ordinary(text) + [400] * (k < len(texts) - 1)]
    assert documents == len(texts) - 1 and size == sum(len(text.encode()) for text in texts)
    assert list(tokens) == want or any(EOT in text for text in texts)  # pieces of one document may then part differently
    assert TRAINED.decode(list(tokens)) == EOT.join(texts)


def test_a_million_blanks_are_no_trouble():
    tokens, _, _ = prepare.encode([("a" + " " * 1_500_000 + "b", True)], TRAINED)
    assert TRAINED.decode(list(tokens)) == "a" + " " * 1_500_000 + "b" + EOT


# --- reading

@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([EOT, "a", "", " ", "bb" * 9, "x" + EOT, EOT + " y", "\u00e9\u00e9"]), max_size=12),
       st.lists(st.sampled_from(["\n", "\r\n"]), min_size=12, max_size=12), st.booleans(), st.integers(1, 30))
def test_documents_are_the_lines_between_separators_wherever_blocks_end(lines, ends, closed, block):
    text = "".join(line + end for line, end in zip(lines, ends))
    text = text if closed else text.rstrip("\r\n")
    want = [""]
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        if line.rstrip("\r\n") == EOT:
            want.append("")
        else:
            want[-1] += line
    parting = prepare.regex.compile("^" + re.escape(EOT) + r"\r?(?:\n|\Z)", re.MULTILINE)
    before, prepare.BLOCK = prepare.BLOCK, max(block, 2 * len(EOT) + 2)
    try:
        got = [""]
        for piece, end in prepare.read_txt(io.StringIO(text, newline="\n"), parting):
            got[-1] += piece
            got += [""] * end
    finally:
        prepare.BLOCK = before
    assert got[:-1] == want


def test_packed_and_jsonl_files_give_what_plain_ones_do(tmp_path):
    documents = [STORY.replace("Lily", f"Lily{i}") + "\u4f60\u597d \U0001f600\n" for i in range(20)]
    text = f"{EOT}\n".join(documents).encode()
    lines = "".join(json.dumps({"text": d, "id": 1}) + "\n" for d in documents).encode()
    for name, data in {"a.txt": b"\xef\xbb\xbf" + text, "b.txt.gz": gzip.compress(text), "c.txt.xz": lzma.compress(text),
                       "d.txt.bz2": bz2.compress(text), "e.jsonl": lines, "f.JSONL.XZ": lzma.compress(lines)}.items():
        (tmp_path / name).write_bytes(data)
        made = prepare.prepare(input=tmp_path / name, vocab_size=300, val_fraction=0.1, data_dir=tmp_path / "out")
        assert made["folder"] == str(tmp_path / "out" / name[0])
        back = read_back(Path(made["folder"]))
        assert back == {"train": documents[:9] + documents[10:19], "val": [documents[9], documents[19]]}


def test_a_long_document_has_the_tokens_of_the_whole(tmp_path):
    text = lzma.open(shared("stories.txt.xz"), "rt", encoding="utf-8", newline="").read(8_000_000).replace(EOT + "\n", "")
    (tmp_path / "a.txt").write_text(text)
    made = prepare.prepare(input=tmp_path / "a.txt", vocab_size=500, data_dir=tmp_path)
    meta = json.loads(Path(made["folder"], "meta.json").read_text())
    cut = len(text.encode()[:made["splits"]["train"]["bytes"]].decode())
    for split, part in (("train", text[:cut]), ("val", text[cut:])):
        assert np.fromfile(Path(made["folder"], split + ".bin"), "<u2").tolist() == encoding_of(meta).encode_ordinary(part) + [499]


def test_folders_and_globs_and_blank_lines(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name, text in {"in/b.txt": "one\n\ntwo\n \r\n\nthree", "in/deep/a.txt": "four", "in/c.txt": "", "in/no.md": "x"}.items():
        (tmp_path / name).write_bytes(text.encode())
    for k, source in enumerate([["in"], ["in/**/*.txt"], ["in/b.txt", "in/deep/a.txt", "in"]]):
        result = run("--input", *source, "--separator=blank", "--tokenizer=char", "--val_fraction=0.5", f"--data_dir=o{k}", cwd=tmp_path)
        assert result.returncode == 0 and "--dataset=" + ["in", "in", "b"][k] in result.stdout, result.stderr
        assert read_back(tmp_path / f"o{k}" / ["in", "in", "b"][k]) == {"train": ["one\n", "three"], "val": ["two\n", "four"]}


@pytest.mark.parametrize("tokenizer", ["bpe", "char"])
def test_few_documents_are_split_by_position(tmp_path, tokenizer):
    text = shared("shakespeare.txt").read_text("utf-8")
    made = prepare.prepare(input=str(shared("shakespeare.txt")), tokenizer=tokenizer, vocab_size=512, data_dir=tmp_path)
    back = read_back(Path(made["folder"]))
    assert back["train"] + back["val"] == [text[:len(back["train"][0])], text[len(back["train"][0]):]]
    assert back["train"][0].endswith("\n") and 0.0099 < len(back["val"][0]) / len(text) < 0.012


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(odd_text.filter(bool), st.booleans()), min_size=1, max_size=8), st.integers(0, 300))
def test_a_split_by_position_loses_and_repeats_nothing(pieces, train_bytes):
    pieces[-1] = (pieces[-1][0], True)
    out = list(prepare.split_by_position(pieces, train_bytes))
    assert "".join(text for _, text, _ in out) == "".join(text for text, _ in pieces)
    splits = [split for split, _, _ in out]
    assert splits == sorted(splits) and all(out[i][2] for i in range(len(out)) if i + 1 == len(out) or splits[i + 1] != splits[i])


# --- the whole

def test_the_standard_library_is_the_default(tmp_path):
    results = [run("--vocab_size=1000", "--data_dir=" + name, cwd=tmp_path) for name in "ab"]
    assert "python train.py --data_dir=a" in results[0].stdout and not results[0].stderr
    for name in ("train.bin", "val.bin"):
        assert (tmp_path / "a/python" / name).read_bytes() == (tmp_path / "b/python" / name).read_bytes()
    assert len(read_back(tmp_path / "a/python")["train"]) > 300
    again = run("--data_dir=a", cwd=tmp_path)
    assert again.returncode == 2 and again.stderr.count("\n") == 1 and "--overwrite" in again.stderr


def test_a_tokenizer_is_used_again(tmp_path):
    (tmp_path / "a.txt").write_text(STORY * 50)
    (tmp_path / "b.txt").write_text(STORY.replace("Lily", "Zo") * 40)
    for tokenizer in ("bpe", "char"):
        out = tmp_path / tokenizer
        prepare.prepare(input=tmp_path / "a.txt", tokenizer=tokenizer, vocab_size=300, data_dir=out)
        prepare.prepare(input=tmp_path / "b.txt", tokenizer=out / "a", data_dir=out) if tokenizer == "bpe" else None
        meta = json.loads((out / "a" / "meta.json").read_text())
        if tokenizer == "bpe":
            read_back(out / "b")
            assert json.loads((out / "b" / "meta.json").read_text())["tokenizer"] == meta["tokenizer"]
        else:
            with pytest.raises(UserError, match=r"b.txt.*does not know 'Z' \(U\+005A\)"):
                prepare.prepare(input=tmp_path / "b.txt", tokenizer=out / "a", data_dir=out)
        for change in [{"format": 2}, {"vocab_size": 5}, {"tokenizer": 1}, {"tokenizer": meta["tokenizer"] | {"pattern": "."}},
                       {"tokenizer": meta["tokenizer"] | {"tokens": ["YQ==", "YQ=="]}}, {"tokenizer": meta["tokenizer"] | {"tokens": ["?"]}}]:
            (tmp_path / "meta.json").write_text(json.dumps(meta | change))
            with pytest.raises(UserError, match="tokenizer"):
                prepare.prepare(input=tmp_path / "b.txt", tokenizer=tmp_path, data_dir=out, dataset="c")
    assert sorted(os.listdir(tmp_path / "char")) == ["a"]


def test_text_with_endoftext_inside_a_line_stays_text(tmp_path):
    text = f"a {EOT} b\n" * 30
    (tmp_path / "a.txt").write_text(text)
    made = prepare.prepare(input=tmp_path / "a.txt", vocab_size=300, data_dir=tmp_path / "o")
    assert "".join(sum(read_back(Path(made["folder"])).values(), [])) == text


def bad_files(folder):
    folder.mkdir()
    packed = lzma.compress(STORY.encode() * 1000)
    files = {"empty.txt": b"", "blank.txt": b" \n\n", "latin.txt": b"a" * 3_000_000 + "\u00e9".encode("latin-1") + b"b",
             "utf16.txt": "text".encode("utf-16"), "cut.txt.xz": packed[:-20], "torn.txt.xz": packed[:50] + b"\0" * 9 + packed[59:],
             "cut.txt.gz": gzip.compress(STORY.encode() * 9)[:-9], "not.txt.gz": b"plain", "not.txt.bz2": b"plain", "half.txt": b"abc\xe4\xbd",
             "bad.jsonl": b'{"text": "a"}\n{"text": \n', "other.jsonl": b'{"text": "a"}\n\n{"txt": "a"}\n', "number.jsonl": b'{"text": 5}\n',
             "surrogate.jsonl": b'{"text": "\\ud800"}\n', "data.csv": b"a,b", "one.txt": b"x", "fine.txt": STORY.encode() * 20}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "folder.txt").mkdir()
    (folder / "dead.txt").symlink_to("nowhere")
    return folder


@pytest.mark.parametrize("settings, message", [
    ({"input": "empty.txt"}, "empty.txt is empty"), ({"input": "blank.txt"}, "blank.txt is empty"), ({"input": "gone.txt"}, "gone.txt is missing"),
    ({"input": "latin.txt"}, "latin.txt is not UTF-8: byte 3,000,000 is 0xe9"), ({"input": "utf16.txt"}, "utf16.txt is not UTF-8: byte 0"),
    ({"input": "half.txt"}, "half.txt is not UTF-8: byte 3"), ({"input": "cut.txt.xz"}, "cannot read .*cut.txt.xz"),
    ({"input": "torn.txt.xz"}, "cannot read .*torn.txt.xz"), ({"input": "cut.txt.gz"}, "cannot read .*cut.txt.gz"), ({"input": "not.txt.gz"}, "cannot read .*not.txt.gz"),
    ({"input": "not.txt.bz2"}, "cannot read .*not.txt.bz2"), ({"input": "bad.jsonl"}, "bad.jsonl, line 2"), ({"input": "other.jsonl"}, "other.jsonl, line 3"),
    ({"input": "number.jsonl"}, "number.jsonl, line 1"), ({"input": "surrogate.jsonl"}, "surrogate.jsonl, line 1"), ({"input": "data.csv"}, "data.csv is not named"),
    ({"input": "one.txt"}, "one.txt is too short"), ({"input": "folder.txt"}, "no .txt or .jsonl file in .*folder.txt"), ({"input": "dead.txt"}, "dead.txt is missing"),
    ({"input": "*.nothing"}, "no .txt or .jsonl file"), ({"input": 5}, "input"), ({"input": ["\0"]}, "input"), ({"input": [""]}, "input"), ({"input": "."}, "dead.txt is missing"),
    ({"tokenizer": "gpt3"}, "tokenizer.*gpt3"), ({"tokenizer": "."}, "tokenizer"), ({"tokenizer": 1}, "tokenizer"), ({"tokenizer": ""}, "tokenizer"),
    ({"vocab_size": 0}, "vocab_size"), ({"vocab_size": -1}, "vocab_size"), ({"vocab_size": 10**30}, "vocab_size"), ({"vocab_size": "x"}, "vocab_size"),
    ({"vocab_size": True}, "vocab_size"), ({"vocab_size": float("nan")}, "vocab_size"), ({"vocab_size": None}, "vocab_size"),
    ({"val_fraction": float("nan")}, "val_fraction"), ({"val_fraction": 0.0}, "val_fraction"), ({"val_fraction": -0.1}, "val_fraction"),
    ({"val_fraction": 1.0}, "val_fraction"), ({"val_fraction": float("inf")}, "val_fraction"), ({"val_fraction": "x"}, "val_fraction"),
    ({"separator": ""}, "separator"), ({"separator": "a\nb"}, "separator"), ({"separator": None}, "separator"),
    ({"dataset": "../x"}, "dataset"), ({"dataset": ""}, "dataset"), ({"dataset": ".x"}, "dataset"), ({"dataset": "a\nb"}, "dataset"), ({"dataset": "x" * 300}, "xxx.*name too long|xxx.*Name too long"),
    ({"dataset": 3}, "dataset"), ({"dataset": "downloads"}, "dataset"), ({"input": None, "dataset": "pyton"}, "dataset must be python"),
    ({"data_dir": "fine.txt"}, "data_dir"), ({"data_dir": ""}, "data_dir"), ({"data_dir": "fine.txt/x"}, "data_dir"), ({"overwrite": "yes"}, "overwrite"),
    ({"vocabsize": 5}, "vocab_size"), ({"dataset": "kept", "overwrite": True}, "other files"), ({"dataset": "file", "overwrite": True}, "file"),
])
def test_bad_input_is_one_line_that_names_it(tmp_path, monkeypatch, settings, message):
    monkeypatch.chdir(bad_files(tmp_path / "in"))
    (tmp_path / "out" / "kept").mkdir(parents=True)
    (tmp_path / "out" / "kept" / "thesis.doc").write_text("mine")
    (tmp_path / "out" / "file").write_text("mine")
    with pytest.raises(UserError, match=message) as error:
        prepare.prepare(**{"input": "fine.txt", "data_dir": str(tmp_path / "out")} | settings)
    assert "\n" not in str(error.value).replace("a\\nb", "")
    assert sorted(os.listdir(tmp_path / "out")) == ["file", "kept"] and os.listdir(tmp_path / "out" / "kept") == ["thesis.doc"]


@pytest.mark.parametrize("flags, message", [
    (["--vocabsize=5"], "--vocab_size"), (["--vocab_size=many"], "vocab_size"), (["--val_fraction=nan"], "val_fraction"), (["--overwrite=maybe"], "overwrite"),
    (["my.txt"], "--input"), (["--inp=x"], "--input"), (["--tokenizer"], "tokenizer"), (["--input=gone.txt"], "gone.txt is missing")])
def test_a_wrong_command_line_is_one_line_and_status_2(tmp_path, flags, message):
    result = run(*flags, cwd=tmp_path)
    assert result.returncode == 2 and message in result.stderr and result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1 and not result.stdout and not (tmp_path / "data" / "python").exists()


def test_a_killed_run_leaves_nothing_or_the_old_dataset(tmp_path):
    (tmp_path / "a.txt").write_text(f"{EOT}\n".join(STORY * 40 for _ in range(400)))
    command = ["--input=a.txt", "--vocab_size=300"]
    start = time.monotonic()
    assert run(*command, cwd=tmp_path).returncode == 0
    took = time.monotonic() - start
    good = read_back(tmp_path / "data" / "a")
    for how in [signal.SIGKILL] * 8 + [signal.SIGINT] * 3:
        process = subprocess.Popen([sys.executable, HERE / "prepare.py", *command, "--overwrite"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(took * random.uniform(0.5, 1.05) if how == signal.SIGKILL else took * random.uniform(0.6, 0.8))
        process.send_signal(how)
        message = process.communicate()[1]
        assert read_back(tmp_path / "data" / "a") == good
        if how == signal.SIGINT and process.returncode:
            assert process.returncode == 130 and message == "stopped; what was there before still is\n"
            assert os.listdir(tmp_path / "data") == ["a"]
    assert run(*command, "--overwrite", cwd=tmp_path).returncode == 0
    assert os.listdir(tmp_path / "data") == ["a"] and read_back(tmp_path / "data" / "a") == good


def test_killed_between_the_renames_the_old_dataset_comes_back(tmp_path):
    (tmp_path / "a.txt").write_text(STORY * 50)
    prepare.prepare(input=tmp_path / "a.txt", vocab_size=300, data_dir=tmp_path / "d")
    os.rename(tmp_path / "d" / "a", tmp_path / "d" / ".a.old")
    with pytest.raises(UserError, match="already"):
        prepare.prepare(input=tmp_path / "a.txt", vocab_size=300, data_dir=tmp_path / "d")
    read_back(tmp_path / "d" / "a")


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").write_text(STORY * 20_000)
    script = f"ulimit -f 200; exec {sys.executable} {HERE / 'prepare.py'} --input=a.txt --vocab_size=300"
    result = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2 and "File too large" in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert os.listdir(tmp_path / "data") == []


def test_a_file_that_changes_between_the_readings_is_named(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(STORY * 50)
    seen = {}
    first = list(prepare.read_documents([str(path)], EOT, seen))
    assert first == list(prepare.read_documents([str(path)], EOT, seen))
    with path.open("a") as file:
        file.write("more")
    with pytest.raises(UserError, match="a.txt changed"):
        list(prepare.read_documents([str(path)], EOT, seen))


def test_pasted_into_a_notebook_it_reads_no_command_line(tmp_path):
    (tmp_path / "a.txt").write_text(STORY * 50)
    cell = (HERE / "prepare.py").read_text().replace("\ninput = None", "\ninput = 'a.txt'").replace("vocab_size = 4096", "vocab_size = 300", 1)
    (tmp_path / "cell.py").write_text(cell)
    kernel = "import sys; sys.argv += ['-f', 'kernel.json']; c = compile(open('cell.py').read(), '<cell>', 'exec'); exec(c, {'__name__': '__main__'}); exec(c, {'__name__': '__main__'}); print('next cell')"
    result = subprocess.run([sys.executable, "-c", kernel], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0 and "next cell" in result.stdout and result.stderr.count("\n") == 1 and "already" in result.stderr, result.stderr
    read_back(tmp_path / "data" / "a")


# --- downloads

class Server(http.server.BaseHTTPRequestHandler):
    body, breaks, ranges, log = b"", 0, True, []

    def do_GET(self):
        first = int(re.match(r"bytes=(\d+)-", self.headers["Range"])[1])
        self.log.append(first)
        if self.ranges and first >= len(self.body):
            return self.send_error(416)
        first = first if self.ranges else 0
        self.send_response(206 if self.ranges else 200)
        self.send_header("Content-Length", str(len(self.body) - first))
        self.end_headers()
        part = self.body[first:]
        if Server.breaks:
            Server.breaks -= 1
            self.wfile.write(part[:len(part) // 2])
            self.wfile.flush()
            self.connection.close()
        else:
            self.wfile.write(part)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    Server.body, Server.breaks, Server.ranges, Server.log = random.Random(1).randbytes(5_000_000), 0, True, []
    yield f"http://127.0.0.1:{http_server.server_port}/file.txt"
    http_server.shutdown()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_where_it_stopped(tmp_path, server, ranges):
    Server.breaks, Server.ranges = 2, ranges
    path = tmp_path / "x" / "file.txt"
    assert prepare.download(server, str(path)) == str(path) and path.read_bytes() == Server.body
    assert Server.log[0] == 0 and Server.log[1] == 2_500_000 and len(Server.log) == 3
    assert os.listdir(tmp_path / "x") == ["file.txt"]
    prepare.download(server, str(path))
    assert len(Server.log) == 3  # nothing is fetched twice


def test_a_part_of_another_file_is_thrown_away(tmp_path, server):
    (tmp_path / "file.txt.part").write_bytes(b"x" * 6_000_000)
    prepare.download(server, str(tmp_path / "file.txt"))
    assert (tmp_path / "file.txt").read_bytes() == Server.body


def test_without_a_network_one_line_names_what_needs_none(tmp_path, server, monkeypatch):
    Server.body = b"text " * 1000 + b"\n"
    monkeypatch.setitem(prepare.DOWNLOADS, "shakespeare", [server.replace("127.0.0.1", "host.invalid")])
    with pytest.raises(UserError, match="host.invalid.*python prepare.py"):
        prepare.prepare(dataset="shakespeare", data_dir=tmp_path)
    monkeypatch.setitem(prepare.DOWNLOADS, "shakespeare", [server, server.replace("file", "valid")])
    made = prepare.prepare(dataset="shakespeare", tokenizer="char", data_dir=tmp_path)
    back = read_back(Path(made["folder"]))
    assert back["train"] == back["val"] == [Server.body.decode()]  # the data set's own validation file
    prepare.prepare(dataset="shakespeare", vocab_size=270, data_dir=tmp_path, overwrite=True)
    assert len(Server.log) == 2
