"""Programs with SQLAlchemy, Core and ORM, through the dialect against a node."""

import asyncio
import datetime
import decimal
import threading

import pytest
from client_bench import TOKEN, make_node

sa = pytest.importorskip("sqlalchemy")
pytest.importorskip("greenlet")

from sqlalchemy import orm  # noqa: E402
from sqlalchemy.dialects.sqlite import insert as upsert  # noqa: E402
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine  # noqa: E402

from pando import client  # noqa: E402
from pando.client.alchemy import PandoDialect  # noqa: E402
from pando.client.alchemy_async import AsyncPandoDialect  # noqa: E402


class Base(orm.DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(40), unique=True, index=True)
    born: orm.Mapped[datetime.date | None]
    seen: orm.Mapped[datetime.datetime | None]
    rank: orm.Mapped[decimal.Decimal | None] = orm.mapped_column(sa.Numeric(10, 2, asdecimal=True))
    extra: orm.Mapped[dict | None] = orm.mapped_column(sa.JSON)
    picture: orm.Mapped[bytes | None]
    is_kept: orm.Mapped[bool] = orm.mapped_column(default=False)
    books: orm.Mapped[list["Book"]] = orm.relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "books"
    __table_args__ = (sa.CheckConstraint("pages > 0", name="has_pages"), {"sqlite_autoincrement": True})
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str]
    pages: orm.Mapped[int] = orm.mapped_column(server_default="1")
    author_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("authors.id", ondelete="CASCADE"))
    author: orm.Mapped[Author] = orm.relationship(back_populates="books")


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = make_node(tmp_path_factory.mktemp("node"))
    yield made
    made.close()


def url(node, driver="pando", **query):
    return sa.URL.create(driver, password=TOKEN, host="127.0.0.1", port=node.port, database="shop", query=query)


@pytest.fixture
def engine(node):
    made = sa.create_engine(url(node))
    Base.metadata.drop_all(made)
    Base.metadata.create_all(made)
    yield made
    made.dispose()


def count(engine, kind):
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(kind))


# -- engines


def test_urls_become_connections():
    def arguments(text):
        return PandoDialect().create_connect_args(sa.make_url(text))

    places, options = arguments("pando://:t%2Bk@a:1/shop?node=b:2&node=c:3&retry_s=2&tls=1")
    assert places == ["pando://a:1,b:2,c:3?retry_s=2&tls=1"]
    assert options == {"token": "t+k", "database": "shop", "share": True}
    assert arguments("pando://?retry_s=2&share=0")[0] == ["pando://127.0.0.1:8090?retry_s=2&share=0"]
    assert arguments("pando://tok@[::1]:1?node=b")[0] == ["pando://[::1]:1,b"]
    assert arguments("pando://") == ([""], {"share": True})
    with client.connect(*places, **options) as connection:
        assert [found.url for found in connection.target.nodes] == ["https://a:1", "https://b:2", "https://c:3"]
        assert connection.target.retry_s == 2


def test_the_dialects_are_found_by_their_names():
    assert sa.make_url("pando://a").get_dialect() is PandoDialect
    assert sa.make_url("pando+asyncio://a").get_dialect() is AsyncPandoDialect
    assert sa.create_engine("pando://a").dialect.name == "sqlite"


def test_what_the_engine_knows_of_the_node(engine):
    with engine.connect():
        assert engine.dialect.server_version_info >= client.sqlite_version_info
        assert engine.dialect.insert_returning
        assert engine.dialect.default_isolation_level == "READ COMMITTED"


def test_an_option_that_is_none_is_refused(node):
    with pytest.raises(sa.exc.ProgrammingError, match="nonsense"):
        sa.create_engine(url(node, nonsense="1")).connect()


# -- reflection


def test_tables_are_reflected_as_they_were_made(engine):
    found = sa.inspect(engine)
    assert found.get_table_names() == ["authors", "books"]
    assert found.get_pk_constraint("books")["constrained_columns"] == ["id"]
    assert [key["referred_table"] for key in found.get_foreign_keys("books")] == ["authors"]
    assert found.get_foreign_keys("books")[0]["options"] == {"ondelete": "CASCADE"}
    assert [check["name"] for check in found.get_check_constraints("books")] == ["has_pages"]
    assert [(index["column_names"], index["unique"]) for index in found.get_indexes("authors")] == [(["name"], 1)]
    assert found.has_table("books") and not found.has_table("nothing")
    metadata = sa.MetaData()
    metadata.reflect(engine)
    table = metadata.tables["authors"]
    assert isinstance(table.c.born.type, sa.Date) and isinstance(table.c.rank.type, sa.Numeric)
    assert table.c.name.type.length == 40 and not table.c.name.nullable and table.c.born.nullable


# -- rows


def test_values_of_all_types_come_back(engine):
    values = {
        "name": "ä",
        "born": datetime.date(1970, 1, 2),
        "seen": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901),
        "rank": decimal.Decimal("12.50"),
        "extra": {"a": [1, None, "x"]},
        "picture": b"\0\xff",
        "is_kept": True,
    }
    with orm.Session(engine) as session:
        session.add(Author(**values))
        session.commit()
        found = session.scalars(sa.select(Author)).one()
        assert {name: getattr(found, name) for name in values} == values


def test_objects_get_ids_relations_and_server_defaults(engine):
    with orm.Session(engine) as session:
        author = Author(name="a", books=[Book(title=f"b{number}") for number in range(5)])
        session.add(author)
        session.commit()
        assert author.id == 1
        assert [book.pages for book in author.books] == [1] * 5
        session.delete(author.books[0])
        session.commit()
        assert session.scalar(sa.select(sa.func.count(Book.id))) == 4
        assert [book.title for book in session.get(Author, 1).books] == ["b1", "b2", "b3", "b4"]
        session.delete(author)
        session.commit()
    assert count(engine, Book) == 0


def test_many_rows_returning_and_upserts(engine):
    with engine.begin() as connection:
        connection.execute(sa.insert(Author), [{"name": f"n{number}"} for number in range(3000)])
        ids = connection.scalars(sa.insert(Author).returning(Author.id), [{"name": "x"}, {"name": "y"}]).all()
        assert ids == [3001, 3002]
        statement = upsert(Author).values(name="x", is_kept=True)
        connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"is_kept": True}))
        changed = connection.execute(sa.update(Author).where(Author.id <= 10).values(is_kept=True))
        assert changed.rowcount == 10
        gone = connection.execute(sa.delete(Author).where(Author.is_kept).returning(Author.name)).scalars().all()
        assert len(gone) == 11 and "x" in gone
    assert count(engine, Author) == 2991


# -- transactions


def test_a_session_rolls_back(engine):
    with orm.Session(engine) as session:
        session.add(Author(name="a"))
        session.flush()
        session.rollback()
    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        connection.execute(sa.insert(Author).values(name="b"))
        raise ZeroDivisionError
    assert count(engine, Author) == 0


def test_savepoints_undo_what_is_inside(engine):
    with orm.Session(engine) as session:
        with session.begin_nested():
            session.add(Author(name="kept"))
        with pytest.raises(sa.exc.IntegrityError), session.begin_nested():
            session.add(Author(name="kept"))
            session.flush()
        inner = session.begin_nested()
        session.add(Author(name="undone"))
        session.flush()
        inner.rollback()
        session.commit()
        assert session.scalars(sa.select(Author.name)).all() == ["kept"]


def test_a_savepoint_first_in_a_session_is_no_commit(engine):
    with orm.Session(engine) as session:
        with session.begin_nested():
            session.add(Author(name="a"))
        session.rollback()
    assert count(engine, Author) == 0


def test_isolation_levels(engine):
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.insert(Author).values(name="a"))
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as connection:
        assert connection.get_isolation_level() == "SERIALIZABLE"
        connection.execute(sa.select(Author)).all()
        assert connection.connection.dbapi_connection.in_transaction
    with engine.connect() as connection:
        assert connection.get_isolation_level() == "READ COMMITTED"
        connection.execute(sa.select(Author)).all()
        assert not connection.connection.dbapi_connection.in_transaction
    assert count(engine, Author) == 1
    with pytest.raises(sa.exc.ArgumentError):
        engine.connect().execution_options(isolation_level="REPEATABLE READ")


def test_sessions_of_many_threads_lose_nothing(engine):
    errors = []

    def work(number):
        try:
            for step in range(5):
                with orm.Session(engine) as session, session.begin():
                    session.add(Author(name=f"{number}-{step}"))
        except sa.exc.SQLAlchemyError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    # The bench's writer refuses at once who comes while it is taken; a node's lets wait.
    busy = [error for error in errors if error.orig.code in ("SQLITE_BUSY", "SQLITE_LOCKED", "TRANSACTION_BUSY")]
    assert errors == busy
    assert count(engine, Author) >= 5


# -- errors


@pytest.mark.parametrize(
    ("statement", "kind", "code"),
    [
        ("SELEC 1", sa.exc.OperationalError, "SQL_PARSE_ERROR"),
        ("SELECT * FROM nothing", sa.exc.OperationalError, None),
        ("INSERT INTO authors(name) VALUES (NULL)", sa.exc.IntegrityError, "SQLITE_CONSTRAINT"),
        ("INSERT INTO books(title, author_id) VALUES ('x', 77)", sa.exc.IntegrityError, "SQLITE_CONSTRAINT"),
        ("ATTACH 'x' AS y", sa.exc.NotSupportedError, "SQLITE_AUTH"),
    ],
)
def test_errors_become_those_of_sqlalchemy(engine, statement, kind, code):
    with engine.connect() as connection, pytest.raises(kind) as caught:
        connection.exec_driver_sql(statement)
    assert code is None or caught.value.orig.code == code
    assert isinstance(caught.value.orig, client.Error)


def test_a_token_that_does_not_hold_is_an_operational_error(node):
    engine = sa.create_engine(url(node).set(password="wrong"))
    with pytest.raises(sa.exc.OperationalError, match="token"):
        engine.connect()
    engine.dispose()


# -- asyncio


def test_the_same_with_asyncio(node, engine):
    async def program():
        made = create_async_engine(url(node, "pando+asyncio"))
        try:
            async with AsyncSession(made) as session:
                session.add(Author(name="a", books=[Book(title="b")]))
                await session.commit()
                with pytest.raises(sa.exc.IntegrityError):
                    async with session.begin_nested():
                        session.add(Author(name="a"))
                await session.commit()
                found = await session.scalars(sa.select(Author).options(orm.selectinload(Author.books)))
                assert [(author.name, len(author.books)) for author in found] == [("a", 1)]
            async with made.connect() as connection:
                result = await connection.stream(sa.text("SELECT value FROM json_each('[1, 2, 3]')"))
                assert [row.value async for row in result] == [1, 2, 3]
                names = await connection.run_sync(lambda inner: sa.inspect(inner).get_table_names())
                assert names == ["authors", "books"]
                driver = await connection.get_raw_connection()
                assert isinstance(driver.driver_connection, client.AsyncConnection)
            level = made.execution_options(isolation_level="AUTOCOMMIT")
            async with level.connect() as connection:
                await connection.execute(sa.insert(Author).values(name="alone"))
        finally:
            await made.dispose()

    asyncio.run(program())
    assert count(engine, Author) == 2
