"""Secrets inside texts: found by their shape and by the names in front of them, and nothing else is touched."""

from __future__ import annotations

import random
import string
import time
from collections.abc import Callable
from typing import Any

import pytest

from capsule_sdk.content import ContentPolicy, Limits, label, safe
from capsule_sdk.content.secret_shapes import without_secrets

_DICE = random.Random(7)
LETTERS = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
CAPITALS = string.ascii_uppercase + "234567"
URL_SAFE = LETTERS + "-_"


def some(alphabet: str, count: int) -> str:
    """Return random characters with a digit and both cases among them, as keys have."""
    made = "".join(_DICE.choice(alphabet) for _ in range(count - 3))
    return made + alphabet[0] + alphabet[-1] + ("7" if "7" in alphabet else alphabet[1])


# Put together here, so that no scanner takes this file for a leak.
KEYS = {
    "openai": "sk-" + some(LETTERS, 48),
    "openai project": "sk-" + "proj-" + some(LETTERS, 20) + "_" + some(URL_SAFE, 100),
    "anthropic": "sk-" + "ant-api03-" + some(LETTERS, 18) + some(URL_SAFE, 70) + "AA",
    "openrouter": "sk-" + "or-v1-" + some(HEX, 64),
    "amazon": "AKIA" + some(CAPITALS, 16),
    "amazon, for a session": "ASIA" + some(CAPITALS, 16),
    "google": "AIza" + some(URL_SAFE, 35),
    "google oauth": "ya29." + some(URL_SAFE, 80),
    "github": "ghp_" + some(LETTERS, 36),
    "github app": "ghs_" + some(LETTERS, 36),
    "github, fine-grained": "github_" + "pat_" + some(LETTERS, 22) + "_" + some(LETTERS, 59),
    "gitlab": "glpat-" + some(LETTERS, 20),
    "slack": "xoxb-" + some(string.digits, 12) + "-" + some(LETTERS, 24),
    "slack app": "xapp-1-" + some(LETTERS, 30),
    "stripe": "sk_" + "live_" + some(LETTERS, 24),
    "stripe, restricted": "rk_" + "test_" + some(LETTERS, 24),
    "stripe webhook": "whsec_" + some(LETTERS, 32),
    "sendgrid": "SG." + some(LETTERS, 22) + "." + some(LETTERS, 43),
    "mailgun": "key-" + some(HEX, 32),
    "mailchimp": some(HEX, 32) + "-us12",
    "twilio": "SK" + some(HEX, 32),
    "npm": "npm_" + some(LETTERS, 36),
    "pypi": "pypi-" + "AgEIcHlwaS5vcmc" + some(LETTERS, 60),
    "hugging face": "hf_" + some(LETTERS, 34),
    "groq": "gsk_" + some(LETTERS, 52),
    "xai": "xai-" + some(LETTERS, 80),
    "replicate": "r8_" + some(LETTERS, 37),
    "nvidia": "nvapi-" + some(URL_SAFE, 64),
    "perplexity": "pplx-" + some(LETTERS, 48),
    "tavily": "tvly-" + some(LETTERS, 32),
    "langsmith": "lsv2_" + "pt_" + some(HEX, 32) + "_" + some(HEX, 10),
    "docker": "dckr_" + "pat_" + some(LETTERS, 27),
    "digitalocean": "dop_" + "v1_" + some(HEX, 64),
    "databricks": "dapi" + some(HEX, 32),
    "vault": "hvs." + some(LETTERS, 30),
    "shopify": "shpat_" + some(HEX, 32),
    "linear": "lin_" + "api_" + some(LETTERS, 40),
    "age": "AGE-" + "SECRET-KEY-1" + some(CAPITALS, 58),
    "a JSON web token": "eyJ" + some(LETTERS, 30) + ".eyJ" + some(LETTERS, 60) + "." + some(URL_SAFE, 43),
    "telegram": "123456789" + ":AA" + some(LETTERS, 33),
}  # fmt: skip

PLACES: dict[str, Callable[[str], str]] = {
    "alone": "{}".format,
    "in a sentence": "Use {} for the call, please.".format,
    "in quotes": "key '{}', and \"more\"".format,
    "in JSON": '{{"note": "it is {}"}}'.format,
    "in a list": "[{},other]".format,
    "behind a sign": "x={}&y=2".format,
    "in Markdown": "`{}`".format,
    "among other writing": "schlüssel: {} 🔑".format,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", KEYS)
def test_a_key_of_a_provider_is_found_wherever_it_stands(name: str, place: str):
    text = PLACES[place](KEYS[name])
    assert without_secrets(text) == PLACES[place]("[secret]")


# The secret is between « and ».
TEXTS = """
postgresql://app:«hunter2»@db:5432/prod
mongodb+srv://user:«p@ss»@cluster.example/?retryWrites=true
redis://:«hunter2»@cache:6379/0
https://«0a1b2c3d4e5f60718293a4b5»@sentry.example/42
GET https://api.example/v1?city=Paris&api_key=«abc»&units=m
https://x.blob.core.windows.net/c/b?sv=2024&se=2030&sig=«Zm9v%2Bbar%3D»
https://s3.example/k?X-Amz-Signature=«0f1e2d»&X-Amz-Expires=60
https://hooks.slack.com/services/«T0000/B0000/XXXXXXXXXXXX»
DefaultEndpointsProtocol=https;AccountName=x;AccountKey=«abc+/==»;EndpointSuffix=core.windows.net
Endpoint=sb://x.example/;SharedAccessKeyName=Root;SharedAccessKey=«abc=»
Server=db;User Id=sa;Password=«p@ss»;Encrypt=yes
host=db dbname=prod user=app password=«hunter2» sslmode=require
export OPENAI_KEY=«abc»
AWS_SECRET_ACCESS_KEY="«wJalr/XUtnFEMI»"
db_password: «hunter2»
{"user": "ana", "password": "«correct horse»", "age": 7}
{'user': 'ana', 'passcode': '«12 34»', 'age': 7}
{\\"auth\\": \\"«a b»\\", \\"n\\": 1}
{"a": "{\\"client_secret\\": \\"«x y»\\"}"}
User(name='ana', password='«it\\'s»', age=7)
Authorization: «Bearer abc.def»
authorization: «Basic YW5hOmh1bnRlcjI=»
Cookie: «session=abc; theme=dark»
X-Api-Key: «abc123»
it sent Bearer «abcdefghijklmnop1234», then left
curl -H "Authorization: «Token abcdef»" https://api.example
curl -u ana:«hunter2» https://api.example
mysql --user ana --password «hunter2» --host db
tool --api-key=«abc» run
ALTER USER ana WITH PASSWORD '«hunter2»'
CREATE USER 'ana' IDENTIFIED BY '«hunter2»'
could not log in (password=«hunter2»), try again
passphrase => «swordf1sh»
redis://:«a/b'c»@cache:6379/0
https://«0a1b2c3d4e5f60718293a4b5»:x-oauth-basic@github.com/x/y
first line\\nDB_PASSWORD=«hunter2»\\nOTHER=b
{"a": "{\\\\\\"b\\\\\\": {\\\\\\\\\\\\\\"password\\\\\\\\\\\\\\": \\\\\\\\\\\\\\"«x y»\\\\\\\\\\\\\\"}}"}
**Password:** «hunter2»
The password: `«hunter2»`
password = f"«hunter2»"
password: str = "«hunter2»"
password = \"\"\"«hunter2»\"\"\"
os.environ["API_KEY"] = "«abc»"
[(b'authorization', b'«Bearer abc»')]
[["x-api-key", "«abc»"], ["host", "x"]]
{"name": "X-Api-Key", "value": "«abc»", "n": 1}
- name: DB_PASSWORD value: «hunter2»
b'X-Api-Key: «abc123»\\r\\nHost: kept'
b'Cookie: «a=b; c=d»\\r\\nHost: kept'
Authorization: «SSWS 00abcDEF»
Authorization: «Custom 00abcDEF»
export API_KEY_PROD=«abc»
""".strip().splitlines()


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_is_found_by_the_name_in_front_of_it(text: str):
    before, secret, after = text.partition("«")
    assert secret, text
    hidden = before + "[secret]" + after.partition("»")[2]
    assert without_secrets(text.replace("«", "").replace("»", "")) == hidden


def test_a_private_key_goes_as_a_whole_and_what_is_around_it_stays():
    body = "\n".join(some(LETTERS + "+/", 64) for _ in range(20))
    for kind in ("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "):
        head, foot = f"-----BEGIN {kind}PRIVATE KEY-----", f"-----END {kind}PRIVATE KEY-----"
        text = f"here:\n{head}\n{body}\n{foot}\nbye"
        assert without_secrets(text) == f"here:\n{head}[secret]{foot}\nbye"


@pytest.mark.parametrize("lines", ["\n", "\\n", " "])
def test_a_private_key_that_has_no_end_is_hidden_as_far_as_its_lines_go(lines: str):
    body = [some(LETTERS + "+/", 64) for _ in range(300)]
    text = lines.join(["-----BEGIN PRIVATE KEY-----", *body])
    for limit in (500, 5_000):
        sealed = ContentPolicy(limits=Limits(text=limit)).text(text)
        assert sealed.startswith("-----BEGIN PRIVATE KEY-----[secret]")
        assert not any(line in sealed for line in body)
    said = without_secrets(lines.join(["-----BEGIN PRIVATE KEY-----", *body[:9], "and now: bye"]))
    assert said.endswith("and now: bye")


@pytest.mark.parametrize("name", KEYS)
def test_a_secret_that_the_cut_would_halve_is_hidden(name: str):
    for before in range(80, 100):
        text = "x" * (before - 1) + " " + KEYS[name] + " and more" * 20
        sealed = ContentPolicy(limits=Limits(text=100)).text(text)
        assert KEYS[name][:12] not in sealed
    url = "see postgresql://app:" + "Zw8" * 30 + "@db/x " + "word " * 30
    assert "Zw8" not in ContentPolicy(limits=Limits(text=50)).text(url)


ORDINARY = """
The quick brown fox asks for the weather in Paris: 21 degrees.
the password: it must be long
Your password is safe with us; a token of thanks.
password: str
def log_in(user: str, password: str | None = None, token=tok) -> Token: ...
client = OpenAI(api_key=settings.api_key)
token = next(tokens)
password = getpass()
secret = secrets.token_hex(16)
api_key=${API_KEY} password=$PASSWORD token={{ token }} secret=<your secret>
password=null&token=None
{"max_tokens": 7, "key": "cache", "author": "Ana Lee", "token_count": 12}
sk-learn-pipeline-tutorial-2024-edition
https://example.com/a-long-slug-of-an-article-2024-11-29-that-goes-on
https://example.com:8080/users/@ana
3f2a9c1e-6a55-4a6e-9f66-0a1b2c3d4e5f
0f343b0931126a20f133d67c2b018a3b0f343b0931126a20f133d67c2b018a3b
sha3-256:a65f5a6532aa566cde3d8a31cf0e46cfd3e0cdf8833cafb04e12d1abdc211cc8 (12 bytes)
data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ
chatcmpl-AbCdEfGhIjKlMnOpQrStUvWx resp_0123456789abcdef0123456789abcdef
com.example.project.service.internal.AbstractFactory2Impl
author: ana lee, key: value, sig: yes
-----BEGIN PUBLIC KEY----- MCowBQYDK2VwAyEA -----END PUBLIC KEY-----
ana@example.com wrote to bo@example.com: hello
10:30:00.123456 INFO worker-17 took 20.5 ms
{"msg": "Enter password:", "next": "kept"}
name = input('Password: '); more = 'x'
["Password:", "Username:"]
if line.startswith("token:"): pass
Cookie: chocolate chip and oatmeal
def f(cookies: dict, headers: dict) -> str: ...
{"cookies": {"a": 1}, "next": 2}
if b'-----BEGIN PRIVATE KEY-----' in data: return data
{"properties": {"password": {"type": "string", "description": "of the user"}}, "required": ["password"]}
fetch(url, {credentials: 'include', token: undefined})
urn:ietf:params:oauth:grant-type:jwt-bearer
auth: AuthTypes | None
{"input_token": "nextToken", "output_token": 512}
Authorization: Bearer <token>
Authorization: Bearer {token} or Bearer $TOKEN
http://h:8080,ana@x and http://h:80;user@x and https://h?to=a:b@c
docker run -u 1000:1000 image; curl https://x
--token string  the token to use
["password", "email-address"]
bearer responsibilities/and-duties-of-all
PWD=/home/ana
password: ""
`token` and `api_key`: see below
{"token": "Paris", "logprob": -0.1}
The token: "hello" is one piece.
headers={'Authorization': f'Bearer {token}', 'X-Auth-Token': '<your token>'}
headers={"Authorization": "Bearer " + token}
docker://image:tag@sha256:abc
postgresql://app_user_2024_production@db/x
api_key="YOUR_API_KEY" password='your-password' token=$(cat f)
""".strip().splitlines()


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_text_stays_as_it_is(text: str):
    assert without_secrets(text) == text


def test_a_text_without_secrets_comes_back_as_it_is_whatever_its_characters():
    for text in ("", "\ud800 alone", "\0" * 50, "🔑" * 30, "é=è", ":" * 99, "=" * 99, "@" * 99):
        assert without_secrets(text) == text


@pytest.mark.parametrize(
    "value",
    [
        ["Authorization", "Bearer abc"],
        [b"cookie", b"a=b"],
        ("X-Api-Key", "abc"),
        {"name": "Authorization", "value": "Bearer abc"},
        {"key": "X-Api-Key", "value": "hunter2", "enabled": True},
        {"header": "cookie", "value": "hunter2"},
    ],
)
def test_a_header_is_known_as_a_pair_a_list_and_an_object(value: Any):
    sealed: Any = safe([value])
    hidden = sealed[0]["value"] if isinstance(value, dict) else sealed[0][1]
    assert hidden == "[secret]"


def test_a_command_hides_what_stands_behind_an_option():
    assert safe(["mysql", "--user", "ana", "--password", "hunter2"]) == [
        "mysql", "--user", "ana", "--password", "[secret]",
    ]  # fmt: skip


def test_a_text_that_is_a_key_or_a_label_is_looked_at_too():
    key = KEYS["openai"]
    assert safe({key: 3, f"x-{'y' * 80} {key}": 4}) == {"[secret]": 3, f"x-{'y' * 80} [secret]": 4}
    assert label(f"use {key}") == "use [secret]"


def test_no_value_is_shown_as_none():
    empty = {"password": None, "token": "", "auth": False, "cookies": {}, "secrets": []}
    assert safe(empty) == empty


def test_the_description_of_a_field_is_none_of_its_values():
    described = {"type": "string", "description": "as it was given", "default": "hunter2"}
    sealed: Any = safe({"properties": {"password": described}, "required": ["password"]})
    assert sealed["properties"]["password"] == {**described, "default": "[secret]"}
    assert safe({"password": {"type": "x", "of": "hunter2"}}) == {"password": "[secret]"}


def test_a_list_of_two_names_is_no_header():
    assert safe(["password", "email"]) == ["password", "email"]
    assert safe({"name": "Ana", "value": "hunter2"}) == {"name": "Ana", "value": "hunter2"}


@pytest.mark.parametrize("where", ["text", "value", "nested", "error", "long"])
def test_no_way_into_a_capsule_passes_a_secret(where: str):
    secret = KEYS["anthropic"]
    given: Any = {
        "text": f"use {secret}",
        "value": {"note": f"use {secret}"},
        "nested": [({"a": (f"use {secret}",)},)],
        "error": ValueError(f"no such key: {secret}"),
        "long": "word " * 250 + f"use {secret}",
    }[where]
    for policy in (ContentPolicy(), ContentPolicy(redact=lambda text: text)):
        sealed = str(policy.text(given) if where in ("text", "long") else policy.value(given))
        assert secret not in sealed
        assert "[secret]" in sealed


def test_redact_sees_the_text_before_secrets_are_taken_out_and_may_not_bring_them_in():
    seen: list[str] = []

    def redact(text: str) -> str:
        seen.append(text)
        return "DB_PASSWORD=hunter2"

    assert ContentPolicy(redact=redact).text("token=abc") == "DB_PASSWORD=[secret]"
    assert seen == ["token=abc"]


HOSTILE = [
    "sk-", "sk-a-b-c-", "sk-aaaaaaaaaaaaaaa-", "eyJaaaaaaaaaaaa-", "eyJaaaaaaaaaaaa.", "password:",
    "password=a,", 'password=\\"', "password: \"", "a.", "x-", "://a:", "a@://:", "://x1.-",
    "-----BEGIN PRIVATE KEY-----",
    "--password ", "bearer ", "curl -u a",
    "identified by '", "Cookie: ", "auth: auth: ", "-eyJ",
    "redis://a:", "('token', '", "`password: `", "123456789:AA", "SG.aaaaaaaaaaaaaaaa.",
    "<password>a", "<a b=", "<password a=b>x<", "<a name='password' >", "<![CDATA[", "| password ", "-----",
    "|a|b|\n|--|--|\n", "password%3D", "%22password%22%3A%22", "password: |\n  a\n", "password:\n\n  a1b2c3\n",
    "password: >", " -p mysql", " mysql -p a", "   =",
    "docker login ", " htpasswd -b a ", "echo a | ", "'mysql', '-p",
    "set password ", "login a password ", "machine a login b password ", "jdbc:oracle:thin:a/", "a/b@", ":",
    'variable "password" {default=', "M" * 23 + ".",
]  # fmt: skip


@pytest.mark.parametrize("part", HOSTILE)
def test_no_text_takes_more_than_linear_time(part: str):
    def cost(size: int) -> float:
        text = (part * size)[
            :size
        ] + " password=1 bearer curl -- ://@ login env set </ %3d value= |--|\n"
        best = float("inf")
        for _ in range(3):
            start = time.thread_time()
            without_secrets(text)
            best = min(best, time.thread_time() - start)
        return best

    assert cost(1 << 16) < 16 * cost(1 << 13) + 0.02
