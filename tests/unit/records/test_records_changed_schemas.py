"""Records whose collection has changed since they were stored, and rules that name what is not there any more."""

import pytest

RULES = ("listRule", "viewRule", "createRule", "updateRule", "deleteRule")


@pytest.mark.parametrize(
    ("field", "value", "now", "code"),
    [
        ({"type": "text"}, "abc", {"min": 5}, "validation_min_text_constraint"),
        ({"type": "number"}, 5, {"max": 1}, "validation_max_number_constraint"),
        ({"type": "bool"}, False, {"required": True}, "validation_required"),
        ({"type": "select", "values": ["a", "b"]}, "a", {"values": ["b"]}, "validation_invalid_value"),
        ({"type": "json"}, {"a": 1}, {"maxSize": 2}, "validation_json_size_limit"),
        ({"type": "file"}, None, {"required": True}, "validation_required"),
        ({"type": "password", "cost": 4}, "12345678", {"min": 50}, ""),
    ],
)
def test_a_change_must_bring_a_record_to_what_its_fields_ask_for_now(site, field, value, now, code):
    free = {"name": "free", "type": "text", "id": "free_id"}
    field = {"name": "x", "id": "x_id", **field}
    site.collection("posts", free, field)
    id = site.create("posts", x=value)["id"]
    assert site("PATCH", f"collections/posts/records/{id}", {"free": "1"}).status == 200
    changed = site("PATCH", "collections/posts", {"fields": [free, field | now]}, token=site.su)
    assert changed.status == 200, changed.body
    for body in ({"free": "2"}, {}):
        answer = site("PATCH", f"collections/posts/records/{id}", body)
        assert answer.status == (400 if code else 200), answer.body
        assert not code or answer.code("x") == code


def test_an_id_that_new_ones_could_not_have_stays(site):
    key = {"name": "id", "type": "text", "primaryKey": True, "system": True, "required": True, "min": 1, "max": 9}
    site.collection("posts", key | {"pattern": "^[a-z]+$"}, {"name": "free", "type": "text", "id": "free_id"})
    site.create("posts", id="abc")
    fields = [key | {"pattern": "^[0-9]+$"}, {"name": "free", "type": "text", "id": "free_id"}]
    assert site("PATCH", "collections/posts", {"fields": fields}, token=site.su).status == 200
    assert site("PATCH", "collections/posts/records/abc", {"free": "1"}).status == 200
    assert site("POST", "collections/posts/records", {"id": "abd"}).code("id") == "validation_invalid_format"


def test_a_rule_that_names_what_is_gone_lets_nobody_in_but_superusers(site):
    site.collection("others", {"name": "x", "type": "text"})
    site.collection("posts", {"name": "title", "type": "text"})
    id = site.create("posts", title="x")["id"]
    rules = dict.fromkeys(RULES, "@collection.others.x != 'q'")
    assert site("PATCH", "collections/posts", rules, token=site.su).status == 200
    assert site("DELETE", "collections/others", token=site.su).status == 204
    one = f"collections/posts/records/{id}"
    asks = [("GET", "collections/posts/records", 400), ("POST", "collections/posts/records", 400)]
    asks += [(method, one, 404) for method in ("GET", "PATCH", "DELETE")]
    site.log.lines.clear()
    for method, path, status in asks:
        answer = site(method, path, {} if method in ("POST", "PATCH") else None)
        assert (answer.status, answer.json["data"]) == (status, {}), (method, path, answer.body)
        assert b"others" not in answer.body
    assert [line["event"] for line in site.log.lines] == ["request.failed"] * 5
    assert "others" in site.log.lines[-1]["error"], "who looks after it must find out why"
    assert site("GET", one, token=site.su).status == 200
    assert site("DELETE", one, token=site.su).status == 204


def test_a_list_is_shown_without_what_a_broken_rule_keeps_back(site):
    site.collection("others", {"name": "x", "type": "text"})
    target = site.collection("targets", {"name": "x", "type": "text"})
    relation = {"name": "to", "type": "relation", "collectionId": target["id"]}
    site.collection("posts", relation)
    site.create("posts", to=site.create("targets", x="1")["id"])
    listed = "collections/posts/records?expand=to"
    assert "expand" in site("GET", listed).json["items"][0]
    assert (
        site("PATCH", "collections/targets", {"viewRule": "@collection.others.x != 'q'"}, token=site.su).status == 200
    )
    assert site("DELETE", "collections/others", token=site.su).status == 204
    answer = site("GET", listed)
    assert answer.status == 200, answer.body
    assert "expand" not in answer.json["items"][0]
    assert "expand" in site("GET", listed, token=site.su).json["items"][0]
