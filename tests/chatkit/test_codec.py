"""Models in and out, without a database: nothing is lost on the way through BSON."""

from __future__ import annotations

import json
import typing
import warnings
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

import bson
import pytest
from chatkit import widgets
from chatkit.types import HiddenContextItem, ThreadItem, ThreadItemBase, WidgetItem
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter

from mongo_datalayer.chatkit import codec
from mongo_datalayer.testing.chatkit_contract import at, every_item, widget

TEXT = st.text(st.characters(codec=None)) | st.sampled_from(["$a.b", "a.b", "\x00", "\ud800"])
# ChatKit's own models cannot be dumped with half a surrogate pair in a key.
KEY = st.text() | st.sampled_from(["$a.b", "a.b", "a\x00", "$ref", "$id"])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(KEY, inside, max_size=3),
)


def through_bson(stored: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = bson.decode(bson.encode(stored))
    return read


def test_there_is_an_example_of_every_item() -> None:
    kinds = {type(item) for item in every_item()}
    assert kinds == set(typing.get_args(typing.get_args(ThreadItem)[0]))


@pytest.mark.parametrize("item", every_item(), ids=lambda item: item.id)
def test_every_item_comes_back_equal(item: Any) -> None:
    read = codec.read_item(through_bson(codec.take_item(item).finish()))
    assert read == item
    assert read.model_dump() == item.model_dump()


@given(content=JSON)
def test_any_json_comes_back_equal(content: Any) -> None:
    item = HiddenContextItem(id="i", thread_id="t", created_at=at(), content=content)
    assert codec.read_item(through_bson(codec.take_item(item).finish())) == item


def test_what_is_deeper_than_bson_goes_comes_back_equal() -> None:
    content: Any = "deep"
    for _ in range(60):
        content = {"in": [content]}
    item = HiddenContextItem(id="i", thread_id="t", created_at=at(), content=content)
    assert codec.read_item(through_bson(codec.take_item(item).finish())) == item


def test_an_ordinary_item_is_stored_once() -> None:
    for item in every_item():
        stored = codec.take_item(item).finish()
        assert ("rawJson" in stored) == (item.id in ("tool", "hidden"))


COMPONENTS: dict[str, dict[str, Any]] = {
    "Badge": {"label": "b"},
    "Button": {"label": "b", "onClickAction": {"type": "a", "payload": {"$x": 1}}},
    "Chart": {
        "data": [{"x": 1, "y": 2}],
        "series": [{"type": "bar", "dataKey": "y"}],
        "xAxis": "x",
    },
    "Caption": {"value": "c"},
    "Checkbox": {"name": "c"},
    "DatePicker": {"name": "d"},
    "Icon": {"name": "sparkle"},
    "Image": {"src": "https://x"},
    "Input": {"name": "i"},
    "Label": {"value": "l", "fieldName": "f"},
    "ListViewItem": {"children": []},
    "Markdown": {"value": "*m*", "streaming": True},
    "RadioGroup": {"name": "r", "options": [{"label": "l", "value": "v"}]},
    "Select": {"name": "s", "options": [{"label": "l", "value": "v"}]},
    "Text": {"value": "t", "editable": {"name": "n"}},
    "Textarea": {"name": "t"},
    "Title": {"value": "t"},
    "Transition": {"children": {"type": "Text", "value": "t"}},
}


def every_component() -> list[str]:
    """The types of all components that this version of ChatKit knows."""
    union = typing.get_args(widgets.StrictWidgetComponent)[0]
    return sorted(kind.model_fields["type"].default for kind in typing.get_args(union))


@pytest.mark.parametrize("kind", every_component())
@pytest.mark.parametrize("dynamic", [True, False], ids=["of a template", "strict"])
def test_every_widget_component_comes_back_equal(kind: str, dynamic: bool) -> None:
    component = {"type": kind, "id": "c", "key": "k", **COMPONENTS.get(kind, {})}
    card = {"type": "Card", "size": "md", "children": [component]}
    made = widgets.DynamicWidgetRoot if dynamic else widgets.Card
    with warnings.catch_warnings():  # ChatKit wants no strict widgets any more
        warnings.simplefilter("ignore", DeprecationWarning)
        item = WidgetItem(id="w", thread_id="t", created_at=at(), widget=made.model_validate(card))
        read = codec.read_item(through_bson(codec.take_item(item).finish()))
    assert type(read.widget) is made
    assert read == item
    assert json.loads(read.model_dump_json()) == json.loads(item.model_dump_json())


def test_a_widget_of_a_file_comes_back_equal(tmp_path: Path) -> None:
    card = {"type": "Card", "children": [{"type": "NotKnown", "value": "{{ name }}", "more": 1}]}
    file = tmp_path / "card.widget"
    definition = {"version": "1.0", "name": "n", "template": json.dumps(card), "jsonSchema": {}}
    file.write_text(json.dumps(definition))
    built = widgets.WidgetTemplate.from_file(str(file)).build({"name": "Ada"})
    item = WidgetItem(id="w", thread_id="t", created_at=at(), widget=built)
    read = codec.read_item(through_bson(codec.take_item(item).finish()))
    assert read == item
    assert read.widget.children[0].more == 1


def test_unknown_parts_of_a_strict_widget_are_not_lost() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        inner = widgets.DynamicWidgetComponent(type="Text", value="x", later=[1])  # type: ignore[call-arg]  # extra fields
        card = widgets.Card(children=[inner])
        item = WidgetItem(id="w", thread_id="t", created_at=at(), widget=card)
        read = codec.read_item(through_bson(codec.take_item(item).finish()))
    assert read.widget.children[0].later == [1]


class LaterItem(ThreadItemBase):
    """An item of a later ChatKit."""

    type: Literal["later"] = "later"
    inside: dict[str, Any]


def test_items_of_a_later_chatkit_come_back_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a version does not know is kept for one that does."""
    item = LaterItem(id="l", thread_id="t", created_at=at(), inside={"$a.b": [2**70]})
    stored = through_bson(codec.take_item(item).finish())
    with pytest.raises(ValueError, match="later"):
        codec.read_item(stored)
    union: Any = Annotated[
        typing.Union[(*typing.get_args(typing.get_args(ThreadItem)[0]), LaterItem)],
        Field(discriminator="type"),
    ]
    monkeypatch.setattr(codec, "ITEMS", TypeAdapter(union))
    assert codec.read_item(stored) == item


def test_fields_of_a_later_chatkit_are_stored() -> None:
    class Later(HiddenContextItem):
        added: int = 0

    item = Later(id="l", thread_id="t", created_at=at(), content=1, added=7)
    assert codec.take_item(item).finish()["item"]["added"] == 7


def test_widgets_are_read_without_a_warning() -> None:
    item = WidgetItem(id="w", thread_id="t", created_at=at(), widget=widget())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert codec.read_item(codec.take_item(item).finish()) == item


# Sort keys ------------------------------------------------------------------------------------


@given(
    first=st.datetimes(), second=st.datetimes(), arrivals=st.tuples(*[st.integers(0, 10**15)] * 2)
)
def test_sort_keys_sort_by_time_then_by_arrival(
    first: datetime, second: datetime, arrivals: tuple[int, int]
) -> None:
    a, b = codec.sort_key(first, arrivals[0]), codec.sort_key(second, arrivals[1])
    assert (a < b) == ((first, arrivals[0]) < (second, arrivals[1]))


def test_a_time_with_a_zone_is_taken_to_the_local_clock() -> None:
    zone = timezone(timedelta(hours=5))
    moment = datetime(2026, 3, 1, 12, 0, tzinfo=zone)
    local = moment.astimezone().replace(tzinfo=None)
    assert codec.sort_key(moment, 1) == codec.sort_key(local, 1)


@pytest.mark.parametrize("moment", [at(), at().replace(year=1), at().replace(year=9999)])
def test_every_time_has_a_date_for_people(moment: datetime) -> None:
    assert codec.date_of(moment).tzinfo is timezone.utc
