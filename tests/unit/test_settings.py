"""Where settings come from, in which order, and what a wrong one says."""

import re
from pathlib import Path

import pytest
import yaml

from cli.main import main
from cli.standalone import embedded_settings
from common.errors import WrongConfiguration
from common.settings import SECRETS, Settings, load

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No .env, no config.yaml, no variable of the machine."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    monkeypatch.delenv("CONFIG_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_environment_comes_before_dotenv_before_yaml_before_defaults(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_folder / "config.yaml").write_text("gateway_port: 1001\nworker_port: 1001\nmax_attempts: 7\n")
    (empty_folder / ".env").write_text("GATEWAY_PORT=1002\nWORKER_PORT=1002\n")
    monkeypatch.setenv("GATEWAY_PORT", "1003")

    settings = load()

    assert (settings.gateway_port, settings.worker_port, settings.max_attempts) == (1003, 1002, 7)
    assert settings.max_outages == 200


@pytest.mark.parametrize("name", SECRETS)
def test_every_secret_can_be_a_file(name: str, empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"postgres_url": "postgresql://a:b@c/d", "redis_url": "redis://:x@c", "rabbitmq_url": "amqp://a:b@c/"}.get(name, "xyz")
    (empty_folder / "secret").write_text(f"{value}\n")
    monkeypatch.setenv(f"{name.upper()}_FILE", str(empty_folder / "secret"))

    assert getattr(load(), name).get_secret_value() == value


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("GATEWAY_PORT", "seven", "GATEWAY_PORT: "),
        ("GATEWAY_PORT", "70000", "GATEWAY_PORT: "),
        ("STORAGE_TYPE", "ftp", "STORAGE_TYPE: "),
        ("POSTGRES_URL", "mysql://user:hunter2@host/db", "POSTGRES_URL: must begin with postgresql://"),
        ("REDIS_URL", "localhost", "REDIS_URL: must begin with redis://"),
        ("RABBITMQ_URL", "http://localhost", "RABBITMQ_URL: must begin with amqp://"),
        ("KEYCLOAK_URL", "localhost:8080", "KEYCLOAK_URL: must begin with http://"),
        ("MINIO_ENDPOINT", "ftp://minio", "MINIO_ENDPOINT: must be HOST:PORT"),
        ("LEASE_SECONDS", "0", "LEASE_SECONDS: "),
        # no calendar has such dates, and nothing is to be found out at the first sweep
        ("RETENTION_DAYS", "1000000", "RETENTION_DAYS: "),
        ("RETENTION_DAYS", "inf", "RETENTION_DAYS: "),
        ("SWEEP_INTERVAL_SECONDS", "1e15", "SWEEP_INTERVAL_SECONDS: "),
        ("SWEEP_GRACE_SECONDS", "inf", "SWEEP_GRACE_SECONDS: "),
        ("MINIO_SECRET_KEY_FILE", "/nowhere", "MINIO_SECRET_KEY_FILE: cannot read /nowhere"),
        ("TLS_CA_FILE", "/nowhere", "TLS_CA_FILE: cannot read /nowhere: No such file or directory"),
        ("TLS_CA_FILE", "/etc", "TLS_CA_FILE: cannot read /etc: Is a directory"),
        ("TLS_CA_FILE", __file__, f"TLS_CA_FILE: {__file__} is no PEM file of certificates"),
        ("MAX_UPLOAD_BYTES", "10MB", "MAX_UPLOAD_BYTES: must be a whole number, as in 10485760"),
        ("PRESETS", "thumb=resize:200", "PRESETS: must be JSON, as in {"),
        ("CORS_ORIGINS", "https://app.example.com", "CORS_ORIGINS: must be JSON, as in ["),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable_and_exit_2(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr("sys.argv", ["image-processor", "worker"])

    with pytest.raises(SystemExit) as exit_:
        main()

    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"image-processor: {said}")
    assert error.count("\n") == 1
    assert "hunter2" not in error


def test_an_unknown_key_in_the_file_is_not_ignored(empty_folder: Path) -> None:
    (empty_folder / "config.yaml").write_text("gatewayport: 3000\n")

    with pytest.raises(WrongConfiguration, match="gatewayport: there is no such setting"):
        load()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_frames: 3\ngateway: port: 3\n", "config.yaml is no YAML, see line 2"),
        ("{", "config.yaml is no YAML"),
        ("- max_frames\n", "config.yaml must be lines of NAME: VALUE"),
        ("max_frames\n", "config.yaml must be lines of NAME: VALUE"),
        ("3\n", "config.yaml must be lines of NAME: VALUE"),
    ],
)
def test_a_file_that_is_no_list_of_settings_is_named(empty_folder: Path, text: str, said: str) -> None:
    (empty_folder / "config.yaml").write_text(text)

    with pytest.raises(WrongConfiguration, match=f"CONFIG_FILE: {said}"):
        load()


def test_a_file_that_is_named_has_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIG_FILE", "/nowhere.yaml")

    with pytest.raises(WrongConfiguration, match=r"CONFIG_FILE: there is no file /nowhere\.yaml"):
        load()


def test_an_empty_file_is_no_settings(empty_folder: Path) -> None:
    (empty_folder / "config.yaml").write_text("# nothing\n")

    assert load() == Settings()


def test_a_secret_file_can_be_named_in_dotenv_and_the_environment_comes_first(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / "secret").write_text("from the file\n")
    (empty_folder / ".env").write_text(f"MINIO_SECRET_KEY_FILE={empty_folder}/secret\n")

    assert load().minio_secret_key.get_secret_value() == "from the file"

    monkeypatch.setenv("MINIO_SECRET_KEY", "from the environment")

    assert load().minio_secret_key.get_secret_value() == "from the environment"


def test_a_secret_given_twice_is_refused(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_folder / "secret").write_text("xyz")
    monkeypatch.setenv("MINIO_SECRET_KEY", "abc")
    monkeypatch.setenv("MINIO_SECRET_KEY_FILE", str(empty_folder / "secret"))

    with pytest.raises(WrongConfiguration, match="set this or MINIO_SECRET_KEY, not both"):
        load()


@pytest.mark.parametrize("default", ["postgres_url", "rabbitmq_url", "minio_access_key", "minio_secret_key"])
def test_production_refuses_each_development_password(default: str) -> None:
    safe = {
        "postgres_url": "postgresql://app:long@db/app",
        "rabbitmq_url": "amqp://app:long@mq/",
        "minio_access_key": "app",
        "minio_secret_key": "long",
    }
    del safe[default]

    with pytest.raises(WrongConfiguration, match=f"{default.upper()}: production refuses"):
        load(environment="production", **safe)


def test_production_takes_real_passwords() -> None:
    settings = load(
        environment="production",
        postgres_url="postgresql://app:long@db/app",
        rabbitmq_url="amqp://app:long@mq/",
        minio_access_key="app",
        minio_secret_key="long",
    )

    assert settings.environment == "production"


def test_the_embedded_mode_refuses_production() -> None:
    with pytest.raises(WrongConfiguration, match="ENVIRONMENT: "):
        load(environment="production", mode="embedded")


def test_the_embedded_mode_goes_by_the_settings_where_the_command_line_says_nothing(empty_folder: Path) -> None:
    assert embedded_settings().log_level == "warning"

    (empty_folder / ".env").write_text("DATA_DIR=elsewhere\nGATEWAY_PORT=4000\nLOG_LEVEL=info\n")
    settings = embedded_settings()

    assert (settings.data_dir, settings.storage_path) == (Path("elsewhere"), Path("elsewhere/blobs"))
    assert (settings.gateway_port, settings.issuer) == (4000, "http://localhost:4000/realms/ImageProcessor")
    assert settings.log_level == "info"
    assert embedded_settings(5000, Path("here")).gateway_port == 5000
    assert embedded_settings(5000, Path("here")).data_dir == Path("here")


def test_secrets_do_not_show_when_printed() -> None:
    assert "guest" not in repr(load())


def test_the_issuer_is_the_public_address_and_the_keys_come_from_the_internal_one() -> None:
    settings = load(keycloak_url="http://keycloak:8080/", keycloak_public_url="https://login.example.org/")

    assert settings.issuer == "https://login.example.org/realms/ImageProcessor"
    assert settings.jwks_url == "http://keycloak:8080/realms/ImageProcessor/protocol/openid-connect/certs"


def _documented(settings: set[str]) -> set[str]:
    return settings - {"mode"}


def test_the_examples_and_the_readme_name_every_setting_and_no_other() -> None:
    names = _documented(set(Settings.model_fields))
    env = set(re.findall(r"^#?\s?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    in_yaml = set(yaml.safe_load(re.sub(r"^# (?=[a-z_]+:)", "", (ROOT / "config.example.yaml").read_text(), flags=re.MULTILINE)))
    table = set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE))

    assert {name.lower() for name in env} == names
    assert in_yaml == names - set(SECRETS)
    assert {name.lower() for name in table} == names


def test_the_examples_load(empty_folder: Path) -> None:
    (empty_folder / ".env").write_text((ROOT / ".env.example").read_text())
    (empty_folder / "config.yaml").write_text((ROOT / "config.example.yaml").read_text())

    assert load() == Settings()


def test_the_examples_are_the_defaults(empty_folder: Path) -> None:
    (empty_folder / ".env").write_text(re.sub(r"^# (?=[A-Z_]+=)", "", (ROOT / ".env.example").read_text(), flags=re.MULTILINE))

    assert load() == Settings(_env_file=None)

    (empty_folder / ".env").unlink()
    text = re.sub(r"^# (?=[a-z_]+:)", "", (ROOT / "config.example.yaml").read_text(), flags=re.MULTILINE)
    (empty_folder / "config.yaml").write_text(text)

    assert load() == Settings()


def test_the_production_stack_passes_on_the_settings_that_its_first_lines_name() -> None:
    text = (ROOT / "docker-compose.prod.yml").read_text()
    named = re.findall(r"\b[A-Z_]{6,}\b", text.partition("the programs' own settings (README.md) ")[2].partition(".\n")[0])
    passed = [name for name, value in yaml.safe_load(text)["x-settings"].items() if value is None]

    assert named == passed
    assert {name.lower() for name in passed} <= set(Settings.model_fields)
