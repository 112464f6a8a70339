#!/usr/bin/env python3
"""For tests that look for keys: those of a backup, wrapped and unwrapped, as JSON.

    list_keys.py BACKUP KEK
"""

import json
import sys
from pathlib import Path

from read_backup import (
    SYSTEM, Backup, SpaceKeys, read_audit_key, read_roots, read_system,
)


def main(backup, kek):
    backup = Backup(Path(backup).read_bytes(), bytes.fromhex(Path(kek).read_text().strip()))
    spaces = backup.spaces()
    _, _, rows, _ = next(spaces)
    keyring = {key: data for key, _, data in rows}
    _, _, rows, _ = next(spaces)
    keys = SpaceKeys(backup.keys, keyring, SYSTEM)
    tenants = read_system(keys, rows)
    system = {key: keys.open("system", key, version, row) for key, version, row in rows}
    roots = [raw(root) for root in read_roots(system[b"r"]).values()]
    found = {name: keys_of(backup, keyring, id) for id, name in tenants.items()}
    found[""] = keys_of(backup, keyring, SYSTEM)
    for _, tenant, rows, _ in spaces:
        heads = [row.hex() for key, _, row in rows if key[:1] == b"h" and len(key) == 33]
        found[tenants[tenant]]["heads"] = heads
    derived = [backup.keys.wrap.hex(), backup.keys.backup.hex()]
    signing = [raw(read_audit_key(system[b"k"]))]
    found = {"derived": derived, "roots": roots, "signing": signing, "tenants": found}
    json.dump(found, sys.stdout)


def raw(private):
    return private.private_bytes_raw().hex()


def keys_of(backup, keyring, tenant):
    keys = SpaceKeys(backup.keys, keyring, tenant)
    wrapped = [row[1:] for key, row in keyring.items() if key.startswith(b"d" + tenant)]
    wrapped.append(keyring[b"a" + tenant])
    plain = [*keys.deks.values(), keys.seed]
    return {
        "wrapped": [row.hex() for row in wrapped],
        "plain": [key.hex() for key in plain],
        "heads": [],
    }


main(*sys.argv[1:])
