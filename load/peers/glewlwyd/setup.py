"""A peer for load tests: glewlwyd takes client_credentials with a client_assertion (RFC 7523) that is signed by the issuer
of `ficus-load prepare DIR`, and mints an RS256 JWT for the resource that is asked for.

    python3 setup.py DIR PORT, with peer.pem and peer-key.pem in DIR; then glewlwyd --config-file=DIR/glewlwyd/glewlwyd.conf
"""

import gzip
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

CLIENT, SCOPE, RESOURCE = "load", "load", "https://vault.load.example"
# Where Debian's packages glewlwyd and glewlwyd-common put them.
LIBRARIES, SCHEMA = "/usr/lib/glewlwyd", "/usr/share/doc/glewlwyd/database/init.sqlite3.sql.gz"


def openssl(*arguments: str, given: str = "") -> str:
    return subprocess.run(["openssl", *arguments], input=given, stdout=subprocess.PIPE, text=True, check=True).stdout


folder, port = Path(sys.argv[1]).resolve(), int(sys.argv[2])
own, url = folder / "glewlwyd", f"https://localhost:{port}"
own.mkdir()

key = openssl("genrsa", "2048")
plugin = {
    "iss": url,
    "jwt-type": "rsa",
    "jwt-key-size": "256",
    "key": key,
    "cert": openssl("rsa", "-pubout", given=key),
    "jwks-show": True,
    "access-token-duration": 3600,
    "refresh-token-duration": 3600,
    "code-duration": 600,
    "session-duration": 3600,
    "allowed-scope": ["openid"],
    "allow-non-oidc": True,
    "auth-type-client-enabled": True,
    # Assertions of clients are "requests" here. The harness's are good for six hours.
    "request-parameter-allow": True,
    "request-maximum-exp": 86_400,
    "client-jwks-parameter": "jwks",
    "resource-allowed": True,
    "resource-scope": {SCOPE: [RESOURCE]},
    "resource-client-property": "",
    "resource-scope-and-client-property": False,
    "resource-change-allowed": False,
}
properties = {
    "authorization_type": "client_credentials",
    "token_endpoint_auth_method": "private_key_jwt",
    "jwks": (folder / "issuer/jwks.json").read_text(),
}

database = sqlite3.connect(own / "glewlwyd.db")
with gzip.open(SCHEMA, "rt") as schema:
    database.executescript(schema.read())


def insert(table: str, **columns: str | int | None) -> int | None:
    marks = ", ".join("?" * len(columns))
    statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
    return database.execute(statement, list(columns.values())).lastrowid


insert("g_plugin_module_instance", gpmi_module="oidc", gpmi_name="oidc", gpmi_parameters=json.dumps(plugin))
client = insert("g_client", gc_client_id=CLIENT, gc_confidential=1)
for name, value in properties.items():
    insert("g_client_property", gc_id=client, gcp_name=name, gcp_value=value)
insert("g_scope", gs_name=SCOPE, gs_password_required=0)
insert("g_client_scope_client", gc_id=client, gcs_id=insert("g_client_scope", gcs_name=SCOPE))
database.commit()

(own / "glewlwyd.conf").write_text(f"""\
port = {port}
bind_address = "127.0.0.1"
external_url = "{url}"
api_prefix = "api"
log_mode = "console"
log_level = "ERROR"
admin_scope = "g_admin"
profile_scope = "g_profile"
user_module_path = "{LIBRARIES}/user"
client_module_path = "{LIBRARIES}/client"
user_auth_scheme_module_path = "{LIBRARIES}/scheme"
plugin_module_path = "{LIBRARIES}/plugin"
use_secure_connection = true
secure_connection_key_file = "{folder}/peer-key.pem"
secure_connection_pem_file = "{folder}/peer.pem"
hash_algorithm = "SHA512"
database = {{ type = "sqlite3" path = "{own}/glewlwyd.db" }}
""")
