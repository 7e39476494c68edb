"""What is found in files, folders, patterns and tables."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mobilesam.folders.inputs import Inputs, collect, is_several
from mobilesam.folders.tables import ObjectPrompt, read_table

BOX = ObjectPrompt(box=(1, 2, 3, 4))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of (empty) pictures and other things, which is the current one."""
    for name in (
        *("b.JPG", "a.png", "ä b.webp", "notes.txt", "README", ".hidden.jpg", "._a.png"),
        *("sub/a.png", "sub/deep/c.tif", "sub/data.json", ".cache/d.png", "out/e.png"),
    ):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def found(*texts: str, recursive: bool = False, skip: Path | None = None) -> Inputs:
    return collect(texts, needs_prompts=True, prompt=BOX, recursive=recursive, skip=skip)


def names(inputs: Inputs) -> list[str]:
    return [picture.path.as_posix() for picture in inputs.pictures]


@pytest.mark.usefixtures("folder")
def test_a_folder_gives_its_pictures_in_order_and_counts_the_rest() -> None:
    inputs = found("photos")
    assert names(inputs) == ["photos/a.png", "photos/b.JPG", "photos/ä b.webp"]
    assert inputs.ignored == 2
    assert {picture.root for picture in inputs.pictures} == {Path("photos")}
    assert all(picture.prompts == (BOX,) for picture in inputs.pictures)


@pytest.mark.usefixtures("folder")
def test_folders_within_are_searched_when_asked_but_not_the_one_of_results() -> None:
    assert names(found("photos", recursive=True, skip=Path("photos/out"))) == [
        *("photos/a.png", "photos/b.JPG", "photos/ä b.webp"),
        *("photos/sub/a.png", "photos/sub/deep/c.tif"),
    ]
    assert "photos/out/e.png" in names(found("photos", recursive=True))


def test_what_an_earlier_run_has_written_is_no_picture(folder: Path) -> None:
    state = folder / "out" / ".mobilesam"
    state.mkdir()
    for name in ("deeper/f.png", "g.cutouts/1.png", "own.png"):
        path = folder / "out" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    inputs = found("photos", recursive=True)
    assert "photos/out/e.png" in names(inputs)  # a run was refused there
    results = ("e.png", "deeper/f.png", "g.cutouts")
    entries = {name: {"result": name} for name in results}
    (state / "run.json").write_text(json.dumps({"pictures": entries}))
    for text in ("photos", "photos/**", "photos/**/*.png", "photos/*"):
        here = names(found(text, recursive=True))
        assert [name for name in here if "out/" in name] == ["photos/out/own.png"], text
        assert "photos/sub/a.png" in here
    named = names(found("photos/out", recursive=True))
    assert named[0] == "photos/out/e.png"  # that folder itself is meant
    assert len(named) == 4
    assert names(found("photos/out/e*.png")) == ["photos/out/e.png"]
    (state / "run.json").write_text("[1]")
    assert "photos/out/e.png" in names(found("photos", recursive=True))


def test_a_folder_whose_name_looks_like_a_pattern_is_that_folder(folder: Path) -> None:
    folder.rename(folder.with_name("photos [2020]"))
    inputs = found("photos [2020]/*.png")
    assert names(inputs) == ["photos [2020]/a.png"]
    assert {picture.root for picture in inputs.pictures} == {Path("photos [2020]")}
    assert names(found("photos [2020]/s*/*.png")) == ["photos [2020]/sub/a.png"]


@pytest.mark.usefixtures("folder")
def test_patterns_are_understood_quoted_too() -> None:
    inputs = found("photos/*.[pJ]*")
    assert names(inputs) == ["photos/a.png", "photos/b.JPG"]
    assert {picture.root for picture in inputs.pictures} == {Path("photos")}
    assert names(found("photos/**/a.*")) == ["photos/a.png", "photos/sub/a.png"]
    inputs = found("photos/*", skip=Path("photos/out"))
    assert names(inputs) == [
        *("photos/a.png", "photos/b.JPG", "photos/sub/a.png", "photos/ä b.webp"),
    ]
    assert inputs.ignored == 3
    assert names(found("photos/*.png", skip=Path("photos"))) == ["photos/a.png"]


def test_a_pattern_that_leads_out_of_its_folder_names_no_result_elsewhere(folder: Path) -> None:
    other = folder.parent / "other"
    other.mkdir()
    (other / "c.png").touch()
    (picture,) = found("photos/*/../../other/*.png").pictures
    assert picture.root.resolve() == other


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path) -> None:
    (folder / "dog[1].png").touch()
    assert not is_several("photos/dog[1].png")
    assert names(found("photos/dog[1].png")) == ["photos/dog[1].png"]


@pytest.mark.usefixtures("folder")
def test_a_file_named_itself_is_taken_whatever_it_is_called() -> None:
    inputs = found("photos/notes.txt", "photos/.hidden.jpg")
    assert names(inputs) == ["photos/notes.txt", "photos/.hidden.jpg"]
    assert inputs.ignored == 0


def test_a_picture_named_twice_is_taken_once(folder: Path) -> None:
    inputs = found("photos/a.png", str(folder / "a.png"), "photos")
    assert names(inputs) == ["photos/a.png", "photos/b.JPG", "photos/ä b.webp"]
    assert inputs.pictures[0].prompts == (BOX,)


def test_links_to_folders_are_not_followed(folder: Path) -> None:
    os.symlink(folder, folder / "sub" / "round")
    assert len(found("photos", recursive=True).pictures) == 6


def test_the_home_folder_may_be_abbreviated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert names(found("~/a.png")) == [str(folder / "a.png")]
    assert is_several("~")


@pytest.mark.usefixtures("folder")
def test_what_is_not_there_is_told() -> None:
    with pytest.raises(FileNotFoundError, match=r"no file or folder photos/absent\.jpg"):
        found("photos/a.png", "photos/absent.jpg")
    with pytest.raises(ValueError, match=r"no picture in photos/\*\.bmp"):
        found("photos/*.bmp")
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=r"no picture in empty; .*--recursive"):
        found("empty")
    with pytest.raises(ValueError, match=r"no picture in empty; name another place\.$"):
        found("empty", recursive=True)


@pytest.mark.usefixtures("folder")
def test_prompts_are_demanded_where_they_are_needed_and_refused_where_not() -> None:
    with pytest.raises(ValueError, match=r"photos: no prompt was given; give a --point"):
        collect(["photos"], needs_prompts=True, prompt=ObjectPrompt())
    assert collect(["photos"], needs_prompts=False).pictures[0].prompts == ()
    Path("t.csv").write_text("path,x,y\nphotos/a.png,,\n")
    assert collect(["t.csv"], needs_prompts=False).pictures[0].prompts == ()
    with pytest.raises(ValueError, match=r"t\.csv, line 2: no prompt was given"):
        collect(["t.csv"], needs_prompts=True)
    Path("t.csv").write_text("path,x,y\nphotos/a.png,1,2\n")
    with pytest.raises(ValueError, match=r"t\.csv, line 2: everything mode takes no prompts"):
        collect(["t.csv"], needs_prompts=False)


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "prompts.csv"
    path.write_bytes(text.encode(encoding))
    return path


def rows(folder: Path, text: str, encoding: str = "utf-8") -> list[tuple[str, ObjectPrompt]]:
    read = read_table(table(folder, text, encoding))
    return [(photo.relative_to(folder).as_posix(), prompt) for photo, prompt in read]


TWO_POINTS = ObjectPrompt(points=((120, 80), (140.5, 95)), labels=(1, 0))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('path,points,labels\na.png,"120,80 140.5,95","1 0"\n', TWO_POINTS),
        ("path,points,labels\na.png,120 80 140.5 95,1 0\n", TWO_POINTS),
        ("path;points;labels\na.png;[[120, 80], [140.5, 95]];[1, 0]\n", TWO_POINTS),
        ("path\tpoints\tlabels\na.png\t120,80 140.5,95\t1,0\n", TWO_POINTS),
        ("PATH, Points\na.png, 3 4\n", ObjectPrompt(points=((3, 4),), labels=(1,))),
        ("path,x,y\na.png,3,4\n", ObjectPrompt(points=((3, 4),), labels=(1,))),
        ("path,x,y,label\na.png,3,4,0\n", ObjectPrompt(points=((3, 4),), labels=(0,))),
        ('path,box\na.png,"1,2,3,4"\n', BOX),
        ("x0,y0,x1,y1,path\n1,2,3,4,a.png\n", BOX),
        ("\n,,,,\npath,x0,y0,x1,y1\n\na.png,1,2,3,4\n,,,,\n", BOX),
        (
            "path,x0,y0,x1,y1,x,y,name\na.png,1,2,3,4,5,6,Käfer\n",
            ObjectPrompt(points=((5, 6),), labels=(1,), box=(1, 2, 3, 4), name="Käfer"),
        ),
        (  # a European spreadsheet's
            "path;x;y\na.png;220,5;150\n",
            ObjectPrompt(points=((220.5, 150),), labels=(1,)),
        ),
        (
            "path;x0;y0;x1;y1\na.png;1,5;2;3;4,25\n",
            ObjectPrompt(box=(1.5, 2, 3, 4.25)),
        ),
        (  # what other programs may take for the end of a line
            "path,x,y,name\na.png,3,4,a\x0bb\x85c\u2028d\n",
            ObjectPrompt(points=((3, 4),), labels=(1,), name="a\x0bb\x85c\u2028d"),
        ),
    ],
)
def test_a_row_is_an_object_in_any_of_the_spellings(
    tmp_path: Path, text: str, expected: ObjectPrompt
) -> None:
    for ending in ("\n", "\r\n"):
        assert rows(tmp_path, text.replace("\n", ending), "utf-8-sig") == [("a.png", expected)]


def test_rows_of_one_path_are_objects_of_one_picture(folder: Path) -> None:
    text = "path,x,y,name\nphotos/a.png,1,2,cat\nphotos/b.JPG,3,4,\nphotos/a.png,5,6,dog\n"
    path = table(folder.parent, text)
    first, second = found(str(path)).pictures
    assert first.path.name == "a.png"
    assert [prompt.name for prompt in first.prompts] == ["cat", "dog"]
    assert [prompt.origin[-6:] for prompt in first.prompts] == ["line 2", "line 4"]
    assert [prompt.points for prompt in second.prompts] == [((3, 4),)]
    assert first.root == folder.parent


def test_blank_lines_before_a_tables_head_are_skipped(folder: Path) -> None:
    path = table(folder, "\n  \npath;x;y\na.png;3;4\n")
    (picture,) = found(str(path)).pictures
    assert picture.prompts[0].points == ((3, 4),)


def test_paths_are_seen_from_the_table_and_rows_without_prompt_get_that_of_the_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(folder / "sub", f"path,name\na.png,\n../a.png,cat\n{folder / 'b.JPG'},\n")
    monkeypatch.chdir("/")
    pictures = found(str(path)).pictures
    assert [picture.path.resolve() for picture in pictures] == [
        folder / "sub" / "a.png",
        folder / "a.png",
        folder / "b.JPG",
    ]
    assert all(picture.prompts[0].box == BOX.box for picture in pictures)
    assert pictures[1].prompts[0].name == "cat"
    assert pictures[0].root == folder / "sub"
    assert pictures[2].root == folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", r"prompts\.csv is empty"),
        ("file,x,y\n", r"line 1: there is no column 'file'; expected path and any of points"),
        ("x,y\n1,2\n", r"line 1: the column path is missing"),
        ("path,x,x\n", r"line 1: a column is named twice"),
        ("path,x,y\na.png,1,2\na.png,1\n", r"line 3: expected 3 cells, got 2"),
        (
            "path,points\na.png,1,2\n",
            r"line 2: expected 2 cells, got 3; put cells .* double quotes",
        ),
        ("path,x,y\n,1,2\n", r"line 2: the path is missing"),
        ("path,x,y\na.png,1,\n", r"line 2: x and y belong together"),
        ("path,x,y\na.png,one,2\n", r"line 2: x must be finite numbers; got 'one'"),
        ("path,x,y\na.png,nan,2\n", r"line 2: x must be finite numbers"),
        ("path,points\na.png,1 2 3\n", r"line 2: points must be pairs x,y; got 3 numbers"),
        ("path,points,x,y\na.png,1 2,3,4\n", r"line 2: got both points and x, y"),
        (
            "path,points,labels\na.png,1 2 3 4,1\n",
            r"labels must be a 1 .* each of 2 points; got '1'",
        ),
        ("path,x,y,label\na.png,1,2,7\n", r"line 2: label must be a 1 .* got '7'"),
        ("path,label\na.png,1\n", r"line 2: label must be .* each of 0 points"),
        ("path,labels,label,x,y\na.png,1,0,2,3\n", r"line 2: got both labels and label"),
        ("path,x,y\na.png,1 2,3\n", r"line 2: x must be one number; got '1 2'"),
        ('path,x0,y0,x1,y1\na.png,1,2,3,"4,5,6"\n', r"line 2: y1 must be one number; got '4,5,6'"),
        ("path,x0,y0,x1\na.png,1,2,3\n", r"line 2: a box must be x0, y0, x1, y1; got 3 numbers"),
        ("path,box\na.png,1 2 3\n", r"line 2: a box must be x0, y0, x1, y1; got 3 numbers"),
        ("path,box,x0,y0,x1,y1\na.png,1 2 3 4,1,2,3,4\n", r"line 2: got both box and x0"),
        ('path,name\na.png,"open\n', r"line 2: .*; correct the row"),
        ("path\n", r"names no picture"),
    ],
)
def test_a_mistake_in_a_table_is_told_with_its_file_and_line(
    tmp_path: Path, text: str, expected: str
) -> None:
    with pytest.raises(ValueError, match=expected) as told:
        found(str(table(tmp_path, text)))
    assert "prompts.csv" in str(told.value)


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"prompts\.csv is not text in UTF-8"):
        rows(tmp_path, "path,name\nä.png,ö\n", "latin-1")
