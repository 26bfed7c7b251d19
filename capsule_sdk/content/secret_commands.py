"""Secrets on command lines and in files of programs that log in: ``mysql -p…``, ``curl -u ana:…``, ``.netrc``.

Each program has short options of its own for a password; `_FLAGS` says which. The same letter is a port or a
path elsewhere, so an option is looked at only behind its program, on the same part of the line.
"""

from __future__ import annotations

import re
from typing import Final

from .secret_keys import SECRET
from .secret_names import names_secret
from .secret_values import is_nothing, is_random, is_telling

__all__ = ["flags_in", "without_logins", "without_oracle", "without_set"]

#: Programs that take a password joined to its option: `-phunter2`.
_JOINED: Final = frozenset(
    {
        "7z", "7za", "mariadb", "mariadb-dump", "mysql", "mysqladmin", "mysqlcheck", "mysqldump", "mysqlimport",
        "rar", "unrar",
    }
)  # fmt: skip
#: Programs, and the letters of the options that take a password; behind `login` those of a registry or a cloud.
_FLAGS: Final = {
    **dict.fromkeys(_JOINED, "p"),
    **dict.fromkeys(("cqlsh", "mongo", "mongodump", "mongoimport", "mongorestore", "mongosh"), "p"),
    **dict.fromkeys(("redis-cli", "valkey-cli", "keydb-cli"), "a"),
    **dict.fromkeys(("ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldapwhoami", "ldappasswd"), "w"),
    **dict.fromkeys(("sqlcmd", "bcp", "zip", "unzip", "isql", "tsql"), "P"),
    **dict.fromkeys(("curl", "lftp"), "u"),
    **dict.fromkeys(("http", "https", "ab", "xh"), "a"),
    **dict.fromkeys(("smbclient", "rpcclient"), "U"),
    "sshpass": "p",
    "login": "p",
}  # fmt: skip
#: Those that take `user:password` with one option.
_CLIENTS: Final = frozenset({"http", "https", "ab", "xh", "curl", "lftp", "smbclient", "rpcclient"})
_START: Final = r"(?:(?<![\w.-])|(?<=\\[nrt]))"  # of a word, behind an escaped end of a line too
_LINE: Final = 400  # characters of a line that are looked at in front of an option

_TOOL = re.compile(
    _START
    + r"(?:docker|podman|nerdctl|helm|oras|skopeo|buildah|crane|az|oc|cf|npm|jf|argocd|vault)\b[^\n]{0,64}?"
    r"[ ]'?(?P<login>login)\b"
    rf"|{_START}(?P<tool>{'|'.join(sorted(map(re.escape, _FLAGS), reverse=True))})(?![\w=.-])"
)
_FLAG = re.compile(
    r"""[ ]-(?P<letter>[apPuUw])(?P<gap>[ ]{0,4}=?)["']?(?P<value>(?!-)(?:(?!\\[nrt])[^\s"'|;&]){1,512})"""
)
#: The same in the repr of a list, as errors show a command: `['mysql', '-phunter2']`.
_LISTED = re.compile(
    r"""[ ]'-(?P<letter>[apPuUw])(?P<gap>(?:',[ ]')?)(?P<value>(?!-)[^\s'"\\]{1,512})"""
)
_DASHED = re.compile(r"[ ]-[-a-zA-Z]")  # what may be an option
_PARTS = re.compile(r"[\n|;&]|\\n")
_PASS_FROM = re.compile(
    rf"({_START}htpasswd[ ](?:-\w{{1,8}}[ ]){{0,4}}"
    r"-\w{0,6}b\w{0,6}[ ](?:-\w{1,8}[ ]){0,4}"
    r"[^\s-]\S{0,256}[ ][^\s|;&>]{1,128}[ ][\"']?"
    rf"|{_START}htpasswd[ ](?:-\w{{1,8}}[ ]){{0,4}}"
    r"-(?=\w{0,6}b)\w{0,6}n\w{0,6}[ ][^\s-]\S{0,128}[ ][\"']?"
    r"|[ ]-pass(?:in|out)?[ ]{1,4}[\"']?pass:)(?![$<{])[^\s\"'|;&>]{1,256}"
)
_ECHOED = re.compile(
    rf"({_START}"
    r"(?:echo|printf|printf[ ]%s|print)[ ]{1,4}(?:-n[ ])?[\"']?)(?![$<{`-])[^\s\"'|$]{1,256}"
    r"(?=[\"']?[ ]{0,4}\|[ ]{0,4}[^\n|]{0,128}"
    r"(?:--password-stdin|--passphrase-fd|\bsudo[ ]-S|\bchpasswd|\bpasswd[ ]--stdin|--with-token))"
)
_OPTION = re.compile(r"-(?<!\S-)-?([A-Za-z][\w-]{2,63})[ ]{1,32}[\"']?([^\s\"'<\[$-][^\s\"']*)")
_CURL = re.compile(
    rf"({_START}"
    r"curl\b[^\n]{0,300}?\s(?:-\w{0,4}u|--user|--proxy-user)[ =]?[\"']?[^\s:\"']{1,128}:)(?!//)[^\s\"']+"
)
_LITERAL = re.compile(r"(\s--from-literal[= ][\"']?[\w.-]{1,128}=)(?![$<{])[^\s\"']{1,512}")
#: A variable and its value with nothing but spaces between them; whether the command is one for variables.
_SET = re.compile(
    _START
    + r"(?:(?:(?P<sure>ENV|setenv|setx|set[ ]-\w{1,3})|set)[ ]{1,4}[\"']?(?P<name>[\w.-]{2,128})"
    r"|requirepass)[\"']?[ ]{1,4}[\"']?(?P<value>[^\s\"'$<{=\[](?:(?!\\[nrt])[^\s\"']){0,511})"
)
_PASSWORD = re.compile(
    r"(?:passw(?:or)?d|secret)[ \t]{1,8}(?:[0-9]{1,2}[ \t])?"
    r"(?P<value>[^\s\"'<{$](?:(?!\\[nrt])[^\s\"']){0,511})"
)
#: In front of it: a line of `.netrc`, or of a router.
_USER = re.compile(
    rf"(?P<sure>{_START}(?:machine\s{{1,8}}\S{{1,128}}|default)\s{{1,64}})?"
    r"(?:login|username|user)[ \t]{1,8}\S{1,128}\s{1,64}(?:account[ \t]\S{1,64}\s{1,64})?\Z"
)
#: The default of a variable of Terraform's.
_DEFAULT = re.compile(
    r"\bvariable\s{1,8}\"?(?P<name>[\w.-]{2,128})\"?\s{0,8}\{[^{}]{0,1024}?\bdefault\s{0,32}=\s{0,8}\""
    r"(?P<value>[^\"\n]+)"
)
_SLASHED = re.compile(r"/[^\s\"'/@]{1,128}@")
_EASY_CONNECT = re.compile(
    rf"({_START}"
    r"(?:jdbc:oracle:\w{3,8}:|(?:sqlplus|sqlldr|impdp|expdp|rman[ ]target)[ ](?:-\w{1,3}[ ]){0,3}[\"']?)"
    r"[\w$#.]{1,128}/)"
    r"""(?!/)[^\s"'/@]{1,128}(?=@)""",
    re.IGNORECASE,
)


def without_logins(text: str, small: str) -> str:
    """Return a text without what stands behind options; ``small`` is the text in small letters."""
    if "[" in small and "'-" in small:
        text = _LISTED.sub(_Flags(text), text)
    if _DASHED.search(text) is None:
        return text
    text = _FLAG.sub(_Flags(text), text)
    if "pass" in small:
        text = _PASS_FROM.sub(rf"\1{SECRET}", text)
    if "|" in small:
        text = _ECHOED.sub(rf"\1{SECRET}", text)
    if "curl" in small:
        text = _CURL.sub(rf"\1{SECRET}", text)
    if "--from-literal" in small:
        text = _LITERAL.sub(rf"\1{SECRET}", text)
    return _OPTION.sub(_option, text)


class _Flags:
    """What becomes of each short option of a text, from its first to its last."""

    __slots__ = ("end", "letters", "text", "tool")

    def __init__(self, text: str) -> None:
        self.text = text
        self.end = -1  # of the part of a line whose program is known
        self.tool = self.letters = ""

    def __call__(self, flag: re.Match[str]) -> str:
        start = flag.start()
        if start >= self.end:
            self.begin(start)
        value, letter = flag["value"], flag["letter"]
        if letter not in self.letters or is_nothing(value) or value[0] in "-<{[":
            return flag[0]
        if flag["gap"] and self.tool in _JOINED and not is_random(value):
            return flag[0]  # `mysql -p db` asks for the password
        place = flag.start("value") - start
        if self.tool in _CLIENTS:
            name, sign, password = _divided(value)
            if not sign or not password or password.startswith("//"):
                return flag[0]
            place += len(name) + 1
        return flag[0][:place] + SECRET

    def begin(self, place: int) -> None:
        """Find the program whose options begin here, and where the part of the line ends that is its own."""
        following = _PARTS.search(self.text, place + 1)
        self.end = following.start() if following else len(self.text)
        before = _PARTS.split(self.text[max(0, place - _LINE) : place + 1])[-1]
        found = _TOOL.search(before)
        self.tool = (found["login"] or found["tool"]) if found else ""
        self.letters = _FLAGS.get(self.tool, "")


def _divided(value: str) -> tuple[str, str, str]:
    """Return the user and the password of `ana:hunter2`, `ana%hunter2` or `ana,hunter2`."""
    for sign in (":", "%", ","):
        if sign in value:
            return value.partition(sign)
    return value, "", ""


def flags_in(entries: list[str]) -> list[tuple[int, int]]:
    """Return the passwords of a command that is a list: the place of each, and where in it it begins."""
    tool = next(
        (word for word in (entry.rpartition("/")[2] for entry in entries[:3]) if word in _FLAGS), ""
    )
    found: list[tuple[int, int]] = []
    for place, entry in enumerate(entries):
        if len(entry) < 2 or entry[0] != "-" or entry[1] not in _FLAGS.get(tool, ""):
            continue
        last = place + 1
        where, start = (place, 2) if len(entry) > 2 else (last, 0)
        if (
            where < len(entries)
            and not is_nothing(value := entries[where][start:])
            and value[:1] != "-"
        ):
            name, sign, password = _divided(value)
            if tool not in _CLIENTS:
                found.append((where, start))
            elif sign and password:
                found.append((where, start + len(name) + 1))
    return found


def _option(found: re.Match[str]) -> str:
    if not names_secret(found[1]) or is_nothing(found[2]):
        return found[0]
    if found[0][1] != "-" and not is_telling(found[2]):
        return found[0]  # `-password x`: one dash says less than two
    return found[0][: found.start(2) - found.start()] + SECRET


def without_set(text: str) -> str:
    """Return a text without values that a word sets: ``ENV API_KEY …``, ``login … password …``."""
    text = _PASSWORD.sub(_behind_user, _SET.sub(_set, text))
    return _DEFAULT.sub(_set, text) if "variable" in text else text


def _set(found: re.Match[str]) -> str:
    name, value = found["name"], found["value"]
    if is_nothing(value) or (name is not None and not names_secret(name)):
        return found[0]
    if found.re is _SET and not found["sure"] and not is_random(value):
        return found[0]  # set password rules
    return found[0][: found.start("value") - found.start()] + SECRET


def _behind_user(found: re.Match[str]) -> str:
    value, start = found["value"], found.start()
    user = None if is_nothing(value) else _USER.search(found.string, max(0, start - _LINE), start)
    if user is None or not (user["sure"] or is_random(value)):
        return found[0]
    return found[0][: found.start("value") - start] + SECRET


def without_oracle(text: str) -> str:
    """Return a text without the passwords of Oracle's `user/password@host`."""
    return _EASY_CONNECT.sub(rf"\1{SECRET}", text) if _SLASHED.search(text) else text
