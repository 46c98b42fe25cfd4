from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.errors import SpecError
from scaling.spec import Block, Count, Duration, ListOf, Number, OneOrMore, Whole, read_spec, read_yaml, refuse


class Inner(Block):
    rate: Number
    wait: Duration | None = None


class Page(Block):
    name: str
    sizes: OneOrMore[Count] = (1,)
    inner: Inner | None = None
    rows: ListOf[Inner] = ()
    flag: bool = False
    total: Whole = 0


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "page.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_page_reads_as_values(tmp_path: Path) -> None:
    text = "name: x\nsizes: [128k, 1e3]\ninner: {rate: 1e-3, wait: 90m}\nrows:\n  - rate: 3\nflag: true\ntotal: 1_000\n"
    page = read_spec(write(tmp_path, text), Page)
    assert page.sizes == (128_000, 1000)
    assert page.inner is not None
    assert (page.inner.rate, page.inner.wait) == (1e-3, 5400.0)
    assert [row.rate for row in page.rows] == [3.0]
    assert page.flag
    assert page.total == 1000


def test_scalars_are_those_of_yaml_1_2_and_numbers_as_people_write_them(tmp_path: Path) -> None:
    text = "a: 1e18\nb: no\nc: 12:30:00\nd: ~\ne: '7'\nf: 0o17\ng: 1e999\nh: true\ni: 2026-11-21\n"
    values = read_yaml(write(tmp_path, text)).value
    assert values == {
        "a": 1e18,
        "b": "no",
        "c": "12:30:00",
        "d": None,
        "e": "7",
        "f": "0o17",
        "g": "1e999",
        "h": True,
        "i": "2026-11-21",
    }


BAD = [
    ("name: x\nname: y\n", "page.yaml:2", "written twice"),
    ("name: x\nsize: 3\n", "page.yaml:2: size", "did you mean 'sizes'?"),
    ("name: x\ninner: {rate: 1, weight: 2}\n", "page.yaml:2: inner.weight", "unknown key"),
    ("sizes: 3\n", "page.yaml:1", "'name' is missing"),
    ("name: x\nsizes: [1, -3]\n", "page.yaml:2: sizes[1]", "at least 1"),
    ("name: x\nsizes: []\n", "page.yaml:2: sizes", "at least one"),
    ("name: x\nsizes: 1.5\n", "page.yaml:2: sizes", "not a whole number"),
    ("name: x\ninner:\n  rate: fast\n", "page.yaml:3: inner.rate", "not a number"),
    ("name: x\ninner:\n  rate: 1\n  wait: 90\n", "page.yaml:4: inner.wait", "not a duration"),
    ("name: x\ninner: 3\n", "page.yaml:2: inner", "wrong kind"),
    ("name: x\nflag: yes\n", "page.yaml:2: flag", "boolean"),
    ("name: 3\n", "page.yaml:1: name", "string"),
    ("name: x\nrows: {rate: 1}\n", "page.yaml:2: rows", "wrong kind"),
    ("a: [1\n", "page.yaml:", "not YAML"),
    ("", "page.yaml:1", "an empty file"),
    ("- 1\n", "page.yaml:1", "list"),
    ("name: &x 1\nsizes: *x\n", "page.yaml:1", "aliases"),
    ("name: !!python/object/apply:os.system [ls]\n", "page.yaml:1", "tags"),
    ("name: x\n---\nname: y\n", "page.yaml:2", "second document"),
    ("[1]: 2\n", "page.yaml:1", "not a word"),
    ("name: \x01\n", "page.yaml:1", "not YAML"),
    (b"name: x\nq: \xff\n", "page.yaml:2", "UTF-8"),
    ("name: " + "[" * 400 + "]" * 400 + "\n", "page.yaml:1", "nested"),
]


@pytest.mark.parametrize(("text", "where", "says"), BAD)
def test_every_mistake_names_its_file_line_and_key(tmp_path: Path, text: str | bytes, where: str, says: str) -> None:
    with pytest.raises(SpecError) as error:
        read_spec(write(tmp_path, text), Page)
    message = str(error.value)
    assert where in message
    assert says in message


def test_the_first_mistake_of_the_file_is_the_one_shown(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"page.yaml:2: flag"):
        read_spec(write(tmp_path, "name: x\nflag: 3\nsizes: x\ninner: {rate: x}\n"), Page)


def test_missing_files_and_folders_are_said_plainly(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(SpecError, match="cannot be read"):
            read_yaml(path)


def test_a_validator_refuses_at_a_key(tmp_path: Path) -> None:
    class Strict(Block):
        low: Number
        high: Number

        def model_post_init(self, context: object) -> None:
            if self.low > self.high:
                refuse("low is above high", at="low", allowed="low <= high")

    with pytest.raises(SpecError) as error:
        read_spec(write(tmp_path, "high: 1\nlow: 2\n"), Strict)
    assert "page.yaml:2: low" in str(error.value)
    assert "allowed: low <= high" in str(error.value)


def test_bombs_and_huge_files_are_refused(tmp_path: Path) -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n" for n in range(99))
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(100_000_000)
    for path in (write(tmp_path, bomb), huge, write(tmp_path, "a: " + "{a: " * 200_000)):
        with pytest.raises(SpecError):
            read_yaml(path)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_end_in_a_page_or_one_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(raw)
    message = str(path)
    try:
        read_spec(path, Page)
    except SpecError as error:
        message = str(error)
    assert message.startswith(str(path))
