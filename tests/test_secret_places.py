"""Secrets that a place names: elements, cells, lines below a name, logins on command lines; what is none."""

from __future__ import annotations

import json
import random
import string
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule_sdk.content import ContentPolicy, Limits, safe
from capsule_sdk.content.secret_names import names_secret
from capsule_sdk.content.secret_shapes import without_secrets

# The secret is between « and »; \\n is an end of a line, tried as it is and as a quoted text has it.
TEXTS = r"""
<db><password>«hunter2»</password></db>
<db:Password type="plain">«correct horse»</db:Password>
<wsse:Password Type="x#PasswordText"><![CDATA[«a b»]]></wsse:Password>
<user password="«hunter2»" id="7"/>
<input type="password" name="pw" value="«hunter2»">
<input value="«Zw8»" id="n" name="csrf_token" />
<add key="ApiKey" value="«abc»" />
<key>ApiKey</key><string>«abc»</string>
<setting name="Password" serializeAs="String"><value>«abc»</value></setting>
password: |\n  «hunter2»\nuser: ana
password: >-\n    «correct horse\n    battery»\nuser: ana
db:\n  password:\n    «hunter2»\n  user: ana
"password":\n    "«hunter2»",\n"x": 1
Your password:\n\n«Zw8hunter»
docker login -u ana -p «hunter2» registry.example
podman login --username ana -p=«hunter2» quay.io
mysql -u root -p«hunter2» db
mysqldump -uroot -p«hunter2» db > x.sql
/usr/bin/mysql -h db -p «hunter2» shop
sshpass -p «hunter» ssh ana@h
sshpass -p '«hunter2»' ssh ana@h
cd x && mysql -p«hunter2» | grep -p kept
curl -u ana:«hunter2» https://h
curl -sSu ana:«hunter2» https://h
psql "host=h password=«hunter2» user=x"
redis-cli -h h -a «hunter2» PING
smbclient //h/s -U ana%«hunter2»
ldapsearch -x -D cn=a -w «hunter2» -b dc=x
htpasswd -b /etc/x ana «hunter2»
htpasswd -bnBC 10 ana «hunter2»
kubectl create secret generic x --from-literal=password=«hunter2»
kubectl create secret generic x --from-literal=foo=«hunter2»
keytool -storepass «changeit1» -list
openssl rsa -passin pass:«hunter2» -in x
echo «hunter2» | docker login --password-stdin
echo '«hunter2»' | sudo -S id
Command '['mysql', '-u', 'root', '-p«hunter2»']' returned non-zero exit status 1.
Command '['docker', 'login', '-p', '«hunter2»']' returned non-zero exit status 1.
FROM x\nENV API_KEY «hunter2»\nRUN y
ARG API_KEY=«hunter2»
setenv DB_PASSWORD «hunter2»
set -x API_KEY «hunter2»
+ export API_KEY=«abc1»
redis.conf: requirepass «hunter2»
| password | «Zw8hunter» |
| db_password | «hunter2» | on |
| ana | password | «Zw8hunter» |
| user | password |\n|---|---|\n| ana | «hunter2» |\n| bo | «Zw8fish» |\nend
 id | user | password\n----+------+----------\n  1 | ana  | «hunter2»\n(1 row)
+----+----------+\n| id | password |\n+----+----------+\n|  1 | «hunter2»  |\n+----+----------+
`token`: `«Zw8hunter»`
variable "db_password" {\n  default = "«abc1»"\n}
jdbc:oracle:thin:scott/«tiger»@//h:1521/x
sqlplus scott/«tiger»@h
jdbc:postgresql://h/db?user=ana&password=«tiger»
machine h.example login ana password «hunter»
machine h\n  login ana\n  password «hunter»
login ana password «hunter2»
username ana password 7 «0822455D0A16»
see?next=password%3D«abc»%26x
q=%7B%22password%22%3A%22«hunter2»%22%7D
%257B%2522password%2522%253A%2522«hunter2»%2522
$env:API_KEY = "«abc1»"
""".strip().splitlines()


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_is_found_in_the_place_that_names_it(text: str):
    before, *rest = text.split("«")
    hidden = before + "".join("[secret]" + part.partition("»")[2] for part in rest)
    plain = text.replace("«", "").replace("»", "")
    for end in ("\n", r"\n"):
        assert without_secrets(plain.replace(r"\n", end)) == hidden.replace(r"\n", end)


ORDINARY = r"""
the password is required
docker run -p 8080:80 image; ssh -p 22 h; mkdir -p a/b; docker run -u 1000:1000 -a stdin image
| password | the password |
| token | required |
| password | varchar(255) | NO |
| password | string | min. 8 characters |
| token | OAuth2 |
| api_key | 2024-11-30 |
| api_key | https://example.com/keys-2 |
| Parameter | Token | Type |\n|---|---|---|\n| id | the token | string |
 total | tokens \n-------+--------\n     3 | 12345678
<password></password> and <token>${TOKEN}</token>
postgres://<user>:<password>@host/db
<token>Paris</token>
<label for="password">Password</label><input type="password" name="password">
key = os.environ["API_KEY"]; other = os.getenv("API_KEY", "")
mysql -u root -p -h db; docker run -p 80:80 image
mysql -u root -p shop < dump.sql
ENV PATH /usr/bin
set password rules
the user login form password reset
password:\n  type: string\n  minLength: 8
auth:\n  basic:\n    user: x
credentials:\n  - user
token:\n  $ref: '#/x'
Forgot your password?\n\nhttps://example.com/reset-2024
The password:\nit must be long
password: Optional[str] = None
def f(password: str, token: Token | None = None) -> None: ...
if token == "abc": pass
grep -p password file; find . -print -path x; git commit -a -m "token"
passing: 12, failing: 3, pass: 3
{"pass": 12, "fail": 0, "max_tokens": 100}
see the section on token: `max_tokens`
`password`: `string`
kubectl get secret x -o yaml
npm login; redis-cli -h h -p 6379 ping; curl -u user https://h; curl -U x -a y
set -e; set -x
the variable token has the default = "x"
user: ana\npassword: ${PW}
password: |\n  ${PW}
- a list - with a dash - about the key -> and its value
slug-of-an-article-about-fw_ and pa-rt-of-a-long-name-that-goes-on-and-on-for-ever-x
a-very-long-branch-name/pat-eu1-and-more~tilde~and-so-on
""".strip().splitlines()


@pytest.mark.parametrize("text", ORDINARY)
def test_what_only_looks_like_such_a_place_stays(text: str):
    for end in ("\n", r"\n"):
        plain = text.replace(r"\n", end)
        assert without_secrets(plain) == plain


_DICE = random.Random(11)
LETTERS = string.ascii_letters + string.digits


def some(alphabet: str, count: int) -> str:
    return "a7B"[: count - 1] + "".join(_DICE.choice(alphabet) for _ in range(count - 3)) + ""


def low(count: int) -> str:
    return "7a" + "".join(_DICE.choice("0123456789abcdef") for _ in range(count - 2))


#: Put together here, so that no scanner takes this file for a leak.
KEYS = {
    "Google, refresh": "0" + some(LETTERS, 60),
    "Cerebras": "csk-" + some(LETTERS, 48),
    "Fireworks": "fw_" + some(LETTERS, 24),
    "Brave": "BSA" + some(LETTERS, 28),
    "Voyage": "pa-" + some(LETTERS, 43),
    "RunPod": "rpa_" + some(LETTERS, 40),
    "Weights & Biases": "wandb_v1_" + some(LETTERS, 77),
    "Apify": "apify_api_" + some(LETTERS, 36),
    "Cloudflare": "cfut_" + some(LETTERS, 40) + low(8),
    "Vercel": "vcp_" + some(LETTERS, 56),
    "Neon": "napi_" + some(LETTERS, 64),
    "Heroku": "HRKU-AA" + some(LETTERS, 58),
    "Alibaba": "LTAI" + some(LETTERS, 20),
    "Airtable": "pat" + some(LETTERS, 14) + "." + low(64),
    "CircleCI": "CCIPAT_" + some(LETTERS, 22) + "_" + low(40),
    "Sourcegraph": "sgp_" + low(40),
    "Entra ID": "abc8Q~" + some(LETTERS, 34),
    "Discord": "MTA" + some(LETTERS, 21) + ".Gab12c." + some(LETTERS, 38),
    "Figma": "figd_" + some(LETTERS, 40),
    "Doppler": "dp.st.dev." + some(LETTERS, 43),
    "1Password": "A3-ABC123-ABCDEFGHIJ1-ABC12-ABC12-ABC12",
}


@pytest.mark.parametrize("name", KEYS)
def test_a_key_of_a_further_provider_is_found(name: str):
    lead = {"Google, refresh": "1//", "Entra ID": "abc8Q~"}.get(name, "")
    said = KEYS[name].removeprefix(lead)
    for around in ("use {} now", '{{"note": "it is {}"}}', "x={}&y=2", "`{}`"):
        assert without_secrets(around.format(lead + said)) == around.format(lead + "[secret]")


NAMES = """
api_key_list apiKeyList password_list pass_ proxyPass keystore_pass API_KEY_OPENAI TOKEN_GITHUB password_new
secretText secret_json client_secret_base64 access_token_list passwords kennwort motDePasse wachtwoord senha
пароль новый_пароль 密码 パスワード nueva_contraseña secret_key_base mdp user_pwds credentials_json
"""
NO_NAMES = """
token_str token_list token_text token_map key_list keys auth_list pin_map cookie_text pass fail_pass bypass
compass new_list set raw text list json passing password_policy tokens token_set_size
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_a_name_in_another_spelling_or_language_hides_its_value(name: str):
    assert names_secret(name)


@pytest.mark.parametrize("name", NO_NAMES.split())
def test_a_name_of_something_else_hides_nothing(name: str):
    assert not names_secret(name)


@pytest.mark.parametrize(
    ("command", "sealed"),
    [
        (["mysql", "-u", "root", "-phunter2", "db"], ["mysql", "-u", "root", "-p[secret]", "db"]),
        (["docker", "login", "-u", "ana", "-p", "hunter2"], ["docker", "login", "-u", "ana", "-p", "[secret]"]),
        (["/usr/bin/curl", "-u", "ana:hunter2", "x"], ["/usr/bin/curl", "-u", "ana:[secret]", "x"]),
        (["keytool", "-storepass", "changeit"], ["keytool", "-storepass", "[secret]"]),
        (["docker", "run", "-p", "80:80"], ["docker", "run", "-p", "80:80"]),
        (["ssh", "-p", "22", "h"], ["ssh", "-p", "22", "h"]),
        (["curl", "-u", "ana"], ["curl", "-u", "ana"]),
    ],
)  # fmt: skip
def test_a_command_that_is_a_list_hides_what_its_program_takes_for_a_password(
    command: list[str], sealed: list[str]
):
    assert safe(command) == sealed


# -- wherever it stands --------------------------------------------------------------------------------

CANARY = "Zw8sword" + "fish"
INNER = st.sampled_from(
    [
        f"password={CANARY}", f'{{"api_key": "{CANARY}"}}', f"<password>{CANARY}</password>",
        f"password: {CANARY}",
        f"mysql -u root -p{CANARY} db", f"postgresql://app:{CANARY}@db/x", f"Authorization: Bearer {CANARY}",
        f"curl -u ana:{CANARY} x", f"password:\n  {CANARY}\n", f"| token | {CANARY} |",
        f"sk-ant-api03-{CANARY}{'x9' * 20}",
        f"ghp_{CANARY}{'Q7' * 12}", f"machine h login ana password {CANARY}", f"secret%3D{CANARY}%26a",
    ]
)  # fmt: skip
#: A text around another; each of these leaves what is inside as a reader would still take it for a secret.
AROUND = st.sampled_from(
    [
        json.dumps, lambda text: json.dumps({"a": [text]}),
        lambda text: json.dumps({"m": text, "n": 1}, indent=1),
        repr, lambda text: repr([text]), lambda text: f"<p>{text}</p>",
        lambda text: f"first\n{text}\nlast line",
        lambda text: f"see ({text}), please", lambda text: f"é🔑 {text}",
    ]
)  # fmt: skip


@given(INNER, st.lists(AROUND, max_size=3), st.sampled_from([None, quote, quote_plus]))
def test_no_surroundings_hide_a_secret_from_the_search(inner: str, around: list[Any], last: Any):
    text = inner
    for put in around:
        text = put(text)
    if last is not None and inner.startswith(("password=", '{"api_key', "secret%3D")):
        text = last(inner)
    assert CANARY not in without_secrets(text), text


@given(INNER, st.integers(0, 300), st.integers(1, 400))
def test_no_cut_halves_a_secret_so_that_its_head_stays(inner: str, before: int, limit: int):
    text = "word " * (before // 5) + inner + " and more" * 80
    for policy in (
        ContentPolicy(limits=Limits(text=limit)),
        ContentPolicy(redact=lambda told: told, limits=Limits(text=limit)),
    ):
        assert CANARY[:6] not in policy.text(text)
        assert CANARY[:6] not in json.dumps(policy.value([{"note": text}]))


def test_a_secret_far_behind_the_cut_and_beyond_what_is_looked_at_is_not_sealed_either():
    for place in range(8_000, 9_200, 100):
        text = "a b " * (place // 4) + f"password={CANARY}" + " c" * 5_000
        for limit in (100, place - 10, place + 4, place + 12, place + 40):
            assert CANARY[:6] not in ContentPolicy(limits=Limits(text=limit)).text(text)


# -- redact, and bytes ---------------------------------------------------------------------------------


def test_with_redact_bytes_that_may_hold_a_text_have_no_digest_whatever_their_size():
    policy = ContentPolicy(redact=lambda text: text)
    letter = ("Dear Ana Lee, your number is 12345678. " * 100).encode()
    for text in (
        letter,
        bytearray(letter),
        memoryview(letter),
        letter.decode().encode("utf-16"),
        b"\xe9" * 2000,
    ):
        assert policy.value(text) == {"bytes": len(text)}
    image = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
    assert policy.value(image).keys() == {"bytes", "sha3_256"}  # type: ignore[union-attr]
    assert ContentPolicy().value(letter).keys() == {"bytes", "sha3_256"}  # type: ignore[union-attr]
