"""A program as mypy sees it: run by test_embedded_types.py, never as itself."""

import asyncio
from pathlib import Path

from pando import ApiError, Event, Page, Pando, PandoError, Record, Rows, SignedIn, SqlError, ValidationFailed

app = Pando("./data", http="127.0.0.1:8090")


async def heard(event: Event) -> None:
    print(event.record.title, event.old)


def heard_plainly(event: Event) -> None:
    print(event.action)


async def main() -> None:
    async with app:
        posts = app.collection("posts")
        post: Record = await posts.create(
            {"title": "Hello"}, files={"a": Path("x"), "b": [("n", b"")], "c": ("n", b"")}
        )
        page: Page = await posts.list(filter="x = 1")
        titles: list[str] = [each.title for each in page]
        everything: list[Record] = await posts.full_list()
        rows: Rows = await app.sql("SELECT ?", 1, None, b"x", "t", 1.5)
        signed: SignedIn = await app.sign_in("users", "a", "b")
        subscription = await app.subscribe("posts/*", heard)
        await app.subscribe("posts/*", heard_plainly)
        await subscription.stop()
        async for event in app.changes(3):
            print(event.cursor)
        await app.as_user(signed.token).collection("posts").delete(post.id)
        try:
            await posts.view("x")
        except ValidationFailed as error:
            print(error.data)
        except ApiError as error:
            print(error.status)
        except (SqlError, PandoError) as error:
            print(error.code)
        print(titles, everything, rows.value)


with app.sync as plain:
    record: Record = plain.collection("posts").first("a = 1")
    print(record.title, plain.sql("SELECT 1").value)
asyncio.run(main())
