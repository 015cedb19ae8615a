#!/usr/bin/env bash
# A manifest list for both platforms like that of a release, built from the Dockerfile by buildah, the second
# builder that it must support. Each entry must have the binary of its platform, and the label, the health
# check and the data folder of the Dockerfile.
#
#   BMS_READER, BMS_READER_ARM64   the static binaries (default: dist/amd64 and dist/arm64)
. "$(dirname "$0")/common.sh"

AMD64=$(binary BMS_READER dist/amd64/bms-reader)
ARM64=$(binary BMS_READER_ARM64 dist/arm64/bms-reader)
[ "$(id -u)" = 0 ] || skip "buildah needs root here"
packages buildah || skip "buildah cannot be installed"

# Storage in plain folders needs no privileges and is removed with the work folder.
BUILDAH=(buildah --storage-driver vfs --root "$WORK/images" --runroot "$WORK/run")
CONTEXT=$WORK/context
mkdir -p "$CONTEXT/dist/amd64" "$CONTEXT/dist/arm64"
cp "$AMD64" "$CONTEXT/dist/amd64/bms-reader"
cp "$ARM64" "$CONTEXT/dist/arm64/bms-reader"
cp "$REPOSITORY/Dockerfile" "$REPOSITORY/.dockerignore" "$CONTEXT"

build() {
  "${BUILDAH[@]}" build --isolation chroot --format docker --build-arg BIN=prebuilt \
    --platform linux/amd64,linux/arm64 --manifest bms-reader:list "$CONTEXT"
}

push() { "${BUILDAH[@]}" manifest push --all --format v2s2 bms-reader:list "dir:$WORK/pushed"; }

# has_only ARCHITECTURE BINARY
has_only() {
  python3 - "$WORK/pushed" "$1" "$2" <<'PY'
import hashlib, json, pathlib, sys, tarfile

folder, wanted, binary = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
blob = lambda digest: folder / digest.split(":")[1]
entries = json.loads((folder / "manifest.json").read_text())["manifests"]
assert sorted(e["platform"]["architecture"] for e in entries) == ["amd64", "arm64"], entries
entry = next(e for e in entries if e["platform"]["architecture"] == wanted)
name = entry["digest"].split(":")[1] + ".manifest.json"
manifest = json.loads((folder / name).read_text())
config = json.loads(blob(manifest["config"]["digest"]).read_text())
assert config["architecture"] == wanted, config["architecture"]
assert "Healthcheck" in config["config"], sorted(config["config"])
assert config["config"]["Labels"]["io.hass.arch"] == "aarch64|amd64"
files = {}
for layer in manifest["layers"]:
    with tarfile.open(blob(layer["digest"])) as tar:
        for member in tar:
            content = tar.extractfile(member)
            files[member.name.strip("./")] = (member, content.read() if content else b"")
names = sorted(name for name in files if name)
assert set(names) <= {"bms-reader", "data"}, names
member, content = files["bms-reader"]
assert member.mode & 0o111 == 0o111, oct(member.mode)
assert hashlib.sha256(content).digest() == hashlib.sha256(binary.read_bytes()).digest(), "another binary"
assert files["data"][0].uid == 65534, files["data"][0].uid
PY
}

check "the Dockerfile builds both platforms into one list" build
check "the list can be pushed" push
check "amd64: the entry has its binary and nothing else" has_only amd64 "$AMD64"
check "arm64: the entry has its binary and nothing else" has_only arm64 "$ARM64"
finish
