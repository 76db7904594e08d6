"""The files of cluster/: launcher configurations against Ray's own schema, pods against that of Kubernetes, and all of them
against this release."""

import inspect
import json
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import ray.autoscaler
import yaml
from mlflow.server.security_utils import is_allowed_host_header
from ray._private.ray_constants import RAY_RUNTIME_ENV_CREATE_WORKING_DIR_ENV_VAR
from ray.dashboard.modules.job import job_supervisor
from ray.runtime_env import RuntimeEnv

import ltdiff
from ltdiff import cli
from ltdiff.training.ray_driver import STOP_S

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
LAUNCHER_FILES = ("on-prem.yaml", "aws.yaml")
KUBERAY_FILES = ("raycluster.yaml", "rayjob.yaml")
KUBERNETES = "1.34"
IMAGE = f"REGISTRY/ltdiff:{ltdiff.__version__}"

# Of KubeRay's API reference (ray.io/v1), what is used here: an unknown field would be dropped or refused by the operator.
WORKER_GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
RAY_CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
RAY_JOB = {
    "entrypoint",
    "backoffLimit",
    "shutdownAfterJobFinishes",
    "ttlSecondsAfterFinished",
    "runtimeEnvYAML",
    "rayClusterSpec",
}


def read(name):
    return yaml.safe_load((CLUSTER / name).read_text())


def cluster_spec(name):
    spec = read(name)["spec"]
    return spec.get("rayClusterSpec", spec)


def pods(name):
    spec = cluster_spec(name)
    return [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def ray_schema():
    return json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())


@pytest.mark.parametrize("name", LAUNCHER_FILES)
def test_launcher_configurations_follow_rays_schema(name):
    config = read(name)
    jsonschema.validate(config, ray_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config | {"max_worker": 4}, ray_schema())


@pytest.mark.parametrize("name", LAUNCHER_FILES)
def test_launcher_configurations_need_the_token(name):
    """Ray would start without one, and run the code of whoever reaches it."""
    assert "/home/ray/.ray/auth_token" in read(name)["file_mounts"]
    assert "RAY_AUTH_MODE=token" in (CLUSTER / "Containerfile").read_text()
    (head,) = [line for line in read(name)["head_start_ray_commands"] if "--head" in line]
    assert "dashboard-host=127.0.0.1" in head


@pytest.mark.parametrize("name", KUBERAY_FILES)
def test_pods_follow_the_schema_of_kubernetes(name):
    for spec in pods(name):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        spelled_wrong = pod | {"spec": spec | {"volume": []}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(spelled_wrong, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", KUBERAY_FILES)
def test_pods_mount_the_volumes_that_they_declare(name):
    for spec in pods(name):
        declared = {volume["name"] for volume in spec["volumes"]}
        mounted = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
        assert "data" in mounted <= declared


@pytest.mark.parametrize("name", KUBERAY_FILES)
def test_kuberay_manifests_have_only_known_fields(name):
    manifest, spec = read(name), cluster_spec(name)
    assert manifest["apiVersion"] == "ray.io/v1"
    if manifest["kind"] == "RayJob":
        assert set(manifest["spec"]) <= RAY_JOB
    else:
        assert manifest["kind"] == "RayCluster"
    assert set(spec) <= RAY_CLUSTER
    assert spec["authOptions"] == {"mode": "token"}
    assert set(spec["headGroupSpec"]) <= {"rayStartParams", "template"}
    assert all(set(group) <= WORKER_GROUP for group in spec["workerGroupSpecs"])
    params = [group["rayStartParams"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    assert all(isinstance(value, str) for one in params for value in one.values())  # the operator refuses numbers


def test_every_file_names_this_release():
    assert version("ray") == cluster_spec("raycluster.yaml")["rayVersion"] == cluster_spec("rayjob.yaml")["rayVersion"]
    images = [read(name)["docker"]["image"] for name in LAUNCHER_FILES]
    images += [c["image"] for name in KUBERAY_FILES for spec in pods(name) for c in spec["containers"]]
    assert set(images) == {IMAGE}
    assert f"ltdiff:{ltdiff.__version__}" in (CLUSTER / "Containerfile").read_text()
    assert f"mlflow=={version('mlflow')}" in (CLUSTER / "mlflow.yaml").read_text()


def test_the_image_is_built_from_files_and_extras_that_exist():
    text = (CLUSTER / "Containerfile").read_text()
    sources = [word for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()]
    assert sources
    assert all((ROOT / source).exists() for source in sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.split(".")[0].rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= set(sources)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"\.\[(\w+)\]", text)) <= set(extras)
    assert re.search(r"apt-get install .*\bgcc\b", text)  # PyRadiomics is compiled; the slim image has no compiler


def test_a_job_brings_the_dependencies_and_codecs_along_but_for_ray():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    constraint, *packages = read("runtime-env.yaml")["pip"]["packages"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["codecs"]]
    assert packages == [package for package in needed if not package.startswith("ray[")]
    folder, name = constraint.removeprefix("--constraint ").split("/")
    assert folder == f"${{{RAY_RUNTIME_ENV_CREATE_WORKING_DIR_ENV_VAR}}}"  # pip's way to write a variable
    assert f"!/{name}" in (ROOT / ".rayignore").read_text().splitlines()


def test_ray_takes_the_environment_of_a_job():
    config = read("runtime-env.yaml")
    environment = RuntimeEnv(**config)
    assert environment.pip_config()["packages"] == config["pip"]["packages"]
    assert int(config["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) > STOP_S


def test_the_rayjob_runs_a_command_of_this_release(tmp_path, capsys):
    """With its manifest missing it must fail at that, not at an option."""
    program, *arguments = read("rayjob.yaml")["spec"]["entrypoint"].split()
    assert program == "ltdiff"
    assert cli.run_ltdiff([word.replace("/data", str(tmp_path)) for word in arguments]) == 1
    assert "pairs.parquet" in capsys.readouterr().err


def test_the_mlflow_service_keeps_its_passwords_out_of_the_file():
    config = read("mlflow.yaml")
    assert set(config["services"]) == {"database", "objects", "mlflow"}
    for service in config["services"].values():
        for name, value in service["environment"].items():
            if "PASSWORD" in name or "KEY" in name:
                assert value.startswith("${")
    assert {volume.split(":")[0] for s in config["services"].values() for volume in s.get("volumes", [])} == set(
        config["volumes"]
    )


def test_the_mlflow_service_answers_to_its_name_and_to_no_other():
    allowed = read("mlflow.yaml")["services"]["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"]
    hosts = re.sub(r"\$\{MLFLOW_HOST:-\w+\}", "mlflow.clinic.org", allowed).split(",")
    for known in ("mlflow.clinic.org", "mlflow.clinic.org:5000", "127.0.0.1:5000", "localhost:5000"):
        assert is_allowed_host_header(hosts, known)
    assert not is_allowed_host_header(hosts, "elsewhere.org:5000")


def test_a_stopped_job_has_time_for_its_checkpoint():
    """Ray kills it after three seconds unless the node's environment says otherwise."""
    (waits_s,) = re.findall(r"RAY_JOB_STOP_WAIT_TIME_S=(\d+)", (CLUSTER / "Containerfile").read_text())
    assert int(waits_s) > STOP_S
    assert "RAY_JOB_STOP_WAIT_TIME_S" in inspect.getsource(job_supervisor)  # the variable is this Ray's
