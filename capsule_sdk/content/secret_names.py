"""Which names name a secret: `api_key`, `X-Auth-Token`, `dbPassword`, and not `max_tokens`.

A name is split into words at `-`, `_`, spaces, dots and camelCase humps; what counts is how it
*ends*. So a prefix changes nothing (`openai_api_key`), and what merely speaks about a secret is
none (`token_count`, `author`). A leaf: standard library only. Values are never
looked at; what is said of a short name is kept, since the same ones come again and again.
"""

from __future__ import annotations

import re
from functools import lru_cache

_WORDS = re.compile(r"[A-Z]+(?![a-zñ])|[A-Z]?[a-zñ]+|[0-9]+")
_LONGEST = 256  # characters of a name that are looked at, from its end
_SHORT = 64  # characters of a name of which the answer is kept, so that what is kept stays small

# Last words that say it alone, as a word: `auth` does, `author` does not.
_LAST = re.compile(
    r"auth|bearer|cookies?|cvc|cvv|jwt|mdp|mnemonic|oauth|otp|passcodes?|pin|pw|pwds?|sas|senhas?|totp"
)

# Endings of all words written as one, so that `dbpassword` and `authtoken` count too.
_ENDING = re.compile(
    r"(access|account|admin|aes|anthropic|api|application|app|auth|azure|client|cohere|consumer|deepseek|deploy|des"
    r"|encryption|gemini|groq|hmac|huggingface|license|master|mistral|fernet|functions|openai|openrouter|pinecone|private|root|secret"
    r"|sendgrid|session|shared|signing|ssh|storage|stripe|subscription|symmetric|tavily|webhook|xai)"
    r"keys?$"
    r"|(access|api|auth|bearer|refresh)tokens?$|(^id|security|session)token$"
    r"|(?<!prior)(?<!pre)authorization$"  # a permit of an insurer is not a header
    r"|accesskeyid$|connectionstring$|credentials?$|secrets?$|secretstring$|servicerolekey$"
    r"|clientassertion$|codeverifier$|samlresponse$|(azure|github|gitlab)pat$"
    r"|passwort$|kennwort$|contraseñas?$|motdepasse$|wachtwoord$|haslo$|heslo$|geheimzahl$"
    r"|pass(phrase|wd|words?)$|(recovery|backup|seed)(codes?|phrase)$"
    r"|(account|admin|amqp|app|basic|become|cert|client|db|encryption|ftp|git|http|imap|jdbc|key|keystore|ldap|login|mail|mongo"
    r"|my|mysql|oracle|pg|postgres|proxy|rabbitmq|redis|registry|require|root|sa|service|sftp|smtp|sql|ssh|store|sudo|svc"
    r"|truststore|user|vault|web|wifi)pass$"
)

# What stands before `token` where it is a piece of text, a page or a price, and not a key.
_PIECE = re.compile(
    r"bos|cached|cls|completion|continuation|end|eos|first|input|last|mask|max|min|new|next|output|pad|page|per|prompt"
    r"|reasoning|sep|special|start|stop|unk|unknown"
)

# Words behind the secret's name that still hold the secret: `password_hash`, `authTokenValue`.
_TRAILER = re.compile(
    r"confirm|confirmation|dev|encrypted|hash|header|old|pem|plain|plaintext|prod|staging|test|v|value|[0-9]+"
)
# Whose or which secret it is: `API_KEY_OPENAI`, `password_new`.
_WHOSE = re.compile(
    r"again|anthropic|aws|azure|backup|current|database|db|gcp|github|gitlab|google|live|local|mysql|new|openai|postgres"
    r"|previous|primary|production|redis|repeat|root|sandbox|secondary|slack|stripe"
)
# How it is held: `api_key_list`. Behind `token` a piece of a text: `token_str`.
_HELD = re.compile(
    r"array|b64|base|bytes|decrypted|encoded|json|list|map|raw|set|str|string|text|values"
)
# Words that mean something else with one of these behind them: `auth_list`, `pin_map`, `cookie_text`.
_ALSO = frozenset({"auth", "bearer", "cookie", "cookies", "oauth", "pin", "sas", "authorization"})
# Beyond the letters of which names are made elsewhere.
_FOREIGN = re.compile(
    r"парол[ья]$|密码$|密碼$|パスワード$|비밀번호$|lösenord(et)?$|şifre$|hasło$", re.IGNORECASE
)


def names_secret(name: str) -> bool:
    """Tell whether a value under this name must never be sealed.

    >>> names_secret("X-Auth-Token"), names_secret("max_tokens")
    (True, False)
    """
    return _kept(name) if type(name) is str and len(name) < _SHORT else _names_secret(name)


def _names_secret(name: str) -> bool:
    end = name[-_LONGEST:]
    words = [word.lower() for word in _WORDS.findall(end)]
    held = False
    while words and _is_trailer(words):
        last = words.pop()
        held = held or _HELD.fullmatch(last) is not None
    if words and words[-1] == "token":
        if held:
            return _ENDING.search("".join(words)) is not None
        return len(words) == 1 or not _PIECE.fullmatch(words[-2])
    if words and (_LAST.fullmatch(words[-1]) or _ENDING.search("".join(words))):
        return not (held and words[-1] in _ALSO)
    return end.endswith("pass_") or (not end.isascii() and _FOREIGN.search(end) is not None)


def _is_trailer(words: list[str]) -> bool:
    last = words[-1]
    if _TRAILER.fullmatch(last):
        return True
    return len(words) > 1 and bool(_WHOSE.fullmatch(last) or _HELD.fullmatch(last))


_kept = lru_cache(maxsize=4096)(_names_secret)
