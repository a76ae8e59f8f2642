"""The table of scoring protocols for folders and files of results: those of the field, and our own."""

from collections.abc import Callable

from scoring.protocols.davis import davis, davis_unsupervised
from scoring.protocols.mots import mots
from scoring.protocols.tcovis import tcovis
from scoring.protocols.vos import sav, youtube_vos
from scoring.protocols.ytvis import ytvis
from scoring.report import Report

PROTOCOLS: dict[str, Callable[..., Report]] = {
    "tcovis": tcovis,
    "davis": davis,
    "davis_unsupervised": davis_unsupervised,
    "sav": sav,
    "youtube_vos": youtube_vos,
    "ytvis": ytvis,
    "mots": mots,
}
