import pytest

from prefkit.errors import PrefkitError
from prefkit.recipe import Recipe
from prefkit.shipped import SCHEMA, copy, folder, listed


def test_every_shipped_recipe_is_listed_with_its_question():
    found = listed()
    assert len(found) >= 1
    assert {shipped.name for shipped in found} == {path.stem for path in folder().glob("*.yaml")}
    assert all(
        len(shipped.question) > 20 and "yaml-language-server" not in shipped.question for shipped in found
    )


def test_a_copy_is_the_same_recipe(tmp_path):
    made = copy("quickstart", tmp_path)
    assert made[0] == tmp_path / "quickstart.yaml"
    assert Recipe.load(made[0]).model_copy(update={"folder": folder()}) == Recipe.load(
        folder() / "quickstart.yaml"
    )
    assert tmp_path / SCHEMA in made


def test_a_copy_overwrites_nothing(tmp_path):
    copy("quickstart", tmp_path)
    (tmp_path / "quickstart.yaml").write_text("mine")
    with pytest.raises(PrefkitError, match="not overwritten"):
        copy("quickstart", tmp_path)
    assert (tmp_path / "quickstart.yaml").read_text() == "mine"


def test_data_that_is_there_already_is_kept(tmp_path):
    copy("quickstart", tmp_path)
    (tmp_path / "quickstart.yaml").unlink()
    (tmp_path / SCHEMA).write_text("mine")
    assert copy("quickstart", tmp_path) == [tmp_path / "quickstart.yaml"]
    assert (tmp_path / SCHEMA).read_text() == "mine"


def test_a_recipe_that_is_not_there_has_a_hint(tmp_path):
    with pytest.raises(PrefkitError) as caught:
        copy("quikstart", tmp_path)
    assert (caught.value.what, caught.value.hint) == (
        "no recipe is called 'quikstart'",
        "did you mean 'quickstart'?",
    )


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PrefkitError, match="cannot copy the recipe"):
        copy("quickstart", tmp_path / "file")
