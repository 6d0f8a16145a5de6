"""Sealed secrets, and the addresses that may be called."""

import asyncio
import stat

import pytest

from core.config import load_config
from core.errors import AddressRefused, ConfigError, SecretError
from core.security.networks import AllowedNetworks, resolve, resolve_now
from core.security.secrets import KEY_FILE, SecretBox


def test_what_is_sealed_opens_in_another_process_and_shows_nothing(tmp_path):
    sealed = SecretBox(tmp_path / "s").seal("rtsp://admin:회사1!@cam/1")
    assert "admin" not in sealed
    assert SecretBox(tmp_path / "s").open(sealed) == "rtsp://admin:회사1!@cam/1"
    assert stat.S_IMODE((tmp_path / "s" / KEY_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700
    assert [file.name for file in (tmp_path / "s").iterdir()] == [KEY_FILE]


def test_a_new_key_seals_and_the_old_one_still_opens(tmp_path):
    old = SecretBox(tmp_path / "a").seal("x")
    file = tmp_path / "a" / KEY_FILE
    SecretBox(tmp_path / "b")
    file.write_bytes((tmp_path / "b" / KEY_FILE).read_bytes() + file.read_bytes())
    box = SecretBox(tmp_path / "a")
    assert box.open(old) == "x"
    assert SecretBox(tmp_path / "b").open(box.seal("y")) == "y"


def test_a_lost_key_and_an_open_or_broken_key_file_are_told(tmp_path):
    sealed = SecretBox(tmp_path / "a").seal("x")
    with pytest.raises(SecretError, match="cannot be opened"):
        SecretBox(tmp_path / "b").open(sealed)
    (tmp_path / "b" / KEY_FILE).chmod(0o644)
    with pytest.raises(SecretError, match="read by others"):
        SecretBox(tmp_path / "b")
    (tmp_path / "a" / KEY_FILE).write_text("nonsense")
    with pytest.raises(SecretError, match="holds no keys"):
        SecretBox(tmp_path / "a")
    with pytest.raises(SecretError, match="cannot read"):
        SecretBox(tmp_path / "a" / KEY_FILE)


@pytest.mark.parametrize(
    ("names", "address", "allowed"),
    [
        (("private",), "192.168.1.9", True),
        (("private",), "172.32.0.1", False),
        (("private",), "127.0.0.1", False),
        (("private", "public"), "8.8.8.8", True),
        (("public",), "10.0.0.1", False),
        (("public",), "::ffff:10.0.0.1", False),
        (("private",), "::ffff:10.0.0.1", True),
        (("public",), "64:ff9b::7f00:1", False),
        (("public",), "2002:7f00:1::", False),
        (("loopback",), "::1", True),
        (("loopback",), "0.0.0.0", False),
        (("0.0.0.0/0", "::/0"), "169.254.169.254", False),
        (("0.0.0.0/0", "::/0"), "::ffff:169.254.169.254", False),
        (("0.0.0.0/0", "::/0"), "fe80::1%eth0", False),
        (("0.0.0.0/0", "::/0"), "fd00:ec2::254", False),
        (("0.0.0.0/0",), "127.0.0.1", True),
        (("203.0.113.0/24",), "203.0.113.7", True),
        ((), "8.8.8.8", False),
    ],
)
def test_allowed_addresses(names, address, allowed):
    assert AllowedNetworks(names).allows(address) is allowed


def test_every_address_of_a_host_must_be_allowed(monkeypatch):
    def answers(*_args, **_more):
        return [(0, 0, 0, "", ("8.8.8.8", 80)), (0, 0, 0, "", ("127.0.0.1", 80))]

    monkeypatch.setattr("socket.getaddrinfo", answers)
    for names in (("public",), ("loopback",)):
        with pytest.raises(AddressRefused):
            resolve_now("x.example", 80, AllowedNetworks(names), purpose="webhooks")
    assert len(resolve_now("x.example", 80, AllowedNetworks(("public", "loopback")), purpose="webhooks")) == 2


def test_names_are_resolved_before_they_are_judged():
    with pytest.raises(AddressRefused, match=r"127\.0\.0\.1|::1"):
        resolve_now("localhost", 80, AllowedNetworks(("public",)), purpose="webhooks")
    with pytest.raises(AddressRefused, match=r"127\.0\.0\.1"):  # the resolver knows this spelling too
        resolve_now("2130706433", 80, AllowedNetworks(("public",)), purpose="webhooks")
    assert asyncio.run(resolve("127.0.0.1", 80, AllowedNetworks(("loopback",)), purpose="webhooks")) == ["127.0.0.1"]
    with pytest.raises(AddressRefused, match="not known"):
        asyncio.run(resolve("no such host.invalid", 80, AllowedNetworks(("public",)), purpose="webhooks"))


def test_networks_are_read_from_the_configuration_and_checked(tmp_path):
    file = tmp_path / "haetae.toml"
    file.write_text('[networks]\ncameras = ["192.168.7.0/24"]\n')
    config = load_config(file, {"HAETAE_NETWORKS__WEBHOOKS": "private, 203.0.113.0/24"})
    assert config.networks.cameras == ("192.168.7.0/24",)
    assert config.networks.webhooks == ("private", "203.0.113.0/24")
    with pytest.raises(ConfigError, match="not a network: 'lan'"):
        load_config(file, {"HAETAE_NETWORKS__VLM": "lan"})
