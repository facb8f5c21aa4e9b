from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import msgspec
import pytest
import yaml

from agent import contracts, eventlog, outcome, registry, reporter, supervisor
from agent.config import BrokerSettings, Config, host_name, load
from agent.errors import ConfigError
from agent.events import Severity
from agent.quantities import Change, Duration, Pin, Secret, Size

STARTING = Path(__file__).parents[2] / "config" / "gatepost.yaml"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("site.yaml")


def loaded(path: Path, text: str, **environment: str) -> Config:
    path.write_text(text)
    return load(path, environment)


def faults(path: Path, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, environment or {})
    return [str(fault) for fault in caught.value.faults]


def of(config: Config, device: str) -> Any:
    return config.devices[device].settings


# --- what is read -------------------------------------------------------------------------------------------------


def test_a_whole_configuration_is_read(site: Path) -> None:
    config = loaded(
        site,
        """
        gateway: greenhouse-1
        devices:
          door: {driver: gpio_input, pin: BOARD11, pull: up, debounce: 50ms, description: front}
          fan: {driver: gpio_output, pin: 27, safe: off, simulate: false}
          machine: {driver: system, report: {change: {cpu_load: 5%, load1: any}, at_least: 5m}}
        rules:
          open:
            threshold: {of: door, above: 0.5, for: 5m}
            severity: major
            then: {set: {fan: on}, otherwise: off}
        forward:
          site:
            mqtt: {host: broker.local, tls:, username: 1234, password: 0123}
            encoding: {cloudevents: {mode: binary}}
            reconnect: {max: 1m}
        log: {retain: 1d, max_size: 1GiB}
        broker:
        """,
    )
    assert (config.path, config.gateway) == (site, "greenhouse-1")

    door = config.devices["door"]
    assert (door.name, door.driver, door.description) == ("door", "gpio_input", "front")
    assert (of(config, "door").pin, of(config, "door").debounce) == (Pin(17), Duration(0.05))
    assert (door.report, type(door.simulate).__module__) == (reporter.Settings(), "simulators.gpio_input")
    assert config.devices["fan"].simulate is None
    assert config.devices["machine"].report == reporter.Settings(
        change={"cpu_load": Change(0.05, relative=True), "load1": Change(0)}, at_least=Duration(300)
    )

    rule = config.rules["open"]
    assert (rule.kind, rule.outcome.severity) == ("threshold", Severity.MAJOR)
    assert rule.outcome.then == outcome.Reaction(set={"fan.state": True}, otherwise=False)

    forward = config.forward["site"]
    mqtt: Any = forward.settings
    assert (forward.kind, forward.encoding) == ("mqtt", "cloudevents")
    assert (mqtt.username, mqtt.password) == ("1234", Secret("0123"))
    assert mqtt.tls is not None
    assert forward.encoding_settings == registry.module("encodings", "cloudevents").Settings(mode="binary")
    assert forward.reconnect == supervisor.Backoff(min=Duration(1), max=Duration(60))

    assert config.log == eventlog.Settings(retain=Duration(86_400), max_size=Size(2**30))
    assert config.broker == BrokerSettings()


def test_what_is_not_written_has_its_default(site: Path) -> None:
    config = loaded(site, "devices:\nrules:\nforward: {site: {mqtt: {host: b}}}\n")
    assert config.gateway == host_name()
    assert (config.devices, config.rules, config.log, config.broker) == ({}, {}, eventlog.Settings(), None)
    assert (config.forward["site"].encoding, config.forward["site"].reconnect) == (
        "json",
        supervisor.Backoff(),
    )


@pytest.mark.parametrize(
    ("host", "name"), [("pi-4.local", "pi-4"), ("büro pc", "b-ro-pc"), ("", "gateway"), ("--", "gateway")]
)
def test_the_gateway_is_named_after_its_host(host: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert host_name() == name


def test_a_channel_is_named_in_full_wherever_a_rule_names_it(site: Path) -> None:
    config = loaded(
        site,
        """
        devices:
          fan: {driver: gpio_output, pin: 27}
          pump: {driver: gpio_output, pin: 22}
        rules:
          alone: {threshold: {of: pump, above: 0.5}, then: {set: {fan: 0}}}
          full: {threshold: {of: pump.state, above: 0.5}, then: {set: {fan.state: 0}}}
        """,
    )
    for rule in config.rules.values():
        settings: Any = rule.settings
        assert settings.of == "pump.state"
        assert rule.outcome.then == outcome.Reaction(set={"fan.state": 0})


def test_files_beside_the_main_one_are_added_in_the_order_of_their_names(site: Path) -> None:
    Path("conf.d").mkdir()
    Path("conf.d/20.yaml").write_text("devices: {c: {driver: heartbeat}}\nlog: {commit: 0}")
    Path("conf.d/10.yaml").write_text("devices: {b: {driver: heartbeat}}")
    Path("conf.d/.30.yaml").write_text("not read")
    Path("conf.d/30.yml").write_text("not read")
    config = loaded(site, "devices: {a: {driver: heartbeat}}")
    assert list(config.devices) == ["a", "b", "c"]
    assert config.log.commit == Duration(0)


def test_what_is_merged_comes_after_what_is_written(site: Path) -> None:
    config = loaded(
        site,
        """
        devices:
          one: &contact {driver: gpio_input, pin: 17, pull: up}
          two: {<<: *contact, pin: 18}
          three: {<<: [{pin: 19}, *contact], pull: down}
        """,
    )
    assert [(of(config, name).pin, of(config, name).pull) for name in ("one", "two", "three")] == [
        (17, "up"),
        (18, "up"),
        (19, "down"),
    ]


@pytest.mark.parametrize(
    ("written", "safe"),
    [("on", True), ("Off", False), ("yes", True), ("NO", False), ("true", True), ("False", False)],
)
def test_a_switch_is_written_in_any_word_of_yaml(site: Path, written: str, safe: bool) -> None:
    config = loaded(site, f"devices: {{fan: {{driver: gpio_output, pin: 27, safe: {written}}}}}")
    assert of(config, "fan").safe is safe


@pytest.mark.parametrize(
    ("written", "value"), [("on", True), ("3", 3), ("2.5", 2.5), ("1e3", 1000.0), ('"on"', "on")]
)
def test_an_output_is_set_to_what_is_written(
    site: Path, written: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.gpio_output.Driver.checked", contracts.Output.checked)  # takes any value
    config = loaded(
        site,
        "devices: {fan: {driver: gpio_output, pin: 27}, door: {driver: gpio_input, pin: 17}}\n"
        f"rules: {{r: {{threshold: {{of: door, above: 1}}, then: {{set: {{fan: {written}}}}}}}}}",
    )
    then = config.rules["r"].outcome.then
    assert then is not None
    [found] = then.set.values()
    assert found == value
    assert type(found) is type(value)


# --- variables and secrets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "description"),
    [
        ("${SITE}", "greenhouse"),
        ("the ${SITE}, ${ROOM:-all of it}", "the greenhouse, all of it"),
        ("${EMPTY:-default}", "default"),
        ("'${EMPTY}'", ""),
        ("costs $5 or $${SITE}", "costs $5 or ${SITE}"),
        ("no", "no"),
        ("010", "010"),
    ],
)
def test_a_variable_is_filled_in(site: Path, written: str, description: str) -> None:
    text = f"devices:\n  a:\n    driver: heartbeat\n    description: {written}\n"
    assert loaded(site, text, SITE="greenhouse", EMPTY="").devices["a"].description == description


def test_a_variable_is_read_as_if_it_were_written_there(site: Path) -> None:
    text = """
    devices:
      a: {driver: "${DRIVER}", every: "${EVERY}"}
    broker: {port: "${PORT:-1885}"}
    """
    config = loaded(site, text, DRIVER="heartbeat", EVERY="5s")
    assert of(config, "a").every == Duration(5)
    assert config.broker == BrokerSettings(port=1885)


def test_a_secret_is_a_credential_then_a_variable_then_in_the_file(site: Path, tmp_path: Path) -> None:
    text = "forward: {site: {mqtt: {host: b, username: u, password: !secret site-mqtt}}}"
    secrets = Path("secrets.yaml")
    secrets.write_text("site-mqtt: 0123\n")
    secrets.chmod(0o600)

    def password(**environment: str) -> str:
        settings: Any = loaded(site, text, **environment).forward["site"].settings
        return str(settings.password)

    assert password() == "0123"
    variable = {"GATEPOST_SECRET_SITE_MQTT": "from a variable"}
    assert password(**variable) == "from a variable"
    assert password(**variable, CREDENTIALS_DIRECTORY=str(tmp_path)) == "from a variable"
    (tmp_path / "site-mqtt").write_text("from systemd\n")
    assert password(**variable, CREDENTIALS_DIRECTORY=str(tmp_path)) == "from systemd"


def test_a_credential_that_is_no_text_is_a_fault(site: Path, tmp_path: Path) -> None:
    site.write_text("gateway: !secret name")
    (tmp_path / "name").write_bytes(b"\xff\xfe")
    assert faults(site, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == [
        "site.yaml:1:10: gateway: the credential 'name' cannot be read: it is not text in UTF-8"
    ]


def test_a_password_shows_nowhere(site: Path) -> None:
    config = loaded(site, "forward: {site: {mqtt: {host: b, username: u, password: open sesame}}}")
    assert "sesame" not in repr(config)


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "site.yaml: the file is empty, expected a map"),
        (b"gateway: b\xfcro", "site.yaml:1:11: the byte 0xFC is not UTF-8, expected a text file in UTF-8"),
        (
            b"a: \xc3\xa9\nb: \xc3\xa9\xff",
            "site.yaml:2:5: the byte 0xFF is not UTF-8, expected a text file in UTF-8",
        ),
        (b"a: b\n\x00\x01", "site.yaml:2:1: the character U+0000 cannot be in YAML, expected a text file"),
        (b"a: " + b"b" * 2**20, "site.yaml: the file is larger than 1 MiB, which no configuration is"),
        (
            b"a: " + b"[" * 100,
            "site.yaml:1:53: nested more than 50 levels deep, which no configuration is",
        ),
        (
            b"a: [" + b"1," * 60_000 + b"]",
            "site.yaml:1:99999: with its aliases the file holds more than 50000 values, which no configuration does",
        ),
    ],
    ids=["empty", "latin-1", "garbage", "binary", "huge", "deep", "long"],
)
def test_a_file_that_is_no_configuration_is_a_fault(site: Path, content: bytes, fault: str) -> None:
    site.write_bytes(content)
    assert faults(site) == [fault]


def test_a_file_that_is_not_there_is_a_fault(site: Path) -> None:
    assert faults(site) == ["site.yaml: there is no such file"]


def test_a_directory_is_a_fault(site: Path) -> None:
    site.mkdir()
    assert faults(site) == ["site.yaml: this is a directory, expected a file"]


def test_a_folder_of_files_that_cannot_be_listed_is_a_fault(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    site.write_text("devices: {a: {driver: heartbeat}}")
    assert faults(site) == ["conf.d: this folder cannot be read: Permission denied"]


def test_a_file_with_a_byte_order_mark_is_read(site: Path) -> None:
    site.write_bytes("\ufeffgateway: büro".encode())
    assert faults(site) == [
        "site.yaml:1:10: gateway: found 'büro', expected a name of letters, digits, '_' and '-'"
    ]


def test_aliases_of_aliases_of_aliases_are_refused(site: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    site.write_text("\n".join(lines))
    [fault] = faults(site)
    assert fault.startswith("site.yaml:5:")
    assert "with its aliases the file holds more than 50000 values" in fault


def test_aliases_that_nest_ever_deeper_are_refused(site: Path) -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 60))]
    site.write_text("\n".join(lines))
    [fault] = faults(site)
    assert fault.endswith(": nested more than 50 levels deep, which no configuration is")


# --- kinds that others add ----------------------------------------------------------------------------------------


class Choice(contracts.Settings, frozen=True):
    word: str


class Odd(contracts.Settings, frozen=True, kw_only=True):
    level: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    step: Annotated[int, msgspec.Meta(multiple_of=5)] = 5
    code: Annotated[str, msgspec.Meta(pattern="^[A-Z]+$", max_length=4)] | None = None
    either: int | Literal["auto"] | list[int] | Choice = "auto"
    names: Annotated[dict[Literal["a", "b"], int], msgspec.Meta(min_length=1)] | None = None
    bag: frozenset[int] = frozenset()
    anything: Any = None
    flag: Literal[True] | None = None
    nothing_here: Choice | None = None


@pytest.fixture
def odd_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat = registry.module("drivers", "heartbeat")

    class Driver(heartbeat.Driver):  # type: ignore[misc, name-defined]
        pass

    odd = ModuleType("odd")
    vars(odd).update(Settings=Odd, Driver=Driver)
    real = registry.module

    def module(role: str, kind: str) -> ModuleType:
        if kind == "heavy":
            raise registry.MissingLibrary("'heavy' needs the Python library 'lead', which is not installed")
        return odd if (role, kind) == ("drivers", "odd") else real(role, kind)

    monkeypatch.setattr(registry, "module", module)


@pytest.mark.usefixtures("odd_driver")
@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("either: 5", 5),
        ("either: auto", "auto"),
        ("either: [1, 2]", [1, 2]),
        ("either: {word: up}", Choice(word="up")),
        ("names: {a: 1, b: 2}", {"a": 1, "b": 2}),
        ("bag: [1, 1, 2]", frozenset({1, 2})),
        ("anything: {a: [1, on, x, ~]}", {"a": [1, True, "x", None]}),
        ("flag: yes", True),
        ("flag: ~", None),
        ("nothing_here: null", None),
        ("code: NO", "NO"),
        ("level: 0.25", 0.25),
    ],
)
def test_a_value_is_read_as_its_type_by_how_it_is_written(site: Path, written: str, value: object) -> None:
    config = loaded(site, f"devices: {{a: {{driver: odd, {written}}}}}")
    assert getattr(of(config, "a"), written.partition(":")[0]) == value


@pytest.mark.usefixtures("odd_driver")
@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("level: 1", "level: found '1', expected a number above 0 and below 1"),
        ("step: 7", "step: found '7', expected a whole number that is a multiple of 5"),
        ("code: no", "code: found 'no', expected a text that matches ^[A-Z]+$ of at most 4 characters"),
        (
            "either: on",
            "either: found 'on', expected a whole number or auto or a list, each a whole number or a map",
        ),
        ("either: {}", "either: missing key 'word', expected a text"),
        ("either: [x]", "either[0]: found 'x', expected a whole number"),
        ("names: {c: 1}", "names: found 'c', expected one of a, b"),
        ("names: {}", "names: found 0 entries, expected a map that is not empty"),
        ("flag: off", "flag: found 'off', expected true"),
        ("nothing_here: ", "nothing_here: missing key 'word', expected a text"),
    ],
)
def test_a_value_that_its_type_does_not_allow_is_a_fault(site: Path, written: str, fault: str) -> None:
    site.write_text(f"devices: {{a: {{driver: odd, {written}}}}}")
    [found] = faults(site)
    assert re.sub(r"^site.yaml:\d+:\d+: devices.a.", "", found) == fault


@pytest.mark.usefixtures("odd_driver")
def test_a_missing_library_is_a_fault(site: Path) -> None:
    site.write_text("devices: {a: {driver: heavy}}")
    assert faults(site) == [
        "site.yaml:1:23: devices.a.driver: 'heavy' needs the Python library 'lead', which is not installed"
    ]


@pytest.mark.usefixtures("odd_driver")
def test_a_device_without_a_simulator_waits_for_a_simulated_run_to_say_so(site: Path) -> None:
    assert loaded(site, "devices: {a: {driver: odd}}").devices["a"].simulate == contracts.Settings()
    site.write_text("devices: {a: {driver: odd, simulate: {noise: 1}}}")
    [fault] = faults(site)
    assert fault.startswith("site.yaml:1:28: devices.a.simulate: unknown simulator 'odd'")


# --- the starting configuration -----------------------------------------------------------------------------------


def uncommented(lines: list[str]) -> list[str]:
    return [re.sub(r"^( *)# ", r"\1", line) if re.match(r" *# ", line) else line for line in lines]


def blocks() -> list[int]:
    """Return the number of the last line of each block that is commented out."""
    lines = STARTING.read_text().splitlines()
    commented = [bool(re.match(r" *# ", line)) for line in lines]
    return [
        n
        for n, (here, after) in enumerate(zip(commented, [*commented[1:], False], strict=True))
        if here and not after
    ][1:]


def test_the_starting_configuration_runs_with_nothing_wired() -> None:
    config = load(STARTING, {})
    assert {device.driver for device in config.devices.values()} == {"system", "heartbeat"}
    assert [rule.kind for rule in config.rules.values()] == ["threshold"]
    assert (config.forward, config.broker) == ({}, None)


@pytest.mark.parametrize("last", blocks())
def test_each_block_that_is_commented_out_loads_once_those_above_it_are_taken_up(
    site: Path, last: int
) -> None:
    lines = STARTING.read_text().splitlines()
    text = "\n".join([*uncommented(lines[1 : last + 1]), *lines[last + 1 :]])
    loaded(site, text, GATEPOST_SECRET_MQTT="open sesame")


def complaint(path: Path, environment: dict[str, str]) -> str:
    """Return all that is said about a file, nothing where it loads."""
    try:
        load(path, environment)
    except ConfigError as error:
        return str(error)
    return ""


def scalars(node: yaml.Node | None) -> list[yaml.ScalarNode]:
    """Return all scalars that are values."""
    if isinstance(node, yaml.ScalarNode):
        return [node]
    assert isinstance(node, yaml.MappingNode | yaml.SequenceNode)
    inner = [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else node.value
    return [each for value in inner for each in scalars(value)]


def test_who_only_looks_needs_no_secrets_wherever_they_stand(site: Path) -> None:
    site.write_text(
        "forward: {site: {mqtt: {host: !secret broker, username: u, password: !secret password}}}"
    )
    assert load(site, {}, with_secrets=False).forward.keys() == {"site"}


def test_a_secret_in_the_place_of_any_value_is_never_shown(site: Path) -> None:
    text = "\n".join(uncommented(STARTING.read_text().splitlines()[1:]))
    for scalar in scalars(yaml.compose(text)):
        start, end = scalar.start_mark.index, scalar.end_mark.index
        site.write_text(f"{text[:start]}!secret it {text[end:]}")
        for secret in ("open sesame", "sesame", "${sesame}", "-1"):
            said = complaint(site, {"GATEPOST_SECRET_IT": secret, "GATEPOST_SECRET_MQTT": "open sesame"})
            assert "sesame" not in said, text[start:end]


def test_all_blocks_together_make_a_whole_site(site: Path) -> None:
    text = "\n".join(uncommented(STARTING.read_text().splitlines()[1:]))
    config = loaded(site, text, GATEPOST_SECRET_MQTT="open sesame")
    assert (len(config.devices), len(config.rules), len(config.forward)) == (5, 3, 1)
    assert config.broker is not None
