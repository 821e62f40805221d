import asyncio

import bcrypt
import pytest

from pando.errors import InvariantError
from pando.records.auth import passwords
from pando.records.auth.passwords import PasswordWorker, check_password, cost_of, hash_password, spend_check

# Vectors of crypt_blowfish and of jBCrypt, made by others' code.
KNOWN = [
    ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
    ("U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"),
    ("U*U*U", "$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a"),
    ("", "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s."),
    ("abc", "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"),
    (
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789chars after 72 are ignored",
        "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui",
    ),
]
SALT = bytes(range(16))


@pytest.mark.parametrize(("password", "hashed"), KNOWN)
def test_hashes_that_others_made(password, hashed):
    assert check_password(password, hashed)
    assert not check_password(password[:71] + "x", hashed)
    assert check_password(password, hashed.replace("$2a$", "$2y$"))
    assert check_password(password, hashed.replace("$2a$", "$2b$"))


def test_the_library_takes_what_is_made():
    made = hash_password("secret", SALT, 4)
    assert made.startswith("$2a$04$") and len(made) == 60
    assert bcrypt.checkpw(b"secret", made.encode())
    assert bcrypt.hashpw(b"secret", made.encode()).decode() == made  # the salt is encoded as the library does


def test_costs():
    assert hash_password("x", SALT, 5).startswith("$2a$05$")
    assert hash_password("x", SALT, 1).startswith("$2a$04$")
    assert hash_password("x", SALT, 0).startswith("$2a$10$")
    assert [cost_of(text) for text in (hash_password("x", SALT, 4), "", "$2a$10$short", "$2a$31$" + "a" * 53)] == [
        4,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("password", "other", "is_same"),
    [
        ("a" * 72, "a" * 73, True),
        ("a" * 71 + "b", "a" * 71 + "c", False),
        ("é" * 36, "é" * 36 + "more", True),
        ("é" * 40, "é" * 36 + "nope", True),
        ("x" + "é" * 40, "x" + "é" * 35 + "z", False),
        ("p\0one", "p\0two", False),
        ("\ud800", "\ud801", False),
    ],
)
def test_72_bytes_count(password, other, is_same):
    assert check_password(other, hash_password(password, SALT, 4)) is is_same


@pytest.mark.parametrize(
    "hashed", ["", "x", "$2a$10$", "$2x$05$" + "C" * 53, "$2a$99$" + "C" * 53, "$2a$05$" + "!" * 53, "é" * 60, "\ud800"]
)
def test_what_is_no_hash_matches_nothing(hashed):
    assert not check_password("U*U", hashed)
    assert not check_password("", hashed)


def test_a_salt_has_its_length():
    with pytest.raises(InvariantError):
        hash_password("x", b"short", 4)


def test_the_check_for_nobody_takes_a_whole_hash(monkeypatch):
    done = []
    monkeypatch.setattr(passwords.bcrypt, "hashpw", lambda data, salt: done.append((data, salt)) or b"")
    spend_check("secret", 9)
    assert done == [(b"secret", b"$2a$09$......................")]


async def worker_answers():
    worker = PasswordWorker(threads=2, random=lambda size: SALT[:size])
    hashed = await worker.hash("secret", 4)
    answers = await asyncio.gather(
        worker.check("secret", hashed),
        worker.check("other", hashed),
        worker.check("secret", None, 4),
        worker.check("secret", "", 4),
    )
    worker.close()
    return hashed, answers


def test_the_worker_hashes_and_checks():
    hashed, answers = asyncio.run(worker_answers())
    assert hashed == hash_password("secret", SALT, 4)
    assert answers == [True, False, False, False]
