"""Tokens, tickets, passwords, second factors and rate limits, on their own."""

import base64
import threading
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.limits import RateLimiter
from core.clock import FakeClock
from core.errors import ConfigError, TokenRefused
from core.security.passwords import Passwords, check_new_password
from core.security.tokens import Claims, KeyRing, Tickets, TokenKind
from core.security.totp import accept_code, new_secret


@given(st.lists(st.one_of(st.just("issue"), st.integers(0, 20), st.floats(0, 20)), max_size=40))
def test_a_ticket_is_good_once_and_for_half_a_minute(steps):
    clock = FakeClock()
    tickets = Tickets(clock.monotonic, lifetime_s=30)
    issued: list[tuple[str, int, float]] = []
    used: set[str] = set()
    for step in steps:
        if step == "issue":
            issued.append((tickets.issue(len(issued)), len(issued), clock.monotonic()))
        elif isinstance(step, float):
            clock.advance(step)
        elif issued:
            token, what, at = issued[step % len(issued)]
            if token in used or clock.monotonic() - at >= 30:
                with pytest.raises(TokenRefused):
                    tickets.use(token)
            else:
                assert tickets.use(token) == what
            used.add(token)


def test_of_many_that_use_a_ticket_at_once_one_may():
    tickets = Tickets(FakeClock().monotonic)
    for _ in range(50):
        token, won = tickets.issue("x"), []
        begin = threading.Barrier(6)

        def use(token=token, won=won, begin=begin):
            begin.wait()
            try:
                won.append(tickets.use(token))
            except TokenRefused:
                pass

        threads = [threading.Thread(target=use) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == ["x"]


def test_tickets_do_not_pile_up():
    tickets = Tickets(FakeClock().monotonic, limit=10)
    first = tickets.issue("first")
    for _ in range(10):
        last = tickets.issue("last")
    with pytest.raises(TokenRefused):
        tickets.use(first)
    assert tickets.use(last) == "last"


@given(st.lists(st.floats(0, 3), max_size=200))
def test_never_more_than_the_burst_and_the_rate_pass(gaps):
    clock = FakeClock()
    limiter = RateLimiter(5, 20, clock.monotonic)
    passed = 0
    for gap in gaps:
        clock.advance(gap)
        wait_s = limiter.take("a")
        passed += wait_s == 0
        assert passed <= 20 + 5 * clock.monotonic() + 1e-6
        if wait_s:
            clock.advance(wait_s + 1e-6)
            assert limiter.take("a") == 0, "the time it was told to wait was too short"
            passed += 1


@pytest.mark.parametrize("bad", ["short", "password1234", "aaaaaaaaaaaaaaaa", "my name is kimchi", "x" * 129])
def test_passwords_that_are_guessed_first_are_refused(bad):
    with pytest.raises(ConfigError):
        check_new_password(bad, "kimchi")


def test_a_password_is_verified_in_any_form_of_its_letters():
    passwords = Passwords()
    stored = passwords.hash(check_new_password("거북선 세 척이 간다 é", "kim"))
    assert passwords.verify(stored, unicodedata.normalize("NFD", "거북선 세 척이 간다 é"))
    assert not passwords.verify(stored, "거북선 네 척이 간다 é")
    assert not passwords.verify(None, "거북선 세 척이 간다 é")
    assert not passwords.verify("no hash at all", "x")
    assert not passwords.is_outdated(stored)


def test_a_code_is_taken_once_and_within_a_minute():
    """RFC 6238, appendix B: the last six digits of the vector for 59 s."""
    secret = base64.b32encode(b"12345678901234567890").decode()
    assert accept_code(secret, "287 082", now_s=59, last_step=0) == 1
    assert accept_code(secret, "287082", now_s=59, last_step=1) is None
    assert accept_code(secret, "287082", now_s=85, last_step=0) == 1
    assert accept_code(secret, "287082", now_s=95, last_step=0) is None
    for wrong in ("", "28708", "2870822", "\uff12\uff18\uff17\uff10\uff18\uff12", "abcdef"):
        assert accept_code(new_secret(), wrong, now_s=59, last_step=0) is None


def test_a_token_that_was_read_before_still_ends_and_is_not_read_as_another_kind(tmp_path):
    ring, claims = KeyRing(tmp_path), Claims("user", "session", 1)
    token = ring.sign(TokenKind.ACCESS, claims, now_s=time.time() - 11, lifetime_s=10)  # what is left is leeway
    assert ring.read(TokenKind.ACCESS, token) == claims
    with pytest.raises(TokenRefused, match="another kind"):
        ring.read(TokenKind.MEDIA, token)
    deadline = time.monotonic() + 60
    with pytest.raises(TokenRefused, match="expired"):
        while time.monotonic() < deadline:
            assert ring.read(TokenKind.ACCESS, token) == claims
            time.sleep(0.05)


def test_a_token_that_was_read_before_is_refused_once_its_key_is_gone(tmp_path):
    ring, claims = KeyRing(tmp_path), Claims("user", "session", 1)
    token = ring.sign(TokenKind.ACCESS, claims, now_s=time.time(), lifetime_s=60)
    assert ring.read(TokenKind.ACCESS, token) == claims
    ring.rotate()
    assert ring.read(TokenKind.ACCESS, token) == claims
    ring.rotate()
    with pytest.raises(TokenRefused, match="not signed here"):
        ring.read(TokenKind.ACCESS, token)
