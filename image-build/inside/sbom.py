#!/usr/bin/env python3
"""Writes what the image is made of: an SPDX 2.3 list of Debian packages and crates, and a manifest for people.

sbom.py VERSION SPDX MANIFEST
"""

import hashlib
import json
import os
import re
import sys
import time
import tomllib

SOURCE = "/src"
IMAGE = "/image"


def packages():
    """The Debian packages, as the lock file names them."""
    with open(f"{SOURCE}/image-build/packages.lock", encoding="utf-8") as lock:
        for line in lock:
            if not line.startswith("#"):
                name, version, architecture, digest, size, uri = line.split()
                yield {"name": name, "version": version, "architecture": architecture, "sha256": digest, "uri": uri}


def crates():
    """The crates that the two programs are built of, as `make cross` lists them, with the checksums of Cargo.lock."""
    with open(f"{SOURCE}/Cargo.lock", "rb") as lock:
        found = {(crate["name"], crate["version"]): crate for crate in tomllib.load(lock)["package"]}
    with open(f"{SOURCE}/target/cross/crates.txt", encoding="utf-8") as built:
        return [found[name, version] for name, version in (line.split() for line in built)]


def identifier(text):
    """An SPDX identifier: letters, digits, points and hyphens."""
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", text)


def sha256(path):
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def spdx(version, created):
    """The list, as SPDX 2.3."""
    entries = []
    for package in packages():
        purl = f"pkg:deb/debian/{package['name']}@{package['version']}?arch={package['architecture']}"
        entries.append((f"deb-{package['name']}", package["name"], package["version"], package["uri"], package["sha256"], purl))
    for crate in crates():
        name, number = crate["name"], crate["version"]
        # Where it comes from is in its package URL.
        found = (name, number, "NOASSERTION", crate.get("checksum"), f"pkg:cargo/{name}@{number}")
        entries.append((f"crate-{name}-{number}", *found))
    root = identifier(f"cerebrum-cm4-{version}")
    described = [
        {
            "SPDXID": identifier(key),
            "name": name,
            "versionInfo": number,
            "downloadLocation": place,
            "filesAnalyzed": False,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION",
            "copyrightText": "NOASSERTION",
            **({"checksums": [{"algorithm": "SHA256", "checksumValue": digest}]} if digest else {}),
            "externalRefs": [
                {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
            ],
        }
        for key, name, number, place, digest, purl in entries
    ]
    image = {
        "SPDXID": root,
        "name": "cerebrum-cm4",
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "checksums": [{"algorithm": "SHA256", "checksumValue": sha256(f"{IMAGE}/slot.img")}],
    }
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"cerebrum-cm4-{version}",
        "documentNamespace": f"https://cerebrum.invalid/spdx/cerebrum-cm4-{version}-{image['checksums'][0]['checksumValue']}",
        "creationInfo": {"created": created, "creators": ["Tool: cerebrum-image-build"]},
        "documentDescribes": [root],
        "packages": [image, *described],
        "relationships": [
            {"spdxElementId": root, "relationshipType": "CONTAINS", "relatedSpdxElement": entry["SPDXID"]}
            for entry in described
        ],
    }


def manifest(version, created):
    """The same for people, with the hashes of what was built."""
    lines = [f"cerebrum-cm4 {version}", f"date {created}", ""]
    for name in ("disk.img", "slot.img", "root.squashfs", "initramfs.zst"):
        path = f"{IMAGE}/{name}"
        lines.append(f"{name} {os.path.getsize(path)} bytes sha256 {sha256(path)}")
    with open(f"{IMAGE}/root.hash", encoding="ascii") as file:
        lines.append(f"root hash {file.read().strip()}")
    with open(f"{SOURCE}/target/cross/aarch64/SHA256SUMS", encoding="ascii") as file:
        lines += ["", "programs:", *file.read().splitlines()]
    lines += ["", "compilers and tools:"]
    for name in ("cross/toolchain.packages", "image-build/tools.packages"):
        with open(f"{SOURCE}/{name}", encoding="utf-8") as file:
            lines += [line.strip() for line in file if line.strip() and not line.startswith("#")]
    lines += ["", "Debian packages:"]
    lines += [f"{p['name']} {p['version']} {p['architecture']} {p['sha256']}" for p in packages()]
    lines += ["", "crates:"]
    lines += [f"{crate['name']} {crate['version']}" for crate in crates()]
    return "\n".join(lines) + "\n"


def main():
    version, spdx_path, manifest_path = sys.argv[1:]
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"])))
    with open(spdx_path, "w", encoding="utf-8") as file:
        json.dump(spdx(version, created), file, indent=1)
        file.write("\n")
    with open(manifest_path, "w", encoding="utf-8") as file:
        file.write(manifest(version, created))


main()
