"""One version of everything, wherever it is named: manifests, compose files, Dockerfiles, the package."""

import re
import tomllib

import pytest

from tests.k8s.manifests import ALL, ROOT, composed, is_ours, name_of, named, of_kind, pods_of, rendered

VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def split(image: str) -> tuple[str, str]:
    repository, _, tag = image.rpartition(":") if re.search(r":[^/]+$", image) else (image, "", "")
    return repository, tag


def test_an_image_of_somebody_else_has_one_tag_everywhere() -> None:
    images = [service["image"] for _, service in composed() if "image" in service]
    images += [container["image"] for name in ALL for pods in pods_of(rendered(name)) for container in pods.containers]
    for dockerfile in ROOT.glob("Dockerfile.*"):
        images += re.findall(r"^FROM (\S+)", dockerfile.read_text(), re.MULTILINE)
    tags: dict[str, set[str]] = {}
    for repository, tag in map(split, images):
        if not is_ours(repository):
            tags.setdefault(repository, set()).add(tag)

    assert {"postgres", "redis", "rabbitmq", "quay.io/minio/minio", "quay.io/keycloak/keycloak", "python"} <= set(tags)
    assert not {repository: found for repository, found in tags.items() if len(found) != 1 or found & {"", "latest"}}


@pytest.mark.parametrize("name", ALL)
def test_our_images_have_the_version_of_the_package(name: str) -> None:
    ours = {split(c["image"]) for pods in pods_of(rendered(name)) for c in pods.containers if is_ours(c["image"])}

    registry = "registry.example.com/" if name.startswith("prod") else ""
    assert ours == {(f"{registry}image-processor-api", VERSION), (f"{registry}image-processor-worker", VERSION)}


@pytest.mark.parametrize("name", ALL)
def test_each_version_has_a_migration_job_of_its_own(name: str) -> None:
    """A Job cannot be changed: with the name of the one before, the next version could not be applied."""
    job = named(rendered(name), "Job", f"migrate-{VERSION.replace('.', '-')}")

    # nor does it name anything whose name changes within a version
    made = {name_of(document) for document in of_kind(rendered(name), "ConfigMap")}
    assert not [each for each in made if f"'{each}'" in str(job["spec"])]
    assert job["spec"]["ttlSecondsAfterFinished"] > 0


def test_the_images_have_the_names_that_the_compose_file_gives_them() -> None:
    composed_names = {service["image"] for _, service in composed("docker-compose.prod.yml") if is_ours(service["image"])}

    assert composed_names == {"image-processor-api", "image-processor-worker"}


@pytest.mark.parametrize("name", ALL)
def test_an_image_is_not_pulled_again_where_it_was_loaded_into_the_node(name: str) -> None:
    """The default for a tag that is not `latest`; `Always` would make `kind load` useless."""
    for document in of_kind(rendered(name), "Deployment", "StatefulSet", "Job"):
        assert "imagePullPolicy" not in str(document)
