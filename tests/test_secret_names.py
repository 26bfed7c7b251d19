"""Which names name a secret, and which only resemble one."""

from __future__ import annotations

import itertools

import pytest

from capsule_sdk.content import (
    ContentPolicy,
    safe,
)
from capsule_sdk.content.secret_names import names_secret

SECRETS = """
password passwd pwd secret client_secret api_key apikey API_KEY x-api-key authorization
Authorization Proxy-Authorization auth token access_token refresh_token id_token idToken bearer
cookie Cookie set-cookie Set-Cookie2 session_cookie private_key privateKey credential
credentials aws_secret_access_key aws_access_key_id AWS_SESSION_TOKEN openai_api_key
OPENAI_API_KEY openaiApiKey db_password dbPassword DBPassword dbpassword X-Auth-Token XAuthToken
authtoken accesstoken x-goog-api-key Ocp-Apim-Subscription-Key X-CSRFToken vertex_credentials
hf_token HF_TOKEN azure_ad_token admin_token developer_token password_hash password2
new_password password_confirmation passphrase api_keys secrets access_tokens signing_key
webhook_secret clientSecret client-secret http_auth basicAuth jwt user.password DB_PASS
otp totp pin passcode hmac_key storage_key sas OPENAI_KEY client_key cvv recovery_codes seed_phrase mnemonic
bearer_token oauth_token APIKey apiKEY auth_header tokenValue
"""

NO_SECRETS = """
max_tokens tokens_in tokens_out prompt_tokens total_tokens completion_tokens token_count tokens
author authority tokenizer authors authority_type maxTokens max_completion_tokens
reasoning_tokens cached_tokens session_tokens valid_tokens input_cost_per_token eos_token
pad_token first_token time_to_first_token next_page_token token_type token_ids key keys
prompt_hash hash value public_key cache_key primary_key session_id cookie_count passed passing
compass bypass secretary authentic authorized_by prior_authorization author_name n 1 é
pinned spin pincode sort_key foreign_key keyboard sassy password_policy tokenize detokenized monkey
"""


@pytest.mark.parametrize(
    "name",
    SECRETS.split(),
)
def test_a_name_of_a_secret_hides_its_value(name: str):
    for mode in ("full", "digest", "omit"):
        sealed = ContentPolicy(mode).value({"a": [{name: "hunter2", "b": 1}]})  # type: ignore[arg-type]
        assert sealed == {"a": [{name: "[secret]", "b": 1}]}


@pytest.mark.parametrize(
    "name",
    [*NO_SECRETS.split(), ""],
)
def test_a_name_that_only_resembles_a_secret_hides_nothing(name: str):
    assert safe({name: "hunter2"}) == {name: "hunter2"}


#: Words that a name may end with, and those that are looked at before them.
ENDS = "list map str json b64 text values new backup database 2 id key token auth pin pass_ API_KEY value x"


@pytest.mark.timeout(20)
def test_a_name_of_any_words_is_answered() -> None:
    """``x_b64_json`` once was not: the second word of its end was looked at again and again."""
    for words in itertools.product(ENDS.split(), repeat=3):
        assert isinstance(names_secret("_".join(words)), bool)
    assert not names_secret("x_b64_json")
    assert names_secret("x_token_b64_json") == names_secret("x_token_json")
