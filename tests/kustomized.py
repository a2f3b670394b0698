"""What does a kustomization come to? As much of kustomize as ours use; a test compares it with kubectl where there is one."""

import copy
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

KNOWN = {
    "apiVersion",
    "kind",
    "namespace",
    "resources",
    "configMapGenerator",
    "secretGenerator",
    "patches",
    "images",
    "replicas",
}
WITHOUT_NAMESPACE = {"Namespace"}


class UnknownToUs(Exception):
    """A kustomization does something that this reader does not know; it is taught here."""


def kustomized(folder: Path) -> list[Manifest]:
    """Its manifests; raises OSError for a file that is not there, UnknownToUs for what is not understood."""
    told = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := told.keys() - KNOWN:
        raise UnknownToUs(f"{folder}: {unknown}")
    manifests = [manifest for name in told.get("resources", []) for manifest in _resource(folder / name)]
    for kind, key in (("ConfigMap", "configMapGenerator"), ("Secret", "secretGenerator")):
        for generator in told.get(key, []):
            _generate(manifests, kind, generator, folder)
    for patch in told.get("patches", []):
        manifests = _patched(manifests, patch, folder)
    for manifest in manifests:
        if "namespace" in told and manifest["kind"] not in WITHOUT_NAMESPACE:
            manifest["metadata"]["namespace"] = told["namespace"]
        _set_images(manifest, told.get("images", []))
        for replicas in told.get("replicas", []):
            if manifest["kind"] == "Deployment" and manifest["metadata"]["name"] == replicas["name"]:
                manifest["spec"]["replicas"] = replicas["count"]
    return manifests


def _resource(path: Path) -> list[Manifest]:
    if path.is_dir():
        return kustomized(path)
    return [manifest for manifest in yaml.safe_load_all(path.read_text()) if manifest]


def _generate(manifests: list[Manifest], kind: str, generator: Manifest, folder: Path) -> None:
    data = {}
    for name in generator.get("files", []):
        data[Path(name).name] = (folder / name).read_text()
    for name in generator.get("envs", []):
        lines = (folder / name).read_text().splitlines()
        data |= dict(line.split("=", 1) for line in lines if line.strip() and not line.startswith("#"))
    if generator.get("behavior") == "merge":
        (present,) = (m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == generator["name"])
        present["data"] |= data
        return
    labels = generator.get("options", {}).get("labels", {})
    manifests.append(
        {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {"name": generator["name"], **({"labels": labels} if labels else {})},
            "data": data,
        }
    )


def _patched(manifests: list[Manifest], patch: Manifest, folder: Path) -> list[Manifest]:
    text = patch.get("patch") or (folder / patch["path"]).read_text()
    change, target = yaml.safe_load(text), patch["target"]
    chosen = [manifest for manifest in manifests if _is_target(manifest, target)]
    if not chosen:
        raise UnknownToUs(f"{folder}: a patch that applies to nothing: {target}")
    if isinstance(change, dict) and change.get("$patch") == "delete":
        return [manifest for manifest in manifests if manifest not in chosen]
    for manifest in chosen:
        if isinstance(change, list):
            _operate(manifest, change)
        else:
            for part in ("spec", "metadata"):
                wanted = {k: v for k, v in change.get(part, {}).items() if (part, k) != ("metadata", "name")}
                manifest[part] = merged(manifest[part], wanted)
    return manifests


def _is_target(manifest: Manifest, target: Manifest) -> bool:
    labels = manifest["metadata"].get("labels", {})
    key, _, value = target.get("labelSelector", "").partition("=")
    return (
        manifest["kind"] == target.get("kind", manifest["kind"])
        and bool(re.fullmatch(target.get("name", ".*"), manifest["metadata"]["name"]))
        and (not key or (key in labels and value in ("", labels[key])))
    )


def merged(present: Any, wanted: Any) -> Any:
    """A strategic merge: mappings by key, lists of what has a name by that name, anything else replaced."""
    if isinstance(present, dict) and isinstance(wanted, dict):
        keys = [*present, *(key for key in wanted if key not in present)]
        return {
            key: merged(present[key], wanted[key]) if key in present and key in wanted else {**present, **wanted}[key]
            for key in keys
        }
    if isinstance(present, list) and isinstance(wanted, list) and all(_is_named(each) for each in [*present, *wanted]):
        by_name = {each["name"]: each for each in present}
        for each in wanted:
            by_name[each["name"]] = merged(by_name.get(each["name"], {}), each)
        return list(by_name.values())
    return copy.deepcopy(wanted)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and "name" in value


def _operate(manifest: Manifest, operations: Sequence[Manifest]) -> None:
    for operation in operations:
        *way, last = operation["path"].lstrip("/").split("/")
        at: Any = manifest
        for step in way:
            at = at[int(step)] if isinstance(at, list) else at[step]
        if last not in at:
            raise UnknownToUs(f"{operation['path']} is not in {manifest['metadata']['name']}")
        if operation["op"] == "remove":
            del at[last]
        elif operation["op"] == "replace":
            at[last] = operation["value"]
        else:
            raise UnknownToUs(f"the operation {operation['op']}")


def _set_images(manifest: Manifest, images: Sequence[Manifest]) -> None:
    for container in containers_of(manifest):
        name, _, _ = container["image"].partition(":")
        for image in images:
            if image["name"] == name:
                container["image"] = f"{image.get('newName', name)}:{image['newTag']}"


def containers_of(manifest: Manifest) -> Iterator[Manifest]:
    """The containers of a Deployment or a Job; nothing of anything else."""
    if manifest["kind"] in ("Deployment", "Job"):
        yield from manifest["spec"]["template"]["spec"]["containers"]
