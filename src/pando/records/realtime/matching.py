"""From a change of the feed to events: which subscriptions it concerns, who may see it, in the order of commits.

Whether a subscriber may see a record is asked of `Allowed`, once for all who have the same identity, options and rule;
and once for all who are signed in, if rule and options do not ask who that is and the record looks the same to them.
When that cannot be answered, or the feed does not tell what a row was, the streams concerned end: their clients begin
anew, and nothing is left out in silence. Changes must be given one after the other. Not here: reading the feed
(`pump`), rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple

from pando import limits
from pando.eager import begun
from pando.errors import CallerError, InternalError, PandoError
from pando.records.model import Collection, Schema
from pando.records.realtime.changes import Change, Values
from pando.records.realtime.clients import Client, Ending, Event, Held, Registry
from pando.records.realtime.frames import record_data
from pando.records.realtime.identities import COLLECTIONS_TABLE, Identity, When, effects_of
from pando.records.realtime.topics import Options, RuleKind, topics_of

Allowed = Callable[[Collection, Values, str | None, Identity | None, Options], Coroutine[Any, Any, bytes | None]]
"""Gives the record's JSON as this identity may see it with these options, None if it may not.

The values are those of the row after the change, of a deleted record those before it: it is not in its table any more.
The rule is None only for superusers. A CallerError (a filter that cannot be read) means that it may not be seen, any
other PandoError that it cannot be said.
"""


class _Question(NamedTuple):
    """What an evaluation depends on, for one change."""

    rule: str | None
    identity: Identity | None
    options: Options


_Answers = dict[_Question, "bytes | Ending | None"]


class Matcher:
    """Tells the streams of one registry what changes."""

    def __init__(self, registry: Registry, schema: Callable[[], Schema], allowed: Allowed) -> None:
        """`schema` gives the collections as they are at the position of the change, or a later one."""
        self._registry = registry
        self._schema = schema
        self._allowed = allowed
        self._names = _names_of(schema())

    async def dispatch(self, change: Change) -> int:
        """Tell all streams that have caught up of a change; gives how many events that were."""
        registry = self._registry
        registry.cursor = change.sequence  # from here on it is nobody else's to tell
        collection = self._collection_of(change)
        effects = effects_of(change, collection)
        for effect in effects:
            if effect.when is When.BEFORE:
                registry.apply(effect, change.sequence)
        told = 0
        if collection is not None:
            topics = self._topics_of(change, collection, registry.topics)
            told = await self._tell(change, collection, topics, registry.holders(topics))
        for effect in effects:
            if effect.when is When.AFTER:
                registry.apply(effect, change.sequence)
        if change.table == COLLECTIONS_TABLE:
            self._names = _names_of(self._schema())
        return told

    async def dispatch_to(self, client: Client, change: Change) -> int:
        """Tell one stream, that catches up, of an older change."""
        collection = self._collection_of(change)
        if collection is None:
            return 0
        topics = self._topics_of(change, collection, (held.subscription.topic for held in client.held.values()))
        concerned = [held for held in client.held.values() if held.subscription.topic in topics]
        return await self._tell(change, collection, topics, concerned)

    def _collection_of(self, change: Change) -> Collection | None:
        """Find the collection of a table, also if it was renamed after the change."""
        schema = self._schema()
        found = schema.find(change.table) or schema.find(self._names.get(change.table, ""))
        return None if found is None or found.is_view else found

    def _topics_of(self, change: Change, collection: Collection, known: Iterable[str]) -> dict[str, RuleKind]:
        """Name the topics of a change, of one whose row cannot be told all known ones of the collection."""
        values = change.values
        if values is None:
            names = (collection.name, collection.id, change.table)
            return {topic: RuleKind.LIST for topic in known if topic.partition("/")[0] in names}
        return topics_of((collection.name, collection.id, change.table), str(values.get("id")))

    async def _tell(
        self, change: Change, collection: Collection, topics: dict[str, RuleKind], concerned: Iterable[Held]
    ) -> int:
        questions = _Questions(collection, topics)
        hearing = [(held, questions.number_of(held)) for held in concerned if held.since < change.sequence]
        found = await self._judge(collection, change.values, questions.all)
        answers = [found.get(question) for question in questions.all]
        events: list[tuple[Held, bytes]] = []
        for held, number in hearing:
            answer = answers[number]
            if answer is None or not held.is_current or held.since >= change.sequence:
                continue
            if isinstance(answer, Ending):
                self._registry.end(held.client, answer)
            else:
                events.append((held, answer))
        self._hand_out(change, events)
        return len(events)

    async def _judge(self, collection: Collection, values: Values | None, questions: Iterable[_Question]) -> _Answers:
        """Answer each question with the record's JSON, None, or how the streams must end."""
        left = [each for each in questions if each.rule is not None or _is_superuser(each.identity)]
        answers: _Answers = {}
        if values is None:
            return answers | dict.fromkeys(left, Ending.MISSED)
        for start in range(0, len(left), limits.REALTIME_JUDGED_AT_ONCE):
            part = left[start : start + limits.REALTIME_JUDGED_AT_ONCE]
            answers.update(await self._judge_at_once(collection, values, part))
        return answers

    async def _judge_at_once(self, collection: Collection, values: Values, questions: Iterable[_Question]) -> _Answers:
        answers: _Answers = {}
        waiting: dict[_Question, Coroutine[Any, Any, bytes | None]] = {}
        try:
            for question in questions:
                found = self._begin(collection, values, question)
                if isinstance(found, Coroutine):
                    waiting[question] = found
                else:
                    answers[question] = found
        except BaseException:
            for rest in waiting.values():
                rest.close()
            raise
        ended = await asyncio.gather(*[_ended(rest) for rest in waiting.values()], asyncio.sleep(0))
        answers.update(zip(waiting, ended, strict=False))
        return answers

    def _begin(
        self, collection: Collection, values: Values, question: _Question
    ) -> Coroutine[Any, Any, bytes | None] | bytes | Ending | None:
        """Answer a question that waits for nothing, as nearly all; of another, give the rest."""
        try:
            return begun(self._allowed(collection, values, question.rule, question.identity, question.options))
        except PandoError as error:
            return _unanswered(error)

    def _hand_out(self, change: Change, events: list[tuple[Held, bytes]]) -> None:
        """Let the events wait for their streams; the last one of a stream says that the change has been told."""
        last = {held.client: at for at, (held, _) in enumerate(events)}
        shared: dict[tuple[bytes, str, bool], Event] = {}
        tell = self._registry.tell
        for at, (held, record) in enumerate(events):
            client, text = held.client, held.subscription.text
            key = record, text, last[client] == at
            event = shared.get(key)
            if event is None:
                place = change.sequence if key[2] else None
                event = shared[key] = Event(text, record_data(record, change.operation.action), place)
            tell(client, event)


class _Questions:
    """The different questions about one change, numbered.

    Thousands of subscriptions may come down to one. So they are told apart by whether they have the same objects first,
    and by what is in these only then.
    """

    def __init__(self, collection: Collection, topics: dict[str, RuleKind]) -> None:
        self._collection = collection
        self._rules = {RuleKind.LIST: collection.rules.list, RuleKind.VIEW: collection.rules.view}
        self._topics = topics
        self._numbers: dict[tuple[RuleKind, int, int], int] = {}
        self.all: dict[_Question, int] = {}

    def number_of(self, held: Held) -> int:
        """Give the number of the question whether a subscriber may hear of the change."""
        kind, identity, options = self._topics[held.subscription.topic], held.client.identity, held.subscription.options
        key = kind, id(identity), id(options)  # their subscriptions keep them alive
        number = self._numbers.get(key)
        if number is None:
            question = self._question(self._rules[kind], identity, options)
            number = self._numbers[key] = self.all.setdefault(question, len(self.all))
        return number

    def _question(self, rule: str | None, identity: Identity | None, options: Options) -> _Question:
        """Make a question; who asks is left out where it cannot matter: then all who are signed in ask as guests do."""
        if not (_is_superuser(identity) or self._collection.is_auth or _asks_who(rule or "", options)):
            identity = None
        return _Question(rule, identity, options)


def _asks_who(rule: str, options: Options) -> bool:
    """Tell whether an answer may depend on who is signed in; rather once too often.

    Expanded records, and those that a filter goes through (which takes a dot), are under rules of their own.
    """
    wanted = options.get("filter")
    return "@request" in rule.lower() or "@" in wanted or "." in wanted or bool(options.get("expand"))


async def _ended(rest: Coroutine[Any, Any, bytes | None]) -> bytes | Ending | None:
    try:
        async with asyncio.timeout(limits.REALTIME_JUDGE_S):
            return await rest
    except PandoError as error:
        return _unanswered(error)
    except TimeoutError:
        return Ending.MISSED


def _unanswered(error: PandoError) -> Ending | None:
    """Say what becomes of a question that failed. Raises what is a bug."""
    if isinstance(error, InternalError):
        raise error
    return None if isinstance(error, CallerError) else Ending.MISSED


def _is_superuser(identity: Identity | None) -> bool:
    return identity is not None and identity.is_superuser


def _names_of(schema: Schema) -> dict[str, str]:
    return {each.name: each.id for each in schema.collections}
