"""Tables as projects and programs write them: each is one kind, and gives the same points as the plain table.

A table writes the six sizes of four budgets (`table_cases.isoflop_rows`) its own way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas
import pytest
from table_cases import Rows, delimited, isoflop_rows, loss_of

from scaling.analysis.foreign_row import ForeignRow
from scaling.analysis.table.reading import TableOptions
from scaling.analysis.table.sheets import sheet_table
from scaling.analysis.table_reader import LoadedTable, load_table, rows_of_raw
from scaling.errors import DataError
from scaling.laws.fitting import fit
from scaling.laws.points import Points

ROWS = [(int(r["params"]), int(r["tokens"]), float(r["loss"])) for r in isoflop_rows()]  # type: ignore[call-overload]


def text(header: str, cells: Callable[[int, int, float], Iterable[object]], separator: str = ",") -> str:
    """A table with one line for every row, its cells made of N, D and the loss."""
    lines = [separator.join(map(str, cells(n, d, loss))) for n, d, loss in ROWS]
    return "\n".join([header, *lines]) + "\n"


def json_of(entry: Callable[[int, int, float], object]) -> str:
    return json.dumps([entry(*row) for row in ROWS])


def german(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}".replace(",", " ").replace(".", ",").replace(" ", ".")


def quoted(cell: object) -> str:
    return '"' + str(cell).replace('"', '""') + '"'


def millions(n: int) -> str:
    return f"{n / 1e6:.6f}"


def billions(d: int) -> str:
    return f"{d / 1e9:.9f}"


FILES: dict[str, tuple[str, str]] = {
    # trackers
    "olmo": ("t.csv", text(
        "Name,State,model.num_params,optim/total_tokens_consumed,eval/c4_en-validation/CrossEntropyLoss,"
        "eval/c4_en-validation/Perplexity,throughput/device/tokens_per_second",
        lambda n, d, x: (f"olmo-{n}", "finished", n, d, x, math.exp(x), 1000))),
    "hugging face": ("t.csv", text("num_parameters,num_input_tokens_seen,total_flos,eval_loss,epoch",
        lambda n, d, x: (n, d, 6 * n * d, x, 1.0))),
    "gemstones": ("t.csv", text("width,depth,params_active_precise,tokens,FLOPs_6N,val_loss",
        lambda n, d, x: (256, 3, n, d, 6 * n * d, x))),
    "megatron": ("t.csv", text("number-of-parameters-in-billions,consumed-tokens,lm-loss-validation",
        lambda n, d, x: (n / 1e9, d, x))),
    "epoch": ("t.csv", text("Model,Parameters,Training compute (FLOP),Training dataset size (tokens),Validation loss",
        lambda n, d, x: ("m", n, 6 * n * d, d, x))),
    "marin": ("t.jsonl", "\n".join(json.dumps(
        {"run_name": f"isoflop-{k}", "config": {"params": n, "train_tokens": d}, "summary": {
            "eval/paloma/c4_en/bpb": x / math.log(2) / 4, "eval/paloma/c4_en/loss": x}})
        for k, (n, d, x) in enumerate(ROWS))),
    "project.csv of W&B": ("t.csv", text("summary,config,name", lambda n, d, x: (
        quoted({"_step": 9, "eval/loss": x, "note": float("nan")}), quoted({"n_params": n, "tokens": d}), "run"))),
    "steps, batch and sequence length": ("t.csv", text("n_params,train_steps,global_batch_size,seq_len,val_loss",
        lambda n, d, x: (n, d / (512 * 2048), 512, 2048, x))),
    "passes over unique tokens": ("t.csv", text("params,unique_tokens,epochs,loss",
        lambda n, d, x: (n, d / 4, 4, x))),
    "sizes in the names of models": ("t.csv", text("model,tokens,loss",
        lambda n, d, x: (f"pythia-{millions(n)}m-deduped", d, x))),
    # units
    "tokens in Gtok": ("t.csv", text("Params (M),Gtok,loss", lambda n, d, x: (millions(n), billions(d), x))),
    "units in brackets": ("t.csv", text("N [1e6],D [1e9],C [FLOP],L [nats/token]",
        lambda n, d, x: (millions(n), billions(d), 6 * n * d, x))),
    "a line of units": ("t.csv", text("params,tokens,loss\n(M),(B),(nats)",
        lambda n, d, x: (millions(n), billions(d), x))),
    "logarithms": ("t.csv", text("log10_params,ln_tokens,loss", lambda n, d, x: (math.log10(n), math.log(d), x))),
    "log perplexity": ("t.csv", text("params,tokens,log_ppl", lambda n, d, x: (n, d, x))),
    "sizes called size and data": ("t.csv", text("size,data,loss",
        lambda n, d, x: (f"{n:.8e} params", f"{d:.10e} tokens", f"{x} nats"))),
    # cells
    "LaTeX": ("t.csv", text("N;D;loss", lambda n, d, x: (
        f"{n:,}".replace(",", "{,}"), f"${d / 1e9:.9f} \\times 10^{{9}}$", f"{x:.6f} $\\pm$ 0.003"), ";")),
    "thin spaces of LaTeX": ("t.csv", text("N;D;loss", lambda n, d, x: (
        f"{n:,}".replace(",", "\\,"), f"{d:,}".replace(",", "~"), x), ";")),
    "powers": ("t.csv", text("params,tokens,loss", lambda n, d, x: (f"{n / 1e8:.8f}×10⁸", f"{d / 1e9:.9f}x10^9", x))),
    "spread in the cell": ("t.csv", text("params,tokens,loss", lambda n, d, x: (n, d, f"{x:.7f} ± 0.003"))),
    "spread in brackets": ("t.csv", text("params,tokens,loss", lambda n, d, x: (n, d, f"{x:.7f}(3)"))),
    "remarks": ("t.csv", text("Parameters,Training tokens,Loss", lambda n, d, x: (
        f"{millions(n)}M (non-embedding)", f"~{billions(d)}B", x))),
    "Swiss": ("t.csv", text("params,tokens,loss", lambda n, d, x: (f"{n:,}".replace(",", "'"), d, x))),
    # languages
    "German": ("t.csv", text("Parameter (Mio.);Tokens (Mrd.);Verlust", lambda n, d, x: (
        german(n / 1e6, 6), german(d / 1e9, 9), german(x, 7)), ";")),
    "suffixes after a blank": ("t.csv", text("Modellgröße;Tokens;Verlust", lambda n, d, x: (
        f"{german(n / 1e6, 6)} Mio.", f"{german(d / 1e9, 9)} Mrd.", german(x, 7)), ";")),
    "French": ("t.csv", text("Paramètres (M),Jetons (Md),Perte", lambda n, d, x: (millions(n), billions(d), x))),
    "Chinese": ("t.csv", text("参数量,训练tokens,验证损失", lambda n, d, x: (n, d, x))),
    # layouts
    "levels of a column index": ("t.csv", text(",model,model,eval\n,params,tokens,loss",
        lambda n, d, x: (0, n, d, x))),
    "merged cells above": ("t.csv", text("model,,eval\nparams,tokens,loss", lambda n, d, x: (n, d, x))),
    "Markdown": ("t.md", "# Results\n\nAll runs.\n\n" + text("| Params | Tokens | Loss |\n|---|---:|---:|",
        lambda n, d, x: (f"| {millions(n)}M", f"{billions(d)}B", f"{x} |"), "|") + "\nThat is all.\n"),
    "blanks": ("t.txt", text("params   tokens  loss", lambda n, d, x: (n, d, x), "   ")),
    "NumPy": ("t.dat", text("# params tokens loss", lambda n, d, x: (n, d, x), " ")),
    "comments between rows": ("t.csv", text("params,tokens,loss", lambda n, d, x: (
        n, d, f"{x}\n# next" if n == ROWS[3][0] else x))),
    "titles": ("t.csv", text("Results of our study\nall of them,,\nparams,tokens,loss", lambda n, d, x: (n, d, x))),
    "a model card": ("t.md", "---\nlicense: mit\n---\n# Model\n\n" + text("|Model|#Params|Tokens|Loss ↓|\n|-|-|-|-|",
        lambda n, d, x: (f"|[m](https://hf.co/m{n})", f"{millions(n)}M", f"{billions(d)}B", f"**{x}**|"), "|")),
    "entities": ("t.csv", text("params,tokens,loss", lambda n, d, x: (f"{millions(n)}&nbsp;M", d, x))),
    "single quotes": ("t.csv", text("'params','tokens','loss'", lambda n, d, x: (f"'{n}'", f"'{d}'", f"'{x}'"))),
    "only PF-days": ("t.csv", text("N,PF-days,loss", lambda n, d, x: (n, 6 * n * d / 8.64e19, x))),
    "empty columns": ("t.csv", text("params,,tokens,loss,,", lambda n, d, x: (n, "", d, x, "", ""))),
    "rows are quantities": ("t.csv", "\n".join([
        ",".join(["quantity", *(f"run{k}" for k in range(len(ROWS)))]),
        *(",".join([name, *(str(row[k]) for row in ROWS)])
          for k, name in enumerate(("params", "tokens", "val_loss")))])),
    "a name twice": ("t.csv", text("params,tokens,loss,lr,lr", lambda n, d, x: (n, d, x, 0.1, 0.2))),
    # JSON
    "nested with metadata": ("t.json", json.dumps({"meta": {"date": "2025"}, "version": 2, "results": [
        {"model": {"n_params": n}, "data": {"n_tokens": d}, "metrics": {"val": {"loss": x}}} for n, d, x in ROWS]})),
    "runs in groups": ("t.json", json.dumps({f"group {k}": [
        {"params": n, "tokens": d, "loss": x} for n, d, x in ROWS[k::2]] for k in (0, 1)})),
    "columns beside other things": ("t.json", json.dumps({
        "title": "x", "N": [n for n, _, _ in ROWS], "D": [d for _, d, _ in ROWS], "L": [x for _, _, x in ROWS]})),
    "a configuration of W&B": ("t.jsonl", "\n".join(json.dumps({
        "config": {"params": {"desc": None, "value": n}, "tokens": {"value": d}}, "val_loss": x}) for n, d, x in ROWS)),
    "camelCase": ("t.json", json_of(lambda n, d, x: {"modelSize": n, "trainTokens": d, "valLoss": x})),
}  # fmt: skip


def read(folder: Path, name: str, content: str, **options: object) -> LoadedTable:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return load_table(path, TableOptions(**options))  # type: ignore[arg-type]


def points(table: LoadedTable) -> list[tuple[float, float, float]]:
    rows = [row for row in table.rows if isinstance(row, ForeignRow)]
    return sorted((row.params, row.tokens, row.final_loss) for row in rows)


@pytest.mark.parametrize("kind", FILES)
def test_every_kind_of_table_gives_the_same_points(tmp_path: Path, kind: str) -> None:
    table = read(tmp_path, *FILES[kind])
    assert len(table.rows) == len(ROWS)
    assert not table.report.dropped
    for got, wanted in zip(points(table), sorted(ROWS), strict=True):
        assert got == pytest.approx(wanted, rel=1e-5)


def test_a_logarithm_of_unknown_base_is_asked_about(tmp_path: Path) -> None:
    content = text("params,log_flops,loss", lambda n, d, x: (n, math.log10(6 * n * d), x))
    with pytest.raises(DataError, match="log_flops is a logarithm") as asked:
        read(tmp_path, "t.csv", content)
    assert "--unit log_flops=log10" in str(asked.value.hint)
    table = read(tmp_path, "t.csv", content, units={"log_flops": "log10"})
    assert points(table)[0] == pytest.approx(sorted(ROWS)[0], rel=1e-6)


def test_a_row_whose_tokens_cannot_be_computed_is_left_out(tmp_path: Path) -> None:
    content = text("params,train_steps,batch_size,seq_len,loss", lambda n, d, x: (n, d / 2**20, 512, 2048, x))
    table = read(tmp_path, "t.csv", content.replace(",2048,", ",unknown,", 1))
    assert len(table.rows) == len(ROWS) - 1
    assert [row.reason for row in table.report.dropped] == ["D cannot be computed"]


def test_a_folder_for_each_run_is_a_table(tmp_path: Path) -> None:
    for k, (n, d, _) in enumerate(ROWS):
        folder = tmp_path / "runs" / f"run{k}"
        folder.mkdir(parents=True)
        lines = [{"params": n, "tokens": d * q / 4, "val_loss": loss_of(n, d * q / 4)} for q in (1, 2, 3, 4)]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    table = load_table(tmp_path / "runs", TableOptions(last_per="run"))
    assert points(table) == sorted(ROWS)


def test_a_document_for_each_run_is_a_table(tmp_path: Path) -> None:
    for k, (n, d, x) in enumerate(ROWS):
        document = {"config": {"n_params": n, "tokens": d}, "final": {"val_loss": x}}
        (tmp_path / f"r{k}.json").write_text(json.dumps(document))
    assert points(load_table(tmp_path)) == sorted(ROWS)


def test_a_history_in_every_run_is_its_checkpoints(tmp_path: Path) -> None:
    content = json_of(lambda n, d, x: {"name": f"m{n} {d}", "params": n, "step": 1, "history": [
        {"tokens": d * q / 4, "loss": loss_of(n, d * q / 4)} for q in (1, 2, 3, 4)]})  # fmt: skip
    table = read(tmp_path, "t.json", content)
    assert len(table.rows) == 4 * len(ROWS)
    assert {row.trunk for row in table.rows} == {f"m{n} {d}" for n, d, _ in ROWS}


def test_sizes_that_a_name_holds_twice_are_not_guessed(tmp_path: Path) -> None:
    content = text("model,tokens,loss", lambda n, d, x: (f"m-{n // 10**6}M-300B", d, x))
    with pytest.raises(DataError, match="no column params"):
        read(tmp_path, "t.csv", content)


def test_numbers_where_names_belong_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="numbers where the names of the columns belong"):
        read(tmp_path, "t.json", json.dumps([[n, d, x] for n, d, x in ROWS]))


@pytest.mark.parametrize("expression", ["not outlier", "outlier == 0", "outlier == False", "outlier != 'True'"])
def test_rows_that_a_flag_marks_are_used_and_said(tmp_path: Path, expression: str) -> None:
    content = text("params,tokens,loss,outlier", lambda n, d, x: (n, d, x, n == ROWS[0][0]))
    table = read(tmp_path, "t.csv", content)
    assert len(table.rows) == len(ROWS)
    assert any('outlier marks 1 of 24 rows, which are used: --where "not outlier"' in s for s in table.report.notes)
    assert len(read(tmp_path, "t.csv", content, where=expression).rows) == len(ROWS) - 1


def test_a_second_column_of_one_name_is_another(tmp_path: Path) -> None:
    content = text("params,tokens,loss,loss", lambda n, d, x: (n, d, x, x + 1))
    with pytest.raises(DataError, match="several columns could be the loss") as asked:
        read(tmp_path, "t.csv", content)
    assert asked.value.got == "loss, loss.1"
    assert points(read(tmp_path, "t.csv", content, loss="loss"))[0] == pytest.approx(sorted(ROWS)[0])


@pytest.mark.parametrize(
    "above",
    [
        [["params", "tokens", "loss"]],
        [["Our study", None, None], [None, None, None], ["params", "tokens", "loss"]],
        [["params", "tokens", "loss"], ["(1e0)", "(1e0)", "(nats)"]],
        [["model", None, "eval"], ["params", "tokens", "loss"], [None, None, None]],
    ],
)
def test_a_sheet_of_a_spreadsheet_is_a_table(above: list[list[object]]) -> None:
    table = rows_of_raw(sheet_table([*above, *([n, d, x] for n, d, x in ROWS)], "t.xlsx"))
    assert points(table) == sorted(ROWS)
    assert table.report.dropped == ()


def test_order_and_optional_columns_change_no_law(tmp_path: Path) -> None:
    """Any order of rows, and columns that say nothing new, give the same law."""
    wanted = fit(Points(*map(np.array, zip(*ROWS, strict=True)))).parameters  # type: ignore[arg-type]
    optional = {
        "seed": 0,
        "lr": 0.01,
        "corpus": "c4",
        "state": "finished",
        "note": "a, b",
        "dropout": "0%",
        "loss_std": 0.1,
    }
    random = np.random.default_rng(0)
    for _ in range(4):
        more = [name for name in optional if random.random() < 0.5]
        rows = [ROWS[k] for k in random.permutation(len(ROWS))]
        frame = pandas.DataFrame(rows, columns=["params", "tokens", "loss"]).assign(**{k: optional[k] for k in more})
        frame = frame[list(random.permutation(frame.columns))]
        frame.to_csv(tmp_path / "t.csv", index=False, sep=str(random.choice([",", ";", "\t", "|"])))
        read_points = points(load_table(tmp_path / "t.csv"))
        law = fit(Points(*map(np.array, zip(*read_points, strict=True))))  # type: ignore[arg-type]
        assert law.parameters == pytest.approx(wanted, rel=1e-6)


def test_the_index_of_a_parquet_file_is_a_column(tmp_path: Path) -> None:
    rows: Rows = isoflop_rows()
    frame = pandas.DataFrame(rows)
    frame["corpus"] = pandas.Categorical(["c4"] * len(rows))
    frame.set_index("budget").to_parquet(tmp_path / "t.parquet")
    table = load_table(tmp_path / "t.parquet")
    assert table.report.mapping["budget"] == "budget"
    assert points(table) == [pytest.approx(row) for row in sorted(ROWS)]


def test_a_plain_table_is_what_it_was(tmp_path: Path) -> None:
    table = read(tmp_path, "t.csv", delimited(isoflop_rows()))
    assert points(table) == [pytest.approx(row) for row in sorted(ROWS)]
    assert table.report.notes == ()
