"""Configuration, ids, heartbeats, logs: the small things everything rests on."""

import io
import os
import sys

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from core.config import LogConfig, load_config
from core.errors import ConfigError
from core.heartbeat import Heartbeat, read_heartbeat
from core.ids import camera_id_from_name, check_camera_id, uuid7
from core.logs import configure_logging, redact


def test_an_unknown_key_is_refused_with_the_nearest_one(tmp_path):
    file = tmp_path / "haetae.toml"
    file.write_text("[tracker]\nopen_scor = 3\n")
    with pytest.raises(ConfigError, match=r"tracker\.open_scor") as caught:
        load_config(file, environ={})
    assert "tracker.open_score" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tracker = 3", "is a section"),
        ("[tracker]\nopen_score = -1", "open_score"),
        ("[tracker]\nopen_score = 'high'", "open_score"),
        ("not toml", "not TOML"),
    ],
)
def test_bad_configuration_says_where(tmp_path, text, says):
    file = tmp_path / "haetae.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_config(file, environ={})


def test_the_environment_overrides_the_file(tmp_path):
    file = tmp_path / "haetae.toml"
    file.write_text("[tracker]\nopen_score = 3\nclose_score = 1\n")
    config = load_config(file, environ={"HAETAE_TRACKER__OPEN_SCORE": "4.5", "HAETAE_LOG__LEVEL": "debug"})
    assert (config.tracker.open_score, config.tracker.close_score, config.log.level) == (4.5, 1.0, "debug")


def test_a_wrong_variable_is_refused():
    with pytest.raises(ConfigError, match=r"log\.levle"):
        load_config(environ={"HAETAE_LOG__LEVLE": "debug"})


def test_a_missing_file_that_was_named_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "none.toml", environ={})


def test_a_run_folder_open_to_others_is_refused(tmp_path):
    run = tmp_path / "run"
    run.mkdir(mode=0o755)
    run.chmod(0o755)
    with pytest.raises(ConfigError, match="open to others"):
        load_config(environ={}, paths={"data": str(tmp_path / "d"), "run": str(run)}).make_dirs()


def test_ids_are_ordered_and_of_version_7():
    made = [uuid7() for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == 5000
    assert {one.version for one in made} == {7}


@given(st.text(max_size=200))
def test_any_name_gives_a_valid_camera_id(name):
    assert check_camera_id(camera_id_from_name(name))


@pytest.mark.parametrize("bad", ["", "../x", "Gate", "a" * 64, "-gate", "gate 1", "a/b", "a\n"])
def test_unsafe_camera_names_are_refused(bad):
    with pytest.raises(ConfigError):
        check_camera_id(bad)


def test_a_heartbeat_is_read_back_until_it_is_closed(tmp_path):
    heart = Heartbeat(tmp_path, "camera-gate")
    assert read_heartbeat(tmp_path, "camera-gate") is None
    heart.beat("watching", 7)
    seen = read_heartbeat(tmp_path, "camera-gate")
    assert (seen.pid, seen.phase, seen.count) == (os.getpid(), "watching", 7)
    assert 0 <= seen.age_s < 5
    heart.close()
    assert read_heartbeat(tmp_path, "camera-gate") is None


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789", min_size=8, max_size=30))
def test_secrets_never_reach_the_log(secret):
    secret = "s3c" + secret
    for text in (
        f"opening rtsp://admin:{secret}@10.0.0.4/live failed",
        f"password={secret} user=x",
        f'{{"api_key": "{secret}"}}',
        f"Authorization: Bearer {secret}",
    ):
        assert secret not in redact(text), text


def test_logged_fields_and_exceptions_are_redacted(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging(LogConfig(), "test")
    try:
        log = structlog.get_logger()
        try:
            raise ValueError("cannot open rtsp://me:hunter22@cam/1")
        except ValueError:
            log.exception("failed", url="rtsp://me:hunter22@cam/1", password="hunter22", more={"token": "hunter22"})
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
    assert "failed" in stream.getvalue()
    assert "hunter22" not in stream.getvalue()
