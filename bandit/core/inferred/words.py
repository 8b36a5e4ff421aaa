"""Which names of columns tell what came after a decision, when it was, or who it was; in English, German and French."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NOTHING = ("na", "n/a", "nan", "null", "none", "nil", "k.a.", "missing", "#n/a", "#nv")
# what stands for no value of a number or time; of a text only "" does
MISSING = ("", "-", "--", "?", "\\N", *(write(word) for word in _NOTHING for write in (str.lower, str.upper)),
           "None", "Null", "NaN", "Nan", "N/a", "k.A.", "Missing")  # fmt: skip
YES = {"yes", "y", "ja", "j", "oui", "true", "t", "1"}
NO = {"no", "n", "nein", "non", "false", "f", "0"}
AFTER = {
    "click", "clicked", "conversion", "converted", "convert", "purchase", "purchased", "bought", "revenue", "reward",
    "rewarded", "order", "ordered", "sale", "sold", "label", "outcome", "payoff", "profit", "feedback", "response",
    "cost", "ctr",
    "klick", "geklickt", "kauf", "gekauft", "umsatz", "gewinn", "bestellung", "bestellt",
    "clic", "achat", "acheté", "vente", "vendu", "commande", "revenu",
}  # fmt: skip
WHEN = {"time", "timestamp", "ts", "date", "datetime", "when", "zeit", "datum", "wann", "heure", "quand"}
WHO = {
    "user", "visitor", "customer", "session", "subscriber", "patient", "cookie", "uid", "userid", "username", "email",
    "kunde", "kundin", "kunden", "kundennr", "kundennummer", "nutzer", "nutzerin", "benutzer", "benutzername",
    "besucher", "sitzung", "sitzungs",
    "utilisateur", "utilisatrice", "visiteur", "client", "cliente", "abonné",
}  # fmt: skip
WHOSE = {"member", "device", "account", "person", "player", "guest", "anonymous", "konto", "gerät", "compte", "membre"}
ID = {
    "id", "ids", "uuid", "guid", "hash", "key", "number", "num", "no", "nr", "nummer", "kennung", "token", "name",
    "identifiant", "numéro", "numero",
}  # fmt: skip


def after_the_fact(names: Iterable[str]) -> list[str]:
    """Names that sound like what is known only after a decision, such as clicked, order_value or netRevenue."""
    return [name for name in names if AFTER & {_singular(word) for word in words_of(name)}]


def like_times(names: Iterable[str]) -> list[str]:
    """Names that sound like when a decision was made, such as ts or created_at_date."""
    return [name for name in names if WHEN & set(words_of(name))]


def like_users(names: Iterable[str]) -> list[str]:
    """Names that sound like who it was, such as visitor, userId or Kunden-Nr; not what is known of them: user_age."""
    return [name for name in names if _who({_whole(word) for word in words_of(name)})]


def _who(words: set[str]) -> bool:
    return bool(words & WHO and words <= WHO | ID) or bool(words & WHOSE and words & ID and words <= WHO | WHOSE | ID)


def _whole(word: str) -> str:
    """A word that id is joined to, as in visitorid, without it."""
    return bare if (bare := word.removesuffix("id")) in WHO else word


def words_of(name: str) -> list[str]:
    """The words of a name in snake or camel case, in small letters."""
    parted = re.sub(r"(?<=[a-zß-ÿ])(?=[A-ZÀ-Þ])|(?<=[A-ZÀ-Þ])(?=[A-ZÀ-Þ][a-zß-ÿ])", " ", name)
    return [word.lower() for word in re.findall(r"[^\W\d_]+", parted)]


def _singular(word: str) -> str:
    return word if word in AFTER else word.removesuffix("s")
