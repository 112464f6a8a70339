#!/usr/bin/env python3
"""Reads a backup of Tenure without Tenure.

    read_backup.py BACKUP KEK       proves the backup, prints every secret in it as JSON
    read_backup.py --vectors FOLDER checks the samples of tests/vectors

KEK is a file with 64 hexadecimal digits. What is printed is plaintext: mind where it goes.

Written from docs/keys.md and docs/backup-format.md alone; the names are theirs.
"""

import datetime
import hmac as compare
import json
import sys
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SYSTEM, KEYRING = bytes(16), b"\xff" * 16
NONCE = bytes(12)
VERSIONS = (1, 2, 3)
MAX_PAYLOAD = 1 << 20


class Refused(Exception):
    """The bytes are not what a store wrote."""


def require(held, what):
    if not held:
        raise Refused(what)


# Primitives


def hmac(key, *parts):
    mac = HMAC(key, SHA256())
    for part in parts:
        mac.update(part)
    return mac.finalize()


def hkdf(ikm, salt, info):
    return HKDF(SHA256(), 32, salt, info).derive(ikm)


def number(value, length):
    return value.to_bytes(length, "big")


class Fields:
    """Takes fields off the front of some bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        taken = self.data[self.at : self.at + length]
        require(len(taken) == length, "a field ends early")
        self.at += length
        return taken

    def number(self, length):
        return int.from_bytes(self.take(length), "big")

    def time(self):
        return int.from_bytes(self.take(8), "big", signed=True)

    def optional_time(self):
        return self.time() if self.is_there() else None

    def optional_number(self):
        return self.number(8) if self.is_there() else None

    def is_there(self):
        there = self.number(1)
        require(there < 2, "a field that is neither there nor absent")
        return there == 1

    def text(self, length_bytes=1):
        return self.take(self.number(length_bytes)).decode()

    def format(self, *known):
        found = self.number(1)
        require(found in known, f"format {found}, which is not known")
        return found

    def rest(self):
        return self.take(len(self.data) - self.at)

    def end(self):
        require(self.at == len(self.data), "bytes follow the last field")


# The envelope


def binding(purpose, tenant, name, version):
    fields = (b"\x01", purpose.encode(), tenant, name, number(version, 8))
    return b"".join(number(len(field), 4) + field for field in fields)


def dek_id(envelope):
    fields = Fields(envelope)
    fields.format(1)
    return fields.number(4)


def decrypt(dek, wanted_id, envelope, bound):
    fields = Fields(envelope)
    fields.format(1)
    require(fields.number(4) == wanted_id, "an envelope of another DEK")
    key = hkdf(dek, fields.take(32), bound)
    try:
        return AESGCM(key).decrypt(NONCE, fields.rest(), bound)
    except (InvalidTag, ValueError):
        raise Refused("an envelope that does not open where it stands") from None


def encrypt(dek, dek_id, salt, plaintext, bound):
    sealed = AESGCM(hkdf(dek, salt, bound)).encrypt(NONCE, plaintext, bound)
    return b"\x01" + number(dek_id, 4) + salt + sealed


# Keys


class StoreKeys:
    """What a KEK is for one store."""

    def __init__(self, kek, store_id):
        derive = lambda label: hkdf(kek, store_id, b"tenure/v1/" + label)
        self.store_id = store_id
        self.wrap, self.backup = derive(b"wrap"), derive(b"backup")
        self.check_value = hmac(derive(b"check"), b"tenure/check")
        self.ledger = LedgerKey(KEYRING, derive(b"system"))

    def chain_key(self, backup_id):
        return hkdf(self.backup, backup_id, b"tenure/v1/backup-chain")

    def unwrap_dek(self, tenant, id, row):
        fields = Fields(row)
        state = fields.format(1, 2, 3)
        bound = binding("wrapped-dek", tenant, self.store_id + bytes([state]), id)
        wrapped = decrypt(self.wrap, 0, fields.rest(), bound)
        require(len(wrapped) in (32, 40), "a DEK of another length")
        return state, wrapped[:32]

    def unwrap_anchor(self, tenant, row):
        bound = binding("wrapped-anchor", tenant, self.store_id + b"\x00", 0)
        seed = decrypt(self.wrap, 0, row, bound)
        require(len(seed) == 32, "an anchor seed of another length")
        return seed


class LedgerKey:
    """Counts and seals what a space holds."""

    def __init__(self, tenant, key):
        self.bound = binding("ledger", tenant, b"", 0)
        self.digest = hkdf(key, tenant, b"tenure/v1/row-digest")
        self.seal = hkdf(key, tenant, b"tenure/v1/ledger-seal")

    def row_digest(self, key, version, data):
        return hmac(self.digest, number(len(key), 8), key, number(version, 8), data)

    def prove(self, rows, sealed, what):
        require(sealed, f"{what} has no ledger")
        fields = Fields(decrypt(self.seal, 0, sealed, self.bound))
        form = fields.format(1, 2)
        _commits, count, total, highest = (
            fields.number(8), fields.number(8), fields.take(32), fields.number(8)
        )
        _floor = fields.number(4), fields.time()
        if form == 2:
            _chain = fields.number(8), fields.take(32)
        fields.end()
        digests = (self.row_digest(key, version, data) for key, version, data in rows)
        found = sum(int.from_bytes(digest, "little") for digest in digests) % (1 << 256)
        require(count == len(rows), f"{what} has {len(rows)} rows and should have {count}")
        require(total == found.to_bytes(32, "little"), f"{what} has rows that are not its own")
        require(all(version <= highest for _, version, _ in rows), f"{what} has rows from later")


class SpaceKeys:
    """The keys of a tenant, or of the system."""

    def __init__(self, store_keys, keyring, tenant):
        anchor = keyring.get(b"a" + tenant)
        require(anchor is not None, "a tenant without keys")
        self.tenant, self.seed = tenant, store_keys.unwrap_anchor(tenant, anchor)
        self.index = hkdf(self.seed, tenant, b"tenure/v1/index")
        self.ledger = LedgerKey(tenant, hkdf(self.seed, tenant, b"tenure/v1/ledger"))
        self.deks, active = {}, 0
        for key, row in keyring.items():
            if len(key) == 21 and key.startswith(b"d" + tenant):
                id = int.from_bytes(key[17:], "big")
                state, self.deks[id] = store_keys.unwrap_dek(tenant, id, row)
                active += state == 1
        require(active == 1, f"a tenant with {active} active DEKs")

    def locate(self, name):
        return hmac(self.index, name)

    def open(self, purpose, name, version, envelope):
        id = dek_id(envelope)
        require(id in self.deks, "an envelope of a DEK that is not there")
        return decrypt(self.deks[id], id, envelope, binding(purpose, self.tenant, name, version))


# The backup


class Backup:
    """The frames of a backup, each proved before it is looked at."""

    def __init__(self, data, kek):
        self.data, self.fields = data, Fields(data)
        prologue = self.fields.take(16)
        require(prologue[:14] == b"tenure backup\n", "this is not a backup of Tenure")
        version = int.from_bytes(prologue[14:], "big")
        require(version in VERSIONS, f"a backup of version {version}, which is not known")
        kind, payload, lead, tag = self.raw_frame()
        require(kind == b"H", "the header is missing")
        require(sha256(payload[:-32]).digest() == payload[-32:], "the header is damaged")
        header = Fields(payload[:-32])
        store_id, check = header.take(16), header.take(32)
        backup_id, self.begun = header.take(32), header.time()
        self.program, self.origin = header.text(), header.rest()
        require(not self.origin or version >= 3, "an origin in a header of an earlier version")
        self.keys = StoreKeys(kek, store_id)
        require(compare.compare_digest(check, self.keys.check_value), "this is another KEK")
        self.chain = self.keys.chain_key(backup_id)
        self.tag = hmac(self.chain, bytes(32), prologue)
        self.prove(lead, payload, tag)

    def raw_frame(self):
        lead = self.fields.take(5)
        length = int.from_bytes(lead[1:], "big")
        require(length <= MAX_PAYLOAD, "a frame that is too long")
        return lead[:1], self.fields.take(length), lead, self.fields.take(32)

    def prove(self, lead, payload, tag):
        expected = hmac(self.chain, self.tag, lead, payload)
        require(compare.compare_digest(expected, tag), "a frame is not the one that was written")
        self.tag = tag

    def frame(self):
        kind, payload, lead, tag = self.raw_frame()
        self.prove(lead, payload, tag)
        return kind, Fields(payload)

    def spaces(self):
        """Whole ones: (kind, tenant id, rows, sealed ledger). Reads up to the seal."""
        spaces = rows_in_all = 0
        while True:
            at = self.fields.at
            kind, fields = self.frame()
            if kind == b"Z":
                said = [fields.number(8) for _ in range(3)]
                self.finished = fields.time()
                fields.end()
                require(said == [spaces, rows_in_all, at], "the seal counts something else")
                require(self.fields.at == len(self.data), "bytes follow the seal")
                return
            require(kind == b"S", "a frame in the wrong place")
            which = fields.number(1)
            require(which < 3, "a space of no known kind")
            tenant = fields.take(16) if which == 2 else None
            ledger, rows = fields.rest(), []
            while True:
                kind, fields = self.frame()
                if kind == b"R":
                    rows.extend(read_rows(fields))
                    continue
                if kind == b"E":
                    require(fields.number(8) == len(rows), "rows of a space are missing")
                    spaces, rows_in_all = spaces + 1, rows_in_all + len(rows)
                    yield which, tenant, rows, ledger
                else:
                    require(kind == b"V", "a frame in the wrong place")
                    why = fields.number(1)
                    require(why in (1, 2, 3), "a space that does not count, for no known reason")
                    if why != 2:
                        yield which, tenant, None, why
                fields.end()
                break


def read_rows(fields):
    while fields.at < len(fields.data):
        key, version = fields.take(fields.number(1)), fields.number(8)
        yield key, version, fields.take(fields.number(2))


def read_backup(data, kek):
    """Every tenant's secrets; all that the formats let a reader prove is proved."""
    backup, tenants, seen = Backup(data, kek), None, {}
    keyring = None
    for which, tenant, rows, ledger in backup.spaces():
        if keyring is None:
            require(which == 0 and rows is not None, "the keyring does not come first")
            backup.keys.ledger.prove(rows, ledger, "the keyring")
            keyring = {key: data for key, _, data in rows}
            prove_header(keyring.get(b"k", b""), backup)
        elif tenants is None:
            require(which == 1 and rows is not None, "the system does not come second")
            keys = SpaceKeys(backup.keys, keyring, SYSTEM)
            keys.ledger.prove(rows, ledger, "the system")
            tenants = read_system(keys, rows)
        else:
            require(which == 2 and tenant in tenants, "a space of nobody")
            require(tenant not in seen, "a tenant that comes twice")
            if rows is None:
                seen[tenant] = None
                continue
            keys = SpaceKeys(backup.keys, keyring, tenant)
            keys.ledger.prove(rows, ledger, f"tenant {tenants[tenant]}")
            seen[tenant] = read_tenant(keys, rows)
    require(tenants is not None and seen.keys() == tenants.keys(), "a tenant is missing")
    return {tenants[id]: secrets for id, secrets in seen.items()}


def prove_header(header, backup):
    fields = Fields(header)
    format = fields.format(1, 2)
    require(fields.number(1) == 1, "a store that was not made wholly")
    same = fields.take(16) == backup.keys.store_id and fields.take(32) == backup.keys.check_value
    require(same, "the keyring is another store's")
    origin = fields.rest()
    require((format == 2) == bool(origin) and origin == backup.origin, "two origins of one KEK")


def read_system(keys, rows):
    """The tenants: names by id. Every row opens and is of a known form."""
    tenants = {}
    for key, version, envelope in rows:
        plain = keys.open("system", key, version, envelope)
        kind, locator = key[:1], key[1:]
        if kind == b"t":
            id, name = read_tenant_record(plain)
            require(keys.locate(name.encode()) == locator, "a tenant in another's place")
            tenants[id] = name
        elif kind == b"a":
            require(keys.locate(read_api_key(plain)) == locator, "an API key in another's place")
        elif kind == b"v":
            target = read_revocation(plain)
            require(keys.locate(target) == locator, "a revocation in another's place")
        elif kind == b"n":
            require(keys.locate(read_told(plain)) == locator, "notices in another's place")
        elif key == b"r":
            read_roots(plain)
        elif key == b"k":
            read_audit_key(plain)
        elif key == b"c":
            read_last_checkpoint(plain)
        elif key == b"w":
            read_moment(plain)
        else:
            require(key == b"s", "a row of no known kind")
            read_moment(plain)
    return tenants


def read_tenant_record(plain):
    fields = Fields(plain)
    has_limits = fields.format(1, 2) == 2
    id, _created, name = fields.take(16), fields.time(), fields.text()
    if has_limits:
        for _limit in ("secrets", "bytes", "requests a second"):
            fields.optional_number()
    fields.end()
    return id, name


def read_told(plain):
    fields = Fields(plain)
    fields.format(1)
    tenant, _until, _version = fields.take(16), fields.time(), fields.number(8)
    fields.end()
    return tenant


def read_audit_key(plain):
    fields = Fields(plain)
    fields.format(1)
    key = Ed25519PrivateKey.from_private_bytes(fields.take(32))
    fields.end()
    return key


def read_last_checkpoint(plain):
    fields = Fields(plain)
    fields.format(1)
    number, _hash, _complete_from = fields.number(8), fields.take(32), fields.number(8)
    fields.end()
    return number


def read_api_key(plain):
    fields = Fields(plain)
    fields.format(1)
    id, _tenant, _tag, _scopes = fields.take(8), fields.take(16), fields.take(32), fields.number(1)
    _times = fields.time(), fields.optional_time(), fields.optional_time()
    _name = fields.text(2)
    fields.end()
    return id


def read_revocation(plain):
    fields = Fields(plain)
    fields.format(1)
    fields.optional_time()
    if fields.format(0, 1):
        fields.take(16)
    _revoked, _kept_until = fields.time(), fields.time()
    begins = fields.at
    kind = fields.format(1, 2, 3)
    if kind == 1:
        fields.take(64)
    else:
        fields.take(16)
        if kind == 2:
            fields.format(1, 2, 3)
            fields.text(2), fields.text(2)
    fields.end()
    return plain[begins:]


def read_roots(plain):
    fields, roots = Fields(plain), {}
    with_ends = fields.format(1, 2) == 2
    while fields.at < len(plain):
        id = fields.number(4)
        roots[id] = Ed25519PrivateKey.from_private_bytes(fields.take(32))
        if with_ends:
            fields.time()
    require(roots, "no token roots")
    return roots


def read_moment(plain):
    """Since when somebody serves, or when every tenant was last swept."""
    fields = Fields(plain)
    fields.format(1)
    at = fields.time()
    fields.end()
    return at


def read_head(plain):
    fields = Fields(plain)
    fields.format(1)
    head = {"name": fields.text(), "notBefore": fields.optional_time()}
    head["expiresOn"] = fields.optional_time()
    head["created"], head["updated"] = fields.time(), fields.time()
    value = fields.format(0, 1, 2)
    head["chunks"] = fields.number(2) if value == 1 else None
    head["null"] = value == 0
    fields.end()
    begin, end = head["notBefore"], head["expiresOn"]
    require(begin is None or end is None or begin < end, "a window in which no moment lies")
    return head


def read_tenant(keys, rows):
    rows = {key: (version, data) for key, version, data in rows}
    secrets, ends = {}, set()
    for key in [key for key in rows if key[:1] == b"h" and len(key) == 33]:
        version, envelope = rows.pop(key)
        locator = key[1:]
        head = read_head(keys.open("head", locator, version, envelope))
        name = head["name"]
        require(keys.locate(name.encode()) == locator, "a secret in another's place")
        if head["expiresOn"] is not None:
            ends.add(expiry_key(head["expiresOn"], locator))
        secrets[name] = {
            "value": None if head["null"] else read_value(keys, rows, head, locator, version),
            "notBefore": date(head["notBefore"]),
            "expiresOn": date(head["expiresOn"]),
        }
    require(set(rows) == ends, "the expiry index is not that of the secrets")
    return dict(sorted(secrets.items()))


def read_value(keys, rows, head, locator, version):
    if head["chunks"] is None:
        pieces = [b"h" + locator + number(version, 8)]
    else:
        stem = b"v" + locator + number(version, 8)
        pieces = [stem + number(chunk, 2) for chunk in range(head["chunks"])]
    envelope = b""
    for key in pieces:
        of_version, data = rows.pop(key, (None, b""))
        require(of_version == version, "a piece of a value is missing")
        envelope += data
    return keys.open("value", head["name"].encode(), version, envelope).decode()


def expiry_key(micros, locator):
    return b"x" + number((micros // 1_000_000) ^ (1 << 63) & (1 << 64) - 1, 8) + locator


def date(micros):
    if micros is None:
        return None
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    try:
        return (epoch + datetime.timedelta(microseconds=micros)).isoformat()
    except OverflowError:
        return f"{micros} microseconds since 1970"


# The samples


def check_vectors(folder):
    sample = lambda name: json.loads((folder / name).read_text())
    unhex = lambda of: {k: bytes.fromhex(v) if isinstance(v, str) else v for k, v in of.items()}
    envelopes = sample("envelope-v1.json")
    for vector in envelopes:
        purpose = vector.pop("purpose")
        v = unhex(vector)
        bound = binding(purpose, v["tenant"], v["name"], v["version"])
        require(decrypt(v["dek"], v["dekId"], v["envelope"], bound) == v["plaintext"], "opens")
        again = encrypt(v["dek"], v["dekId"], v["salt"], v["plaintext"], bound)
        require(again == v["envelope"], "encrypts alike")
    v = unhex(sample("chain-v1.json"))
    chain = StoreKeys(v["kek"], v["storeId"]).chain_key(v["backupId"])
    require(hmac(chain, v["previous"], v["frame"]) == v["tag"], "the tag of a frame")
    check_keys(unhex(sample("keys-v1.json")))
    records = unhex(sample("records-v1.json")) | unhex(sample("records-v2.json"))
    for name in ("head", "headOfNull", "headBeside"):
        read_head(records[name])
    read_tenant_record(records["tenant"])
    read_moment(records["sweep"])
    read_moment(unhex(sample("records-v6.json"))["service"])
    credentials = unhex(sample("credentials-v1.json"))
    readers = {"apiKey": read_api_key, "revoked": read_revocation, "roots": read_roots}
    for name, plain in credentials.items():
        next(read for stem, read in readers.items() if name.startswith(stem))(plain)
    signed = unhex(sample("checkpoints-v1.json"))
    read_audit_key(signed["auditKey"])
    require(read_last_checkpoint(signed["lastCheckpoint"]) == 9, "the newest checkpoint")
    for name in ("audit-v1.json", "audit-v2.json"):
        check_audit(unhex(sample(name)))
    count = len(envelopes) + 4 + len(records) + len(signed) + len(credentials)
    print(f"{count} samples are as docs/keys.md has them")


def check_keys(v):
    """Every key and everything that is made with one, from a KEK and an anchor seed."""
    keys = StoreKeys(v["kek"], v["storeId"])
    require(keys.check_value == v["checkValue"], "the check value")
    for state, wrapped, plain in ((1, "wrappedDek", "dek"), (3, "wrappedDekWithTime", "dek")):
        found = keys.unwrap_dek(v["tenant"], v["dekId"], bytes([state]) + v[wrapped])
        require(found == (state, v[plain]), wrapped)
    require(keys.unwrap_anchor(v["tenant"], v["wrappedAnchor"]) == v["anchorSeed"], "the seed")
    tenant, seed = v["tenant"], v["anchorSeed"]
    index = hkdf(seed, tenant, b"tenure/v1/index")
    require(hmac(index, v["name"]) == v["locator"], "the locator")
    ledger = LedgerKey(tenant, hkdf(seed, tenant, b"tenure/v1/ledger"))
    digest = ledger.row_digest(v["rowKey"], v["rowVersion"], v["rowBytes"])
    require(digest == v["rowDigest"], "the digest of a row")
    account = decrypt(ledger.seal, 0, v["sealedLedger"], ledger.bound)
    require(account == v["account"], "the account of a ledger")
    account = decrypt(keys.ledger.seal, 0, v["sealedKeyringLedger"], keys.ledger.bound)
    require(account == v["account"], "the account of the keyring's ledger")
    mac = hkdf(seed, tenant, b"tenure/v1/api-key")
    require(hmac(mac, v["apiKeyId"], v["apiKeySecret"]) == v["apiKeyTag"], "an API key's tag")


def check_audit(v):
    """A block of two entries, its commitment and its link."""
    tenant, key = v["tenant"], hkdf(v["anchorSeed"], v["tenant"], b"tenure/v1/audit")
    fields = Fields(v["block"])
    form = fields.format(1, 2)
    committed, envelope = fields.take(32), fields.rest()
    entries = Fields(decrypt(key, 0, envelope, binding("audit", tenant, b"", 0)))
    salt, commitment = entries.take(32), bytes(32)
    if form == 2:
        length = entries.number(4)
        entries = Fields(lz4_expand(entries.rest()))
        require(len(entries.data) == length, "the length of what was compressed")
    for count, text in enumerate((v["one"], v["two"])):
        require(entries.take(entries.number(2)) == text, "the text of an entry")
        salted = hmac(salt, number(count, 4))
        said = b"tenure/v1/audit-entry" + commitment + salted + text
        commitment = sha256(said).digest()
    entries.end()
    require(commitment == committed, "the commitment of a block")
    place = v["before"] + number(9, 8) + number(2, 4)
    link = b"tenure/v1/audit-link" + tenant + place + number(form, 1) + committed
    link = sha256(link + sha256(envelope).digest()).digest()
    require(link == v["link"], "the link of a block")


def lz4_expand(data):
    """A block of LZ4: literals and copies of what came before, in turns."""
    fields, out = Fields(data), bytearray()

    def length(nibble):
        total, more = nibble, 255 if nibble == 15 else 0
        while more == 255:
            more = fields.number(1)
            total += more
        return total

    while True:
        token = fields.number(1)
        out += fields.take(length(token >> 4))
        if fields.at == len(data):
            return bytes(out)
        back = int.from_bytes(fields.take(2), "little")
        require(0 < back <= len(out), "a copy of what is not there")
        for _ in range(length(token & 15) + 4):
            out.append(out[-back])


def main(arguments):
    match arguments:
        case ["--vectors", folder]:
            check_vectors(Path(folder))
        case [backup, kek] if not backup.startswith("-"):
            kek = bytes.fromhex(Path(kek).read_text().strip())
            require(len(kek) == 32, "a KEK is 64 hexadecimal digits")
            secrets = read_backup(Path(backup).read_bytes(), kek)
            json.dump(secrets, sys.stdout, ensure_ascii=False, indent=1)
            print()
        case _:
            sys.exit(__doc__.strip())


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Refused, OSError, ValueError) as error:
        sys.exit(f"read_backup: {error}")
